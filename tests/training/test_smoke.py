"""The smoke gate: what opens it, what keeps it shut, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch

from kaggle_kit.batches.plan import PlanSettings
from kaggle_kit.training.smoke import SmokeGateError, SmokeReport, smoke_plan, smoke_test

NER, RANKING = "semeval2014t7", "semeval2017t3"


def report(losses, norms=None, skipped=0, leading=0) -> SmokeReport:
    steps = tuple({"ner": loss} for loss in losses)
    return SmokeReport(steps, tuple(norms or [1.0] * len(losses)), skipped, leading, 0.0)


# --- the verdict, by hand --------------------------------------------------------------------------


def test_the_first_and_last_tenth_of_the_losses_are_compared():
    seen = report([8.0] * 5 + [0.0] * 40 + [4.0] * 5)
    assert (seen.first, seen.last, seen.ratio, seen.faults) == ({"ner": 8.0}, {"ner": 4.0}, 0.5, [])


def test_each_task_is_judged_over_its_own_steps():
    steps = [{"a": 3.0, "b": 5.0}, {"a": 2.0}, {"a": 1.0}, {"b": 1.0}]
    seen = SmokeReport(tuple(steps), (1.0,) * 4, 0, 0, 0.0)
    assert (seen.first, seen.last) == ({"a": 3.0, "b": 5.0}, {"a": 1.0, "b": 1.0})
    assert seen.ratio == 0.25


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        (report([8.0] * 45 + [4.1] * 5), "fell to 51% of its start"),
        (report([8.0] * 45 + [math.nan] * 5), "fell to nan%"),
        (report([8.0, 1.0], norms=[math.inf, 1.0]), r"not finite at steps \[1\]"),
        (report([8.0] * 25 + [1.0] * 25, skipped=3), "3 of 50 steps were skipped; allowed 5%"),
    ],
)
def test_a_gate_that_stays_shut_says_why_and_shows_the_curve(seen, fault):
    with pytest.raises(SmokeGateError, match=fault) as error:
        raise SmokeGateError(seen)
    assert "Loss by step: 8, " in str(error.value)


def test_a_skipped_step_may_have_an_infinite_gradient():
    assert report([8.0] * 25 + [1.0] * 25, norms=[math.inf, *[1.0] * 49], skipped=1).faults == []


def test_steps_skipped_while_the_scale_comes_down_do_not_count():
    norms = [*[math.inf] * 6, *[1.0] * 44]
    assert report([8.0] * 25 + [1.0] * 25, norms=norms, skipped=6, leading=6).faults == []
    late = report([8.0] * 25 + [1.0] * 25, norms=norms, skipped=6, leading=3)
    assert late.faults == ["3 of 50 steps were skipped; allowed 5%"]


# --- a real gate -----------------------------------------------------------------------------------


class Gate:
    """The page's `make_trainer`, over one model."""

    def __init__(self, study, folder, *tasks, learning_rate=3e-3, dropout=0.1, **options):
        self.study, self.folder, self.tasks = study, folder, tasks
        self.model = study.model(*tasks, dropout=dropout)
        self.learning_rate, self.options = learning_rate, options
        self.trainer = None

    def __call__(self, steps, samples):
        encoded = {task: self.study.encoded[task] for task in self.tasks}
        settings = PlanSettings(effective_batch=8, token_budget=10_000)
        self.plan = smoke_plan(encoded, settings, 3, steps=steps, samples=samples)
        self.trainer = self.study.trainer(
            self.model, self.plan, self.folder, options=self.options, learning_rate=self.learning_rate
        )
        return self.trainer


def test_a_model_that_learns_opens_the_gate(study, tmp_path):
    gate = Gate(study, tmp_path, NER, RANKING)
    seen = smoke_test(gate, samples=20)
    assert len(seen.losses) == len(seen.gradient_norms) == 50
    assert seen.ratio <= 0.5
    assert gate.trainer.tokens.total == gate.plan.tokens


def test_a_model_that_cannot_learn_keeps_it_shut(study, tmp_path):
    with pytest.raises(SmokeGateError, match="must at least halve"):
        smoke_test(Gate(study, tmp_path, NER, learning_rate=0.0), steps=5, samples=20)


@pytest.mark.parametrize("learning_rate", [3e-3, 0.0], ids=["passed", "failed"])
def test_model_and_random_state_are_bit_for_bit_what_they_were(study, tmp_path, learning_rate):
    gate = Gate(study, tmp_path, NER, learning_rate=learning_rate)
    gate.model.eval()
    before = copy.deepcopy(gate.model.state_dict())
    flags = {name: p.requires_grad for name, p in gate.model.named_parameters()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        smoke_test(gate, steps=20, samples=20)
    except SmokeGateError:
        assert learning_rate == 0
    after = gate.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert flags == {name: p.requires_grad for name, p in gate.model.named_parameters()}
    assert all(p.grad is None for p in gate.model.parameters())
    assert not any(module.training for module in gate.model.modules())
    assert states[0] == random.getstate()
    assert all(np.array_equal(a, b) for a, b in zip(states[1], np.random.get_state(), strict=True))
    assert torch.equal(states[2], torch.get_rng_state())


def test_a_run_after_the_gate_equals_a_run_without_it(study, tmp_path):
    trained = []
    for smoked in (True, False):
        gate = Gate(study, tmp_path, NER)
        if smoked:
            smoke_test(gate, samples=20)
        trainer = study.trainer(gate.model, study.plan(NER), tmp_path)
        trainer.train()
        trained.append((gate.model.state_dict(), trainer.tokens.total))
    assert same(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


def test_the_plan_reads_only_the_first_sequences_divided_among_the_tasks_in_whole_groups(study):
    encoded = {task: study.encoded[task] for task in (NER, RANKING)}
    settings = PlanSettings(effective_batch=8, target_tokens=5)
    plan = smoke_plan(encoded, settings, 3, steps=50, samples=24)
    assert len(plan) == 50
    batches = [batch for step in plan.steps for batch in step.micro_batches]
    read = {task: sorted({r for b in batches if b.task == task for r in b.rows}) for task in encoded}
    assert read == {NER: list(range(12)), RANKING: list(range(20))}  # a question has ten candidates


def same(left, right) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
