"""Units of tasks: from a trivial baseline to the best published score, or declared ones."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kaggle_kit.analysis.anchors import scale, trivial_baseline
from kaggle_kit.core.config import compose, members
from kaggle_kit.core.errors import ConfigError


def task(name, *overrides):
    return asdict(compose(task=name, overrides=overrides).tasks[name])


def test_the_trivial_ranking_is_the_order_of_the_subtask_and_that_of_an_f1_is_nothing():
    assert trivial_baseline(task("semeval2017t3")) == 0.7261
    assert trivial_baseline(task("semeval2017t3", "tasks.semeval2017t3.options.subtask=B")) == 0.4185
    assert trivial_baseline(task("semeval2014t7")) == 0.0


@pytest.mark.parametrize("name", members("task"))
def test_every_task_has_a_unit_above_zero_and_says_why(name):
    found = scale(task(name), practice=False)
    assert found["unit"] > 0
    assert (found["unit"] == 1.0) == (found["published"] is None) and found["why"]


def test_a_task_without_published_score_and_practice_data_count_whole_scores():
    assert scale(task("ncbi_disease"), practice=False)["unit"] == 1.0
    assert "no published score" in scale(task("ncbi_disease"), practice=False)["why"]
    assert scale(task("semeval2017t3"), practice=True)["unit"] == 1.0


def test_a_published_best_below_the_trivial_baseline_is_refused():
    wrong = task("semeval2017t3")
    wrong["published_best"][0]["value"] = 0.7
    with pytest.raises(ConfigError, match=r"is 0.7, the trivial baseline 0.7261"):
        scale(wrong, practice=False)
