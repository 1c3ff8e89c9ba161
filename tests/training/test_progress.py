"""What a long training prints: little, whatever its number of steps."""

from __future__ import annotations

from types import SimpleNamespace

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.training.callbacks import ProgressCallback, study_callbacks
from tests.training.conftest import TASKS

STEPS, STEP_SECONDS = 360_000, 0.1  # ten hours


def test_ten_hours_of_training_print_less_than_a_quarter_of_a_megabyte():
    said: list[str] = []
    now = [0.0]
    progress = ProgressCallback(say=said.append, clock=lambda: now[0])
    record = {"losses": {"a": 0.5, "b": 0.25}, "tokens_per_second": 850.0, "eta_seconds": 35_940.0}
    progress.bind(SimpleNamespace(record=record))
    state = SimpleNamespace(global_step=0, max_steps=STEPS)
    control = SimpleNamespace(should_training_stop=False)
    progress.on_train_begin(None, state, control)
    for step in range(1, STEPS + 1):
        state.global_step, now[0] = step, step * STEP_SECONDS
        progress.on_step_end(None, state, control)
    assert said[0] == "step 1 of 360000, loss 0.75, 850 tokens/s, 9:59 h left"
    assert said[-1].startswith("step 360000 of 360000")
    assert 1000 < len(said) <= 1202
    assert sum(len(line) + len("12:00:00 INFO \n") for line in said) < 250_000


def test_a_training_draws_no_bar_and_prints_its_first_and_last_step(study, tmp_path, capfd):
    said: list[str] = []
    run = RunFolder.create(tmp_path / "run", "a: 1\n", "0123", {})
    callbacks = study_callbacks(run)
    (progress,) = (callback for callback in callbacks if isinstance(callback, ProgressCallback))
    progress.say = said.append
    plan = study.plan(*TASKS)
    trainer = study.trainer(study.model(*TASKS), plan, tmp_path, callbacks)
    capfd.readouterr()
    trainer.train()
    printed = "".join(capfd.readouterr())
    assert "\r" not in printed and "it/s" not in printed and "{'" not in printed
    steps = [line.partition(",")[0] for line in said]
    assert steps == [f"step 1 of {len(plan)}", f"step {len(plan)} of {len(plan)}"]
