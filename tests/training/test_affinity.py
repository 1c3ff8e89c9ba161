"""The lookahead affinity: closed-form values on quadratic losses, and no trace left in a training."""

from __future__ import annotations

import math

import pytest
import torch

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.affinity import AffinityCallback, lookahead
from kaggle_kit.training.gradients import shared_parameters

NER, RANKING = "semeval2014t7", "semeval2017t3"


def test_one_lookahead_on_quadratic_losses_is_the_closed_form():
    # L_t = ½ (θ - t)², so a step of size s on a moves θ to θ - s (θ - a)
    theta, goals, step = (
        torch.tensor([2.0], dtype=torch.float64, requires_grad=True),
        {"a": 1.0, "b": -3.0},
        0.1,
    )
    found = lookahead(lambda task: 0.5 * (theta - goals[task]).square().sum(), goals, [theta], step)
    for task, goal in goals.items():
        moved = 2.0 - step * (2.0 - goal)
        for other, its_goal in goals.items():
            expected = 1 - (moved - its_goal) ** 2 / (2.0 - its_goal) ** 2
            assert found[task][other] == pytest.approx(expected, rel=1e-12)
    assert theta.item() == 2.0 and theta.grad is None


def test_opposed_tasks_harm_and_orthogonal_ones_leave_each_other_alone():
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    goals = {"east": (1.0, 0.0), "west": (-1.0, 0.0), "north": (0.0, 1.0)}

    def loss(task: str) -> torch.Tensor:
        return 0.5 * (theta - torch.tensor(goals[task], dtype=torch.float64)).square().sum()

    found = lookahead(loss, goals, [theta], 0.1)
    assert found["east"]["east"] == pytest.approx(1 - 0.9**2)
    assert found["east"]["west"] == pytest.approx(1 - 1.1**2)
    assert found["east"]["north"] == pytest.approx(-0.01)  # second order alone: 1 - (1 + 0.1²)


def test_a_task_whose_loss_is_zero_has_nothing_to_gain():
    theta = torch.ones(1, requires_grad=True)
    losses = {"solved": lambda: 0.0 * theta.sum(), "open": lambda: theta.square().sum()}
    found = lookahead(lambda task: losses[task](), losses, [theta], 0.1)
    assert math.isnan(found["open"]["solved"]) and found["open"]["open"] > 0


def trained(study, folder, watched: bool, **settings):
    model = study.model(NER, RANKING, dropout=0.1)
    trainer = study.trainer(model, study.plan(NER, RANKING, null_every=2), folder, options={"pcgrad_seed": 1})
    watch = AffinityCallback(probes(study), **({"every": 3, "step_size": 0.1} | settings))
    if watched:
        watch.bind(trainer)
        trainer.add_callback(watch)
    torch.manual_seed(5)
    trainer.train()
    return watch, {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def probes(study):
    return {task: PlanDataset(study.plan(task, effective_batch=8), study.encoded) for task in (NER, RANKING)}


def test_measuring_leaves_no_trace_in_the_training(study, tmp_path):
    watch, watched = trained(study, tmp_path / "watched", watched=True)
    _, alone = trained(study, tmp_path / "alone", watched=False)
    assert watch.points >= 2
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def test_a_step_on_a_task_lowers_its_own_loss(study, tmp_path):
    watch, _ = trained(study, tmp_path, watched=True, step_size=0.02)
    assert watch.affinity[NER][NER] > 0 and watch.affinity[RANKING][RANKING] > 0
    assert watch.affinity[NER][NER] > abs(watch.affinity[RANKING][NER])
    assert watch.summary() == {"points": watch.points, "affinity": watch.affinity}


def test_what_was_measured_so_far_goes_through_a_checkpoint(study):
    before = AffinityCallback(probes(study), every=4, step_size=0.1)
    assert math.isnan(before.affinity[NER][RANKING])
    before.points, before.sums[NER][RANKING] = 2, 0.5
    after = AffinityCallback(probes(study), every=4, step_size=0.1)
    after.load_state(before.state())
    assert after.affinity[NER][RANKING] == 0.25


def test_only_what_several_tasks_touch_is_moved(study):
    model = study.model(NER, RANKING)
    shared = {id(parameter) for parameter in shared_parameters(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in shared]
    assert names and all("lora_" in name for name in names)
    with pytest.raises(ConfigError, match="no parameter is shared"):
        shared_parameters(study.model(NER))


@pytest.mark.parametrize("wrong", [{"every": 0}, {"step_size": 0.0}])
def test_a_measurement_without_step_or_interval_is_refused(wrong):
    with pytest.raises(ConfigError, match="allowed: above 0, and at least 1"):
        AffinityCallback({}, **({"every": 1, "step_size": 0.1} | wrong))
