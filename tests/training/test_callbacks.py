"""What the callbacks write, warn of and stop, on planted figures and on a toy run."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.callbacks import (
    GradientConflictCallback,
    LossCallback,
    QuickEvaluationCallback,
    RunLogCallback,
    SkippedStepCallback,
    SpeedCallback,
    TokenCallback,
    study_callbacks,
    summary,
)
from kaggle_kit.training.callbacks.alarms import TrainingAlarm, loss_fault

NER, RANKING = "semeval2014t7", "semeval2017t3"


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", "", "hash", {})


def bound(callback, **trainer):
    """The callback beside a stand-in that holds what it reads of a trainer."""
    callback.bind(SimpleNamespace(**{"record": {}, "accelerator": SimpleNamespace(scaler=None)} | trainer))
    return callback


def step_end(callback, step: int, **record):
    callback.trainer.record = record
    control = SimpleNamespace(should_training_stop=False)
    callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=10_000), control)
    return control


# --- losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "start", "wrong"),
    [
        (math.nan, None, True),
        (math.inf, 2.0, True),
        (1.9, 2.0, False),  # far over the median, but not above where the task began
        (4.9, 2.0, False),  # not over ten times the median
        (5.1, 2.0, True),
        (1e6, None, False),  # nothing is known yet
    ],
)
def test_a_loss_is_faulty_when_not_finite_or_above_start_and_ten_medians(loss, start, wrong):
    assert bool(loss_fault(loss, recent=[0.4, 0.5, 9.0], start=start)) is wrong


def test_the_alarm_names_the_task_and_the_step():
    callback = bound(LossCallback(minimum=5))
    for step in range(1, 11):
        step_end(callback, step, losses={"a": 1.0, "b": 2.0})
    step_end(callback, 11, losses={"a": 1.0, "b": 21.0})
    step_end(callback, 12, losses={"a": 1.0, "b": 22.0})
    with pytest.raises(TrainingAlarm, match=r"step 13, task b: the loss is 23, over 10 times .* median 2 "):
        step_end(callback, 13, losses={"a": 1.0, "b": 23.0})


def test_a_hard_batch_now_and_then_is_no_explosion():
    callback = bound(LossCallback(minimum=5))
    for step in range(1, 60):
        step_end(callback, step, losses={"a": 50.0 if step > 5 and step % 3 else 1.0})
    assert max(callback.recent["a"]) == 1.0  # nor does it move the median
    with pytest.raises(TrainingAlarm, match="step 60, task a: the loss is nan"):
        step_end(callback, 60, losses={"a": math.nan})


def test_a_gradient_that_is_not_finite_names_its_task_unless_a_scaler_skips_the_step():
    callback = bound(LossCallback())
    with pytest.raises(TrainingAlarm, match="step 3: the gradient norm is nan .tasks: b"):
        step_end(callback, 3, losses={"a": 1.0, "b": 1.0}, grad_norm=math.nan, nonfinite=("b",))
    callback.trainer.accelerator.scaler = object()
    step_end(callback, 4, losses={"a": 1.0, "b": 1.0}, grad_norm=math.inf, nonfinite=("b",))


def test_the_alarm_remembers_across_a_resume():
    before = bound(LossCallback(minimum=5))
    for step in range(1, 8):
        step_end(before, step, losses={"a": 1.0 if step < 6 else 11.0})
    after = bound(LossCallback(minimum=5))
    after.load_state(json.loads(json.dumps(before.state())))
    with pytest.raises(TrainingAlarm, match="step 8, task a"):
        step_end(after, 8, losses={"a": 11.0})


# --- skipped steps ---------------------------------------------------------------------------------


def skipping(pattern, scale=1024.0) -> SkippedStepCallback:
    scaler = SimpleNamespace(get_scale=lambda: scale)
    callback = bound(SkippedStepCallback(minimum=100), accelerator=SimpleNamespace(scaler=scaler))
    for step, skipped in enumerate(pattern, start=1):
        callback.trainer.accelerator.optimizer_step_was_skipped = skipped
        callback.trainer.record = {}
        callback.on_optimizer_step(None, None, None)
        callback.on_step_end(None, SimpleNamespace(global_step=step), None)
    return callback


def test_up_to_five_percent_of_skipped_steps_are_the_scaler_at_work():
    callback = skipping([False] + [True] * 5 + [False] * 94)
    assert callback.trainer.record == {"skipped": 5, "loss_scale": 1024.0}
    assert callback.summary() == {"steps": 100, "skipped": 5}


def test_more_than_five_percent_of_skipped_steps_stop_the_run_with_an_explanation():
    with pytest.raises(TrainingAlarm, match="step 100: 6 of 100 steps were skipped .*loss scale 1024"):
        skipping([False] + [True] * 6 + [False] * 93)


def test_skips_while_the_scale_comes_down_at_the_start_do_not_count():
    callback = skipping([True] * 7 + [False] * 88 + [True] * 5)
    assert callback.summary() == {"steps": 100, "skipped": 12}
    assert callback.state()["leading"] == 7


def test_a_loss_scale_below_one_stops_the_run_at_once():
    with pytest.raises(TrainingAlarm, match="step 1: "):
        skipping([True], scale=0.5)


# --- conflicts -------------------------------------------------------------------------------------


def test_conflicts_are_summed_up_with_their_excess_over_those_within_a_task():
    callback = bound(GradientConflictCallback())
    within = {"a × a": [0.1], "b × b": [-0.3]}
    steps = [
        {"cosines": {"a × b": -0.5}, "halves": {**within, "a × b": [-0.1, -0.2, 0.3, -0.4]}},
        {"cosines": {"b × a": 0.3}},
        {"cosines": {"a × b": -0.1}, "components": {"a": {"ner × relations": -0.2}}},
        {"cosines": {"a × b": math.nan}, "halves": {"a × a": [math.nan]}},
    ]
    for step, report in enumerate(steps, start=1):
        step_end(callback, step, conflicts={"shared": report})
        assert "conflicts" in callback.trainer.record  # for the log
    again = GradientConflictCallback()
    again.load_state(callback.state())
    summed = again.summary()["shared"]
    assert summed["pairs"]["a × b"]["steps"] == 3  # the overflow is not counted
    assert summed["conflict_rate"] == pytest.approx(2 / 3)
    assert summed["mean_cosine"] == pytest.approx(-0.1)
    assert summed["halves"]["a × b"]["conflict_rate"] == 3 / 4
    assert summed["excess"] == summed["excess_by_pair"]["a × b"] == pytest.approx(3 / 4 - (0 + 1) / 2)
    assert summed["components"] == {
        "a: ner × relations": {"steps": 1, "conflicts": 1, "conflict_rate": 1.0, "mean_cosine": -0.2}
    }


def test_a_run_without_conflicts_has_nothing_to_say_of_them():
    callback = bound(GradientConflictCallback())
    step_end(callback, 1, losses={"a": 1.0})
    assert callback.summary() == {}


# --- speed -----------------------------------------------------------------------------------------


def test_speed_and_time_left_follow_from_the_clock_and_the_plan():
    batches = [SimpleNamespace(rows=(0, 1, 2)), SimpleNamespace(rows=(5,))]
    step = SimpleNamespace(micro_batches=batches, tokens={"a": 75, "b": 25})
    plan = SimpleNamespace(steps=[step] * 4)
    tokens = SimpleNamespace(total={"a": 0, "b": 0}, record=lambda: {"tokens": {"a": 75, "b": 25}})
    ticks = iter([10.0, 11.0, 13.0, 15.0])  # begin of training, of the step; its end; now
    callback = bound(
        SpeedCallback(clock=lambda: next(ticks)), tokens=tokens, train_dataset=SimpleNamespace(plan=plan)
    )
    callback.on_train_begin(None, None, None)
    callback.on_step_begin(None, None, None)
    tokens.total = {"a": 75, "b": 25}
    callback.on_step_end(None, SimpleNamespace(global_step=1), None)
    assert callback.trainer.record == {
        "seconds": 2.0,
        "samples_per_second": 2.0,
        "tokens_per_second": 50.0,
        "eta_seconds": 15.0,  # 5 s of wall time for 100 tokens; 300 are left
    }


# --- quick evaluation ------------------------------------------------------------------------------


class Scores:
    """An `evaluate` that draws from torch's generator and leaves the model in evaluation mode."""

    def __init__(self, values):
        self.values = iter(values)
        self.model = None

    def __call__(self):
        torch.rand(3)
        if self.model is not None:
            self.model.eval()
        return {"f1": next(self.values), "precision": 0.5}


