"""Interrupted and resumed equals uninterrupted, bit for bit: weights, losses, tokens, the best step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.training import checkpoint
from kaggle_kit.training.arguments import training_arguments
from kaggle_kit.training.callbacks import QuickEvaluationCallback, StudyCallback, study_callbacks
from kaggle_kit.training.checkpoint import CheckpointManager, identity, list_checkpoints
from kaggle_kit.training.losses import UncertaintyWeightedLoss
from kaggle_kit.training.resume import CheckpointCallback, train_session
from kaggle_kit.training.session import SessionClock
from kaggle_kit.training.trainer import MultiTaskTrainer

TASKS = ("semeval2014t7", "semeval2017t3")
Trainer = MultiTaskTrainer


class Death(Exception):
    """Stands for whatever ends a process without notice."""


class DieAt(StudyCallback):
    """Raises at the beginning of a step, once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise Death


class StopAt(StudyCallback):
    """Asks for a stop by signal at the end of a step."""

    def __init__(self, keeper: CheckpointCallback, step: int) -> None:
        self.keeper, self.step = keeper, step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            self.keeper.signals.received = "SIGTERM"


class SlowSteps(StudyCallback):
    """A clock that only optimiser steps move."""

    def __init__(self, seconds: float) -> None:
        self.time, self.seconds = 0.0, seconds

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.time += self.seconds


class Run:
    """One run folder; every `open` builds model, plan and trainer afresh, as a new process does."""

    def __init__(
        self, study, folder: Path, *, tasks=TASKS, pcgrad=False, uncertainty=False, head_rate=None, every=3
    ) -> None:
        self.study, self.tasks, self.every = study, tasks, every
        self.pcgrad, self.uncertainty, self.head_rate = pcgrad, uncertainty, head_rate
        self.folder = RunFolder.create(folder, "seed: 1\n", "00", {})
        self.plan = study.plan(*tasks, effective_batch=4)
        self.scores = iter(())

    def open(self, *extra, quick_scores=None, curve=None, stop_at=None, learning_rate=3e-3):
        torch.manual_seed(99)  # whatever a fresh process happens to start from
        made = training_arguments(
            self.study.config.training,
            steps=len(self.plan),
            output_dir=self.folder.path,
            seed=5,
            device="cpu",
        )
        made.disable_tqdm, made.learning_rate, made.head_learning_rate = True, learning_rate, self.head_rate
        self.keeper = CheckpointCallback(SessionClock(started=0.0, now=lambda: 1.0), every=self.every)
        self.quick = None
        if quick_scores:
            self.quick = QuickEvaluationCallback(self._score, "score", every=2, patience=6)
            self.quick_scores = quick_scores
        late = [StopAt(self.keeper, stop_at)] if stop_at else []
        callbacks = [*study_callbacks(self.folder, self.quick, curve), *extra, *late, self.keeper]
        weighting = UncertaintyWeightedLoss(self.tasks) if self.uncertainty else None
        self.trainer = Trainer(
            self.study.model(*self.tasks, dropout=0.1),
            PlanDataset(self.plan, self.study.encoded),
            made,
            callbacks,
            weighting=weighting,
            pcgrad_seed=4 if self.pcgrad else None,
        )
        return self

    def _score(self) -> dict[str, float]:
        return {"score": self.quick_scores[self.trainer.state.global_step // 2 - 1]}

    def train(self, seed="1", allow=()):
        manager = CheckpointManager(
            self.folder.checkpoints,
            identity=identity(config={"seed": seed}, plan=self.plan.sha256),
            logs=(self.folder.events_jsonl, self.folder.tokens_jsonl),
            allow=allow,
        )
        return train_session(self.trainer, manager, self.keeper)

    def outcome(self):
        moved = {id(p) for g in self.trainer.optimizer.param_groups for p in g["params"]}
        weights = {n: p.detach().clone() for n, p in self.trainer.model.named_parameters() if id(p) in moved}
        weights |= {n: p.detach().clone() for n, p in self.trainer.weighting.named_parameters()}
        events = [
            {
                name: event.get(name)
                for name in ("step", "losses", "grad_norm", "learning_rate", "quick_evaluation")
            }
            for event in self.folder.events()
        ]
        history = [line["loss"] for line in self.trainer.state.log_history if "loss" in line]
        return weights, events, self.folder.tokens(), history


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory) -> Run:
    """Two tasks, trained without an interruption."""
    run = Run(study, tmp_path_factory.mktemp("whole") / "run").open()
    run.train()
    return run


def assert_same(run: Run, other: Run) -> None:
    weights, *logs = run.outcome()
    other_weights, *other_logs = other.outcome()
    assert logs == other_logs
    assert weights.keys() == other_weights.keys() and len(weights) > 5
    unequal = [name for name in weights if not torch.equal(weights[name], other_weights[name])]
    assert unequal == []


@pytest.mark.parametrize(
    "options",
    [{"tasks": TASKS[:1]}, {"pcgrad": True}, {"uncertainty": True, "head_rate": 1e-3}],
    ids=["single task", "two tasks, PCGrad", "two tasks, uncertainty, a rate for the heads"],
)
def test_a_run_that_dies_twice_equals_one_that_never_did(study, tmp_path, options):
    whole = Run(study, tmp_path / "whole", **options).open()
    whole.train()
    steps = len(whole.plan)
    run = Run(study, tmp_path / "dying", **options)
    with pytest.raises(Death):
        run.open(DieAt(2)).train()  # before the first checkpoint
    with pytest.raises(Death):
        run.open(DieAt(4)).train()  # one step beyond the checkpoint of step 3
    end = run.open().train()
    assert (end.resumed_from, end.step, end.paused) == (3, steps, False)
    assert_same(run, whole)
    assert run.trainer.tokens.total == whole.plan.tokens


def test_a_stop_signal_saves_at_the_end_of_the_step_and_the_next_session_goes_on(study, whole, tmp_path):
    run = Run(study, tmp_path / "stopped")
    end = run.open(stop_at=4).train()
    assert end.paused and end.reason == "SIGTERM" and end.saved_step == 4
    assert "paused at step 4" in end.message and "same run folder" in end.message
    assert run.open().train().resumed_from == 4
    assert_same(run, whole)


def test_the_best_step_and_early_stopping_survive_a_death(study, tmp_path):
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]  # best at step 2, stopped at step 8
    whole = Run(study, tmp_path / "whole").open(quick_scores=scores)
    whole.train()
    assert (whole.quick.best_step, whole.quick.stopped_at) == (2, 8)
    run = Run(study, tmp_path / "dying")
    with pytest.raises(Death):
        run.open(DieAt(7), quick_scores=scores).train()
    run.open(quick_scores=scores).train()
    assert (run.quick.best_step, run.quick.stopped_at) == (2, 8)
    assert_same(run, whole)  # the best weights are back in both


