"""What the plain sum follows, how tasks are drawn and weighed, with values worked by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from kaggle_kit.experiment import show
from kaggle_kit.training.conflicts import followed
from kaggle_kit.training.losses import EqualLoss, UncertaintyWeightedLoss
from tests.experiment.show_of import displayed  # noqa: F401

GRAM = torch.tensor(
    [[9.0, -3.0], [-3.0, 2.0]], dtype=torch.float64
)  # of (3, 0) and (-1, 1): the sum is (2, 1)


def trained(weighting):
    events = [{"step": n, "losses": {"ner": 4.0 / n, "qa": 0.25}} for n in (1, 2, 4)]
    return SimpleNamespace(
        session=SimpleNamespace(trainers=[SimpleNamespace(weighting=weighting)]),
        config=SimpleNamespace(tasks={"ner": None, "qa": None}),
        run=SimpleNamespace(events=lambda: events),
    )


def test_the_plain_sum_follows_the_longer_of_two_gradients_that_disagree():
    along, shares = followed(GRAM)
    assert along.tolist() == pytest.approx([2 / math.sqrt(5), -1 / math.sqrt(10)])
    assert shares.tolist() == pytest.approx([6 / 5, -1 / 5])


def test_the_table_of_the_plain_sum_tells_cosines_and_shares(displayed):  # noqa: F811
    show.plain_sum(GRAM, ["ner", "qa"])
    assert "+120.0%" in displayed[0] and "-20.0%" in displayed[0] and "-0.707" in displayed[0]


def test_sampling_shows_a_figure_and_a_share_for_each_task_and_way(displayed):  # noqa: F811
    show.sampling({"proportional": {"ner": 0.8, "qa": 0.2}, "T = 2": {"ner": 2 / 3, "qa": 1 / 3}})
    assert displayed[0] == "Image" and "66.7%" in displayed[1] and "80.0%" in displayed[1]


def test_learnt_weights_stand_beside_those_at_which_the_last_loss_would_settle(displayed):  # noqa: F811
    weighting = UncertaintyWeightedLoss(["ner", "qa"])
    weighting.log_variances["qa"].data.fill_(math.log(0.25))
    found = show.loss_weights(trained(weighting))
    assert list(found["weight at the start"]) == [0.5, 0.5]
    assert list(found["weight now"]) == pytest.approx([0.5, 2.0])
    assert list(found["where it would settle"]) == pytest.approx([0.5, 2.0])
    assert "learnt as" in displayed[0]


def test_equal_weights_are_one_over_the_number_of_tasks_and_settle_nowhere(displayed):  # noqa: F811
    found = show.loss_weights(trained(EqualLoss(["ner", "qa"])))
    assert list(found["weight now"]) == [0.5, 0.5] and found["where it would settle"].isna().all()
    assert "not learnt" in displayed[0]
