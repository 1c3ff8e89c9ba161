"""What a search gave up and what its values scored, from hand-written trials."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from kaggle_kit.analysis.trials import pruning_table, value_table
from kaggle_kit.core.records import to_json
from kaggle_kit.experiment import show
from tests.experiment.show_of import displayed  # noqa: F401


def trial(number, score, rank, *reports):
    state = "pruned" if score is None else "complete"
    points = [(point, report) for point, report in enumerate(reports, 1)]
    facts = {"seconds": 2.0, "tokens": {"ner": 1000}, "values": {"strategy.rank": rank}, "reports": points}
    return {"trial": number, "state": state, "score": score, **facts}


TRIALS = [
    trial(0, 0.5, 8, 0.2, 0.4),
    trial(1, 0.9, 16, 0.6, 0.8),
    trial(2, None, 8, 0.3),
    trial(3, 0.7, 8, 0.5),
]


@pytest.fixture
def searched(tmp_path):
    (tmp_path / "trials.jsonl").write_text("".join(to_json(one) + "\n" for one in TRIALS))
    return SimpleNamespace(path=tmp_path)


def test_each_trial_is_held_against_the_median_of_the_earlier_ones_at_its_last_report(searched):
    found = pruning_table(searched)
    assert list(found["best so far"]) == [0.4, 0.8, 0.3, 0.5]
    assert math.isnan(found["median of earlier trials"][0])
    assert list(found["median of earlier trials"][1:]) == [0.4, pytest.approx(0.4), pytest.approx(0.4)]
    assert list(found["given up"]) == [False, False, True, False]


def test_a_value_has_the_scores_of_its_trials_and_those_given_up_count_as_tried(searched):
    found = value_table(searched).set_index("value")
    assert list(found.loc["8", ["trials", "to the end"]]) == [3, 2]
    assert found.loc["8", "mean score"] == pytest.approx(0.6) and found.loc["8", "best score"] == 0.7
    assert found.loc["16", "best score"] == 0.9


def test_trials_and_values_are_shown_as_a_figure_and_tables(searched, displayed):  # noqa: F811
    show.trials(searched)
    show.values_tried(searched)
    assert displayed[0] == "Image" and "0.9000" in displayed[1] and "strategy.rank" in displayed[3]


def test_the_winner_is_shown_with_the_split_that_chose_it_and_its_overrides(displayed):  # noqa: F811
    search = {"trials": 4, "split": "dev", "study": "run-1", "pruned": 1, "best_trial": 1, "score": 0.9}
    show.winner(search | {"values": {"strategy.rank": 16}}, ["strategy.rank=16", "profile.report=[test]"])
    assert "dev alone, as the best of 4 trials" in displayed[0] and "16" in displayed[0]
    assert "profile.report=[test]" in displayed[1]
