"""One session of a run as one call: resume or fresh → auto-batch → smoke gate → train, phase by phase.

    session = run_session(config, run, network, loaded, encoded, corpora, [Phase(plan, quick)])
    print(session)
    if session.finished: ...        # evaluate and record; else the run is paused and goes on another time

A page that is paused ends normally: what stands after the training is skipped, the run folder holds
`paused.json` with what to do next, and the same page takes up the run where its checkpoint left it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.experiment import rounds
from kaggle_kit.experiment.token_budget import repack, settle_batch
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.resume import SessionEnd
from kaggle_kit.training.trainer import MultiTaskTrainer


@dataclass(frozen=True)
class Phase:
    """Steps that are trained in one go. `prepare` says what in the model learns; most runs have one phase."""

    plan: StepPlan
    quick: Callable[[], Mapping[str, float]] | None = None
    name: str = "training"
    prepare: Callable[[], Any] = lambda: None
    watches: Sequence[StudyCallback] = ()  # beside those of every run, such as one that measures
    left_out: Sequence[str] = ()  # tasks that the run by its design neither trains nor evaluates


@dataclass(frozen=True)
class Session:
    """What a session came to. `trainers` are those of the phases that began, the last one last."""

    end: SessionEnd
    trainers: tuple[MultiTaskTrainer, ...]
    notes: tuple[str, ...]
    seconds: float  # in training steps, over all sessions of the run

    @property
    def finished(self) -> bool:
        """Whether all phases are trained, so that the run can be evaluated and recorded."""
        return not self.end.paused

    @property
    def tokens(self) -> dict[str, int]:
        """Real tokens per task, over all sessions and phases so far."""
        return self.trainers[-1].tokens.total

    def __str__(self) -> str:
        rate = sum(self.tokens.values()) / self.seconds if self.seconds else 0.0
        each = ", ".join(f"{task} {tokens:,}" for task, tokens in self.tokens.items())
        cost = f"{self.seconds:.0f} s, {rate:,.0f} real tokens/s; tokens per task: {each}"
        return "\n".join([*self.notes, self.end.message, cost])


def run_session(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
    corpora: Mapping[str, Corpus],
    phases: Sequence[Phase],
) -> Session:
    """Train every phase as far as this session reaches; where it does not, mark the run `paused`.

    Phases that an earlier session has trained are restored, not repeated. Raises SmokeGateError with the
    reason and the curve where the gate stays shut, AutoBatchError where no batch fits the GPU, and what
    `assert_everything_learns` raises.
    """
    run.go_on()
    config, batch = settle_batch(config, run, network, loaded, encoded)
    assert_everything_learns(network, phases)
    notes = [batch]
    trainers: list[MultiTaskTrainer] = []
    budget = sum(sum(phase.plan.tokens.values()) for phase in phases)
    for number, phase in enumerate(phases):
        phase.prepare()
        if number == 0:
            learning = {task: encoded[task] for task in phase.plan.tasks}
            notes.append(pass_gate(config, run, network, loaded, learning))
        before = trainers[-1] if trainers else None
        plan = repack(phase.plan, encoded, config.training.token_budget)
        more = {"after": before, "budget": budget}
        trainer = rounds.open_trainer(config, run, network, loaded, plan, encoded, phase.quick, **more)
        trainers.append(trainer)
        for watch in phase.watches:
            watch.bind(trainer)
            trainer.add_callback(watch)
        end = rounds.train(config, run, trainer, corpora, phase=phase.name)
        notes += [f"checkpoint skipped: {damaged}" for damaged in end.skipped]
        if end.paused:
            _mark(run, phase, end)
            break
    return Session(end, tuple(trainers), tuple(notes), rounds.training_seconds(run))


def assert_everything_learns(network: MultiTaskModel, phases: Sequence[Phase]) -> None:
    """ConfigError naming each adapter, fusion, cross-level module or head that no phase gives a gradient.

    It would be evaluated as it was built, unless all its tasks are `left_out`. Leaves the network prepared
    for the last phase.
    """
    groups, learnt, tokens = network.parameter_groups(), set(), Counter()
    left_out = {task for phase in phases for task in phase.left_out}
    for phase in phases:
        phase.prepare()
        tokens.update(phase.plan.tokens)
        reached = network.reached_by(task for task, count in phase.plan.tokens.items() if count)
        learnt |= {name for name in reached if any(p.requires_grad for p in groups[name].parameters)}
    planned = ", ".join(f"{task} ({count:,} tokens)" for task, count in tokens.items())
    problems = [
        f"{name}, which {', '.join(group.tasks) or 'no task'} would train, gets no gradient in any phase of "
        f"a plan for {planned}; train a task that reaches it, raise training.epochs or training.max_steps "
        "until each task has tokens, or choose a strategy without it"
        for name, group in groups.items()
        if name not in learnt and not left_out.issuperset(group.tasks)
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def pass_gate(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
) -> str:
    """The smoke gate, once per run: what it showed is kept in `gate.json`. Returns one line on it."""
    if run.gate_json.is_file():
        kept = json.loads(run.gate_json.read_text(encoding="utf-8"))
        return f"smoke gate: passed in an earlier session, loss down to {kept['ratio']:.0%}"
    gate = rounds.smoke_gate(config, run, network, loaded, encoded)
    kept = {"ratio": gate.ratio, "curve": gate.curve, "skipped": gate.skipped, "seconds": gate.seconds}
    write_atomically(run.gate_json, to_json(kept, indent=2) + "\n")
    return f"smoke gate open: loss down to {gate.ratio:.0%} in {len(gate.curve)} steps, all put back"


def _mark(run: RunFolder, phase: Phase, end: SessionEnd) -> None:
    facts = {"step": end.step, "steps": end.steps, "saved_step": end.saved_step, "reason": end.reason}
    run.pause(phase=phase.name, **facts, message=end.message)
