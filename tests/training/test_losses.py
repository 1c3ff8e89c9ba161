"""Loss weights: closed-form gradients, micro-batches, and what happens at the ends of the range."""

from __future__ import annotations

import math

import pytest
import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.losses import EqualLoss, UncertaintyWeightedLoss


def weight(weighting: UncertaintyWeightedLoss, task: str) -> float:
    """What the weighting makes of a loss of one, without log sigma: the slope in the loss."""
    loss = torch.tensor(1.0, requires_grad=True)
    weighting.combine(task, loss).backward()
    return loss.grad.item()


def set_log_variance(weighting: UncertaintyWeightedLoss, task: str, value: float) -> None:
    with torch.no_grad():
        weighting.log_variances[task].fill_(value)


def test_equal_weights_are_the_mean_over_the_tasks_of_the_run():
    weighting = EqualLoss(["a", "b"])
    parts = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}
    combined = sum(weighting.combine(task, loss, share=0.1) for task, loss in parts.items())
    assert combined.item() == (1.0 + 3.0) / 2
    assert EqualLoss(["b"]).combine("b", torch.tensor(3.0)).item() == 3.0


def test_an_unknown_task_is_an_error_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'ner'"):
        UncertaintyWeightedLoss(["ner"]).combine("nre", torch.tensor(1.0))


def test_uncertainty_weighting_starts_at_one_half_and_adds_log_sigma():
    weighting = UncertaintyWeightedLoss(["a"])
    assert weight(weighting, "a") == 0.5
    set_log_variance(weighting, "a", math.log(4.0))  # sigma = 2
    expected = 3.0 / (2 * 4.0) + math.log(2.0)
    assert weighting.combine("a", torch.tensor(3.0)).item() == pytest.approx(expected)


@pytest.mark.parametrize(("s", "loss"), [(0.0, 2.0), (1.5, 0.3), (-2.0, 0.1)])
def test_the_gradients_are_the_closed_form_ones(s, loss):
    weighting = UncertaintyWeightedLoss(["a", "b"])
    set_log_variance(weighting, "a", s)
    task_loss = torch.tensor(loss, requires_grad=True)
    weighting.combine("a", task_loss).backward()
    assert weighting.log_variances["a"].grad.item() == pytest.approx(0.5 - 0.5 * math.exp(-s) * loss)
    assert task_loss.grad.item() == pytest.approx(0.5 * math.exp(-s))
    assert weighting.log_variances["b"].grad is None  # absent, so the optimiser leaves it alone


def test_however_the_batch_is_cut_log_sigma_counts_once():
    whole, cut = UncertaintyWeightedLoss(["a"]), UncertaintyWeightedLoss(["a"])
    for weighting in (whole, cut):
        set_log_variance(weighting, "a", 0.7)
    whole.combine("a", torch.tensor(2.0)).backward()
    for part, share in ((0.5, 0.25), (1.5, 0.75)):
        cut.combine("a", torch.tensor(part), share).backward()
    assert cut.log_variances["a"].grad.item() == pytest.approx(
        whole.log_variances["a"].grad.item(), rel=0, abs=1e-6
    )


def train(weighting: UncertaintyWeightedLoss, loss: float, steps: int) -> None:
    optimizer = torch.optim.AdamW([weighting.parameter_group()], weight_decay=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting.combine("a", torch.tensor(loss)).backward()
        optimizer.step()


def test_training_ends_at_one_over_twice_the_loss_without_weight_decay():
    weighting = UncertaintyWeightedLoss(["a"], learning_rate=0.1)
    train(weighting, loss=0.2, steps=400)
    assert weight(weighting, "a") == pytest.approx(1 / (2 * 0.2), rel=1e-3)


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_vanishing_or_negative_loss_ends_at_the_largest_weight_allowed(loss):
    weighting = UncertaintyWeightedLoss(["a"], 0.1)
    train(weighting, loss, steps=200)
    assert weight(weighting, "a") == pytest.approx(0.5 * math.exp(4.0))


def test_a_task_at_the_end_of_the_range_comes_back_when_its_loss_grows():
    weighting = UncertaintyWeightedLoss(["a"], 0.1)
    train(weighting, loss=0.0, steps=200)
    train(weighting, loss=1.0, steps=400)
    assert weight(weighting, "a") == pytest.approx(0.5, rel=0.02)


def test_several_tasks_may_share_one_backward_pass():
    weighting = UncertaintyWeightedLoss(["a", "b"])
    loss = torch.tensor(2.0, requires_grad=True)
    sum(weighting.combine(task, loss) for task in ("a", "b", "a")).backward()
    assert loss.grad.item() == pytest.approx(1.5)