def evaluated(study, tmp_path, callback, *more) -> torch.nn.Module:
    model = study.model(NER, dropout=0.1)
    plan = study.plan(NER, epochs=4.0, effective_batch=20)  # 8 steps
    study.trainer(model, plan, tmp_path, [callback, *more]).train()
    return model


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Keep(TrainerCallback):
    """The trained weights after each step."""

    def __init__(self):
        self.after = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.after[state.global_step] = weights(model)


def test_as_many_steps_without_a_new_best_stop_the_run_and_bring_the_best_weights_back(study, tmp_path):
    keep = Keep()
    callback = QuickEvaluationCallback(Scores([0.2, 0.6, 0.6, math.nan, 0.5, 0.9]), "f1", every=1, patience=3)
    model = evaluated(study, tmp_path, callback, keep)
    assert (callback.best_step, callback.best_score, callback.stopped_at) == (2, 0.6, 5)
    assert equal(weights(model), keep.after[2])
    assert not equal(keep.after[2], keep.after[5])


def test_without_restoring_the_last_weights_stay(study, tmp_path):
    keep = Keep()
    callback = QuickEvaluationCallback(Scores([0.6] * 9), "f1", every=1, patience=3, keeps_best=False)
    model = evaluated(study, tmp_path, callback, keep)
    assert callback.best_weights == {}
    assert equal(weights(model), keep.after[4])


