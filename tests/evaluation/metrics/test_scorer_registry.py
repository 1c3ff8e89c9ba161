"""Scorers by name, tasks that share one, and folders of cases."""

from __future__ import annotations

import pytest

from kaggle_kit.core.errors import ConfigError, ScoreError
from kaggle_kit.evaluation.metrics import SCORERS, TASKS, score, score_cases


def test_a_task_is_scored_by_the_scorer_that_it_shares(tmp_path):
    (tmp_path / "d.ann").write_text("T1\tA 0 2\tx\n")
    assert score("ddi2013", tmp_path, tmp_path) == score("brat", tmp_path, tmp_path)
    assert set(TASKS.values()) <= set(SCORERS)


def test_an_unknown_scorer_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'semeval2014t7'"):
        score("semeval2014task7", tmp_path, tmp_path)


def test_cases_are_the_folders_that_hold_both_sides(tmp_path):
    for case in ("one", "two"):
        for side in ("gold", "pred"):
            (tmp_path / case / side).mkdir(parents=True)
            (tmp_path / case / side / "d.ann").write_text("T1\tA 0 2\tx\n")
    (tmp_path / "notes").mkdir()
    assert {case: figures["entity_f1"] for case, figures in score_cases("brat", tmp_path).items()} == {
        "one": 1.0,
        "two": 1.0,
    }


def test_missing_folders_and_folders_without_cases_are_named(tmp_path):
    with pytest.raises(ScoreError, match="nothing there"):
        score("brat", tmp_path, tmp_path / "nowhere")
    with pytest.raises(ScoreError, match="no case"):
        score_cases("brat", tmp_path)