def test_a_run_that_died_after_its_training_takes_no_step_more(study, tmp_path):
    scores = [0.5, 0.4, 0.3, 0.2, 0.1]
    run = Run(study, tmp_path / "run").open(quick_scores=scores)
    run.train()
    weights, events, tokens, _ = run.outcome()
    end = run.open(DieAt(8), quick_scores=scores).train()
    assert (end.resumed_from, end.step, end.paused) == (8, 8, False)
    again, events_again, tokens_again, _ = run.outcome()
    assert events_again == events and tokens_again == tokens
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(study, whole, tmp_path):
    run = Run(study, tmp_path / "damaged")
    with pytest.raises(Death):
        run.open(DieAt(7)).train()
    newest, older = list_checkpoints(run.folder.checkpoints)
    assert (newest.name, older.name) == ("step-000006", "step-000003")
    with (newest / "optimizer.safetensors").open("r+b") as file:
        file.truncate(1000)
    end = run.open().train()
    assert end.resumed_from == 3
    assert (
        end.skipped
        == tuple(s for s in end.skipped if "step-000006/optimizer.safetensors: 1000 bytes" in s)
        != ()
    )
    assert_same(run, whole)


def test_a_full_disk_costs_the_new_checkpoint_only(study, whole, tmp_path, monkeypatch):
    run = Run(study, tmp_path / "full")
    with pytest.raises(Death):
        run.open(DieAt(4)).train()
    usage = checkpoint.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=5_000))
        with pytest.raises(Death):
            run.open(DieAt(8)).train()
    assert [path.name for path in list_checkpoints(run.folder.checkpoints)] == ["step-000003"]
    assert len(run.keeper.failures) == 1 and "5,000 are free" in run.keeper.failures[0]
    assert run.open().train().resumed_from == 3
    assert_same(run, whole)


def test_another_configuration_refuses_to_resume_unless_allowed_by_name(study, tmp_path):
    run = Run(study, tmp_path / "run")
    with pytest.raises(Death):
        run.open(DieAt(4)).train(seed="1")
    with pytest.raises(RunFolderError, match="config.seed: 1 in the checkpoint, 2 now"):
        run.open().train(seed="2")
    assert run.open().train(seed="2", allow=["config.s*"]).resumed_from == 3


def test_the_deadline_pauses_the_run_before_it_passes(study, tmp_path):
    slow = SlowSteps(seconds=500.0)
    run = Run(study, tmp_path / "run").open(slow)
    run.keeper.clock = SessionClock(limit_hours=1.0, started=0.0, now=lambda: slow.time)
    end = run.train()
    # after step 5, 2,500 s and two steps of 500 s still fit into 3,600 s; after step 6 they do not
    assert (end.step, end.saved_step, end.reason) == (6, 6, "the session's limit of 1 h")