def test_the_last_step_is_evaluated_whatever_the_interval(study, tmp_path):
    callback = QuickEvaluationCallback(Scores([0.1, 0.2, 0.3]), "f1", every=3)
    evaluated(study, tmp_path, callback)
    assert callback.best_step == 8
    assert callback.summary() == {"metric": "f1", "best_step": 8, "best_score": 0.3, "stopped_at": None}


def test_evaluating_changes_nothing_in_the_training(study, tmp_path):
    watched, alone = Keep(), Keep()
    callback = QuickEvaluationCallback(Scores([0.1 * n for n in range(9)]), "f1", every=2)
    evaluated(study, tmp_path, callback, watched)
    evaluated(study, tmp_path, alone)
    assert equal(watched.after[8], alone.after[8])


def test_a_metric_that_evaluate_does_not_give_is_named_with_those_it_gives(study, tmp_path):
    callback = QuickEvaluationCallback(Scores([0.1]), "F1", every=1)
    with pytest.raises(ConfigError, match="no metric 'F1' .* gives f1, precision"):
        evaluated(study, tmp_path, callback)


def test_patience_goes_on_after_a_resume():
    before = QuickEvaluationCallback(dict, "f1")
    before.best_step, before.best_score = 400, 0.5
    after = QuickEvaluationCallback(dict, "f1")
    after.load_state(json.loads(json.dumps(before.state())))
    assert (after.best_step, after.best_score) == (400, 0.5)


def test_patience_counts_steps_however_often_the_run_is_evaluated(study, tmp_path):
    callback = QuickEvaluationCallback(Scores([0.9] + [0.1] * 9), "f1", every=2, patience=5)
    evaluated(study, tmp_path, callback)  # best at 2; step 6 is 4 later, step 8 is 6 later
    assert (callback.best_step, callback.stopped_at) == (2, 8)


def test_without_a_patience_a_run_never_stops_early(study, tmp_path):
    callback = QuickEvaluationCallback(Scores([0.9] + [0.1] * 9), "f1", every=1)
    evaluated(study, tmp_path, callback)
    assert (callback.best_step, callback.stopped_at) == (1, None)


# --- the logs of a run -----------------------------------------------------------------------------


def test_a_run_leaves_one_line_per_step_in_both_logs(study, run):
    plan = study.plan(NER, RANKING)
    quick = QuickEvaluationCallback(Scores([0.1] * 9), "f1", every=5)
    callbacks = study_callbacks(run, quick)
    trainer = study.trainer(study.model(NER, RANKING), plan, run.checkpoints, callbacks)
    trainer.train()
    events, tokens = run.events(), run.tokens()
    assert [line["step"] for line in events] == [line["step"] for line in tokens]
    assert len(events) == len(tokens) == len(plan)
    assert tokens[-1]["total"] == plan.tokens
    assert [event["losses"].keys() for event in events] == [step.tokens.keys() for step in plan.steps]
    assert all(event["grad_norm"] > 0 and event["seconds"] > 0 for event in events)
    assert events[0]["learning_rate"] == pytest.approx(3e-3)  # of the step itself, not of the next one
    assert "quick_evaluation" in events[4] and "quick_evaluation" not in events[3]
    assert summary(callbacks).keys() >= {"SpeedCallback", "SkippedStepCallback", "QuickEvaluationCallback"}


def test_the_line_of_the_step_that_raised_the_alarm_is_on_disk(study, run):
    plan = study.plan(NER)
    model = study.model(NER)
    with torch.no_grad():
        next(model.heads[NER].parameters()).fill_(math.nan)
    trainer = study.trainer(model, plan, run.checkpoints, study_callbacks(run))
    with pytest.raises(TrainingAlarm, match=f"step 1, task {NER}: the loss is nan"):
        trainer.train()
    assert run.events()[0]["losses"] == {NER: None}


def test_figures_behind_the_log_are_refused_before_the_first_step(study, run):
    callbacks = [RunLogCallback(run), SpeedCallback()]
    trainer = study.trainer(study.model(NER), study.plan(NER), run.checkpoints, callbacks)
    with pytest.raises(ConfigError, match="SpeedCallback stand.* after RunLogCallback"):
        trainer.train()


def test_stock_wandb_and_progress_callbacks_run_unmodified_beside_ours(study, run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_PROJECT", "toy")
    plan = study.plan(NER)
    trainer = study.trainer(
        study.model(NER), plan, run.checkpoints, study_callbacks(run), report_to=["wandb"], disable_tqdm=False
    )
    names = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
    assert "WandbCallback" in names and ProgressCallback.__name__ in names
    trainer.train()
    assert len(run.events()) == len(plan)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_token_lines_and_state_do_not_depend_on_the_log(study, run):
    trainer = study.trainer(study.model(NER), study.plan(NER), run.checkpoints, [TokenCallback(run)])
    trainer.train()
    assert run.tokens()[-1]["total"] == trainer.tokens.total
    assert run.events() == []
