"""Training in sessions: each goes on exactly where the last one ended, however it ended.

    keeper = CheckpointCallback(SessionClock(limit_hours=11.5))
    trainer = MultiTaskTrainer(..., callbacks=[*study_callbacks(run, quick, curve), keeper])
    end = train_session(trainer, checkpoints, keeper)
    end.paused, end.message

Resuming is the library's own path (`train(resume_from_checkpoint=…)`: it reads the trainer state and
skips the plan's first items); only what it loads, and how it saves, is replaced.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from transformers import TrainerControl, TrainerState

from kaggle_kit.core.runtime import logger
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.checkpoint import CheckpointError, CheckpointManager
from kaggle_kit.training.session import EVALUATION, SAVE, STEP, SessionClock, StopSignals
from kaggle_kit.training.state import (
    TrainingState,
    capture,
    restore_optimizer,
    restore_parameters,
    restore_random,
)


class CheckpointCallback(StudyCallback):
    """Decides when to save, and when the session is over; stands last in the trainer's list.

    It saves every `every` steps, at a new best dev score, at the last step, at the session's deadline
    and on SIGTERM or SIGINT. The library saves after all callbacks have seen the step and after any
    evaluation, so nothing of a step is lost or done twice.
    """

    def __init__(self, clock: SessionClock | None = None, every: int = 200) -> None:
        self.clock = clock or SessionClock()
        self.signals = StopSignals()
        self.every = every
        self.ended = False  # training is over, as opposed to the session
        self.pause: str | None = None  # why the session ends before training does
        self.saved_step: int | None = None
        self.failures: list[str] = []  # checkpoints that could not be written
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._begun = self._stepped = 0.0
        self._saving: tuple[int, Future[float]] | None = None  # step, seconds that its save will have taken

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start timing the step."""
        self._begun = self.clock.now()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the step's seconds to the clock's durations."""
        self._stepped = self.clock.now()
        self.clock.durations[STEP].append(self._stepped - self._begun)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Decide whether this step is saved, and whether the session ends after it."""
        if self.trainer.checkpoints is None:  # trained without a session
            return
        if {"quick_evaluation", "development"} & self.trainer.record.keys():
            self.clock.durations[EVALUATION].append(self.clock.now() - self._stepped)
        self.ended = control.should_training_stop or state.global_step >= state.max_steps
        if not self.ended:
            self.pause = self._reason()
            control.should_training_stop = self.pause is not None
        due = state.global_step % self.every == 0
        if self.ended or self.pause or due or self._at_best(state.global_step):
            control.should_save = True

    def save(self) -> None:
        """Copy the state, and go on training while a thread writes it.

        The session's last checkpoint is waited for. One that cannot be written is logged and costs
        nothing else.
        """
        self.finish_save()
        begun, checkpoints = self.clock.now(), self.trainer.checkpoints
        state = capture(self.trainer, ended=self.ended)
        best = self._at_best(state.step)

        def write() -> float:
            checkpoints.save(state, best=best)
            return self.clock.now() - begun

        self._saving = state.step, self._writer.submit(write)
        if self.ended or self.pause:
            self.finish_save()

    def finish_save(self) -> None:
        """Wait for the save under way, if there is one, and take down how it ended."""
        if self._saving is None:
            return
        (step, future), self._saving = self._saving, None
        try:
            self.clock.durations[SAVE].append(future.result())
            self.saved_step = step
        except CheckpointError as error:
            self.failures.append(str(error))
            logger.warning("%s", error)

    def state(self) -> dict[str, Any]:
        """Return the clock's state: seconds of all sessions, and recent durations."""
        return self.clock.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up the seconds and durations of earlier sessions."""
        self.clock.load_state(state)

    def summary(self) -> dict[str, Any]:
        """Return the seconds of all sessions, and every checkpoint that could not be written."""
        return {"session_seconds": self.clock.total_seconds, "failures": self.failures}

    def _reason(self) -> str | None:
        limit = f"the session's limit of {self.clock.limit_seconds / 3600:g} h"
        return self.signals.received or (limit if self.clock.should_stop() else None)

    def _at_best(self, step: int) -> bool:
        callbacks = self.trainer.callback_handler.callbacks
        return any(getattr(callback, "best_step", None) == step for callback in callbacks)


class ResumableMixin:
    """The checkpoint seams of the library's trainer: `class MultiTaskTrainer(ResumableMixin, Trainer)`.

    Stock resume cannot load two active adapters, its saves are not atomic, and it unpickles.
    """

    checkpoints: CheckpointManager | None = None
    keeper: CheckpointCallback
    resumed: TrainingState | None = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.keeper.save()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.resumed is None:
            raise CheckpointError("no state was read for this checkpoint; resume a run by train_session()")
        restore_parameters(self, self.resumed)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.resumed is not None:
            restore_optimizer(self, self.resumed)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Leave it as `restore_optimizer` set it; the library would unpickle a file."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """The library calls this when the first item after the checkpoint has been fetched."""
        if self.resumed is not None:
            restore_random(self, self.resumed)
            self.resumed = None  # over a GiB at full size


@dataclass(frozen=True)
class SessionEnd:
    """How a session ended: with the training (`reason` is None), or before it."""

    step: int
    steps: int
    resumed_from: int
    skipped: tuple[str, ...]  # damaged checkpoints, and what is wrong with them
    reason: str | None
    saved_step: int | None

    @property
    def paused(self) -> bool:
        """Whether the session ended before the training did."""
        return self.reason is not None

    @property
    def message(self) -> str:
        """What happened, and what to do next."""
        if not self.paused:
            return f"trained to step {self.step} of {self.steps}"
        return (
            f"paused at step {self.step} of {self.steps} by {self.reason}; the newest checkpoint is of step "
            f"{self.saved_step}. Run this page on the same run folder (--resume FOLDER) to go on"
        )


def train_session(trainer: Any, checkpoints: CheckpointManager, keeper: CheckpointCallback) -> SessionEnd:
    """Train from the newest whole checkpoint, or from the start, to the end of the run or of the session.

    RunFolderError where another process trains into the folder, or where the configuration, the corpora
    or the plan are not those of the checkpoint.
    """
    trainer.checkpoints, trainer.keeper = checkpoints, keeper
    with checkpoints, keeper.signals:
        path, trainer.resumed, skipped = checkpoints.newest()
        ended = trainer.resumed is not None and trainer.resumed.ended
        begun = trainer.resumed.step if trainer.resumed else 0
        if not ended:  # else later phases may have logged more
            checkpoints.rewind_logs(trainer.resumed.logged_step if trainer.resumed else trainer.tokens.step)
        try:
            if ended:
                _restore_ended(trainer)
            elif path is None:
                trainer.train()
            else:
                logger.info("going on from %s", path.name)
                trainer.train(resume_from_checkpoint=str(path))
        finally:
            keeper.finish_save()
    trainer.resumed = None
    step, steps = trainer.state.global_step, trainer.args.max_steps
    saved = begun if keeper.saved_step is None else keeper.saved_step
    return SessionEnd(step, steps, begun, skipped, keeper.pause, saved)


def _restore_ended(trainer: Any) -> None:
    """Restore a run that died after its training: its last state, without another step."""
    trainer.create_optimizer_and_scheduler(num_training_steps=trainer.args.max_steps)
    for attribute in ("optimizer", "lr_scheduler"):
        setattr(trainer.callback_handler, attribute, getattr(trainer, attribute))
    trainer.state = TrainerState(**trainer.resumed.documents["trainer_state"])
    for restore in (restore_parameters, restore_optimizer, restore_random):
        restore(trainer, trainer.resumed)
    held = {"model": trainer.model, "optimizer": trainer.optimizer}
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, StudyCallback):  # stock ones, such as a progress bar, have not begun
            callback.on_train_end(trainer.args, trainer.state, trainer.control, **held)
