"""One session of a run: resume or start → token budget → smoke gate → train, phase by phase.

    session = run_session(exp)
    print(session)
    if session.finished: ...        # evaluate and record; else the run is paused and goes on another time

A page that is paused ends normally: what stands after the training is skipped, the run folder holds
`paused.json` with what to do next, and the same page takes up the run where its checkpoint left it.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.plan import StepPlan, steps_per_epoch
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import identifying_values
from kaggle_kit.core.errors import ConfigError, refuse
from kaggle_kit.core.records import write_json
from kaggle_kit.experiment.controlled_variables import scores_best_development
from kaggle_kit.experiment.preparation import plan_settings
from kaggle_kit.experiment.scoring import SELECTION
from kaggle_kit.experiment.token_budget import find_token_budget, repack
from kaggle_kit.experiment.tracking import follow
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.arguments import training_arguments
from kaggle_kit.training.callbacks import study_callbacks
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.callbacks.development import DevelopmentCallback, QuickEvaluationCallback
from kaggle_kit.training.checkpoint import CheckpointManager, identity
from kaggle_kit.training.losses import EqualLoss, UncertaintyWeightedLoss
from kaggle_kit.training.resume import CheckpointCallback, SessionEnd, train_session
from kaggle_kit.training.smoke import SmokeReport, smoke_plan, smoke_test
from kaggle_kit.training.trainer import MultiTaskTrainer, TokenControlledTrainer

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

Evaluation = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Phase:
    """Steps that are trained in one go. `prepare` says what in the model learns; most runs have one phase."""

    plan: StepPlan
    quick: Evaluation | None = None
    name: str = "training"
    prepare: Callable[[], Any] = lambda: None
    watches: Sequence[StudyCallback] = ()  # beside those of every run, such as one that measures
    curve: bool = True  # whether a development curve is kept where nothing is chosen by it
    left_out: Sequence[str] = ()  # tasks that the run by its design neither trains nor evaluates


@dataclass(frozen=True)
class Session:
    """The end of a session. `trainers` are those of the phases that began, the last one last."""

    end: SessionEnd
    trainers: tuple[MultiTaskTrainer, ...]
    notes: tuple[str, ...]
    seconds: float  # in training steps, over all sessions of the run

    @property
    def finished(self) -> bool:
        """Return whether all phases are trained, so that the run can be evaluated and recorded."""
        return not self.end.paused

    @property
    def tokens(self) -> dict[str, int]:
        """Return the real tokens per task, over all sessions and phases so far."""
        return self.trainers[-1].tokens.total

    def __str__(self) -> str:
        rate = sum(self.tokens.values()) / self.seconds if self.seconds else 0.0
        each = ", ".join(f"{task} {tokens:,}" for task, tokens in self.tokens.items())
        cost = f"{self.seconds:.0f} s, {rate:,.0f} real tokens/s; tokens per task: {each}"
        return "\n".join([*self.notes, self.end.message, cost])


def run_session(exp: "Experiment") -> Session:
    """Train every phase as far as this session reaches; where it does not, mark the run `paused`.

    Phases that an earlier session has trained are restored, not repeated. Raises SmokeGateError with the
    reason and the curve where the gate stays shut, AutoBatchError where no batch fits the GPU, and what
    `assert_everything_learns` raises.
    """
    run = exp.run
    if exp.config.training.full_finetuning and not exp.model.lora.whole:
        why = "training.full_finetuning=true, and the model of this page has adapters"
        raise ConfigError(f"{why}; leave it out, or take page encoder_baselines")
    run.go_on()
    notes = [find_token_budget(exp)]
    assert_everything_learns(exp.model, exp.phases)
    trainers: list[MultiTaskTrainer] = []
    tokens = sum(sum(phase.plan.tokens.values()) for phase in exp.phases)
    for phase in exp.phases:
        phase.prepare()
        if not trainers:
            notes.append(pass_gate(exp, phase.plan.tasks))
        plan = repack(phase.plan, exp.encoded, exp.config.training.token_budget)
        after = trainers[-1] if trainers else None
        trainers.append(open_trainer(exp, plan, phase.quick, after, tokens if phase.curve else None))
        for watch in phase.watches:
            watch.bind(trainers[-1])
            trainers[-1].add_callback(watch)
        end = train(exp, trainers[-1], phase.name)
        notes += [f"checkpoint skipped: {damaged}" for damaged in end.skipped]
        if end.paused:
            facts = {"step": end.step, "steps": end.steps, "saved_step": end.saved_step, "reason": end.reason}
            run.pause(phase=phase.name, **facts, message=end.message)
            break
    return Session(end, tuple(trainers), tuple(notes), training_seconds(run))


def assert_everything_learns(model: MultiTaskModel, phases: Sequence[Phase]) -> None:
    """Raise ConfigError naming each adapter, fusion, cross-level module or head that no phase trains.

    It would be evaluated as it was built, unless all its tasks are `left_out`. Leaves the model prepared
    for the last phase.
    """
    groups, learnt, tokens = model.parameter_groups(), set[str](), Counter[str]()
    left_out = {task for phase in phases for task in phase.left_out}
    for phase in phases:
        phase.prepare()
        tokens.update(phase.plan.tokens)
        reached = model.reached_by(task for task, count in phase.plan.tokens.items() if count)
        learnt |= {name for name in reached if any(p.requires_grad for p in groups[name].parameters)}
    planned = ", ".join(f"{task} ({count:,} tokens)" for task, count in tokens.items())
    then = "raise training.epochs or training.max_steps until each task has tokens"
    refuse(
        f"{name}, which {', '.join(group.tasks) or 'no task'} would train, gets no gradient in any phase of "
        f"a plan for {planned}; train a task that reaches it, {then}, or choose a strategy without it"
        for name, group in groups.items()
        if name not in learnt and not left_out.issuperset(group.tasks)
    )


def pass_gate(exp: "Experiment", tasks: Sequence[str]) -> str:
    """Take the smoke test once per run and keep what it showed in `gate.json`. Returns one line on it."""
    path = exp.run.gate_json
    if path.is_file():
        ratio = json.loads(path.read_text(encoding="utf-8"))["ratio"]
        return f"smoke gate: passed in an earlier session, loss down to {ratio:.0%}"
    gate = smoke_gate(exp, tasks)
    record = {"ratio": gate.ratio, "curve": gate.curve, "skipped": gate.skipped, "seconds": gate.seconds}
    write_json(path, record)
    return f"smoke gate open: loss down to {gate.ratio:.0%} in {len(gate.curve)} steps, all put back"


def smoke_gate(exp: "Experiment", tasks: Sequence[str]) -> SmokeReport:
    """Train 50 steps on 100 samples of `tasks`, which must halve the loss; the model is as before afterwards.

    Raises SmokeGateError with the reason and the curve, which stops the page.
    """
    encoded = {task: exp.encoded[task] for task in tasks}

    def trainer(steps: int, samples: int) -> MultiTaskTrainer:
        settings, seed = plan_settings(exp.config), exp.config.seed
        plan = smoke_plan(encoded, settings, seed, steps=steps, samples=samples)
        return make_trainer(exp, PlanDataset(plan, encoded))

    return smoke_test(trainer)


def open_trainer(
    exp: "Experiment",
    plan: StepPlan,
    quick: Evaluation | None = None,
    after: MultiTaskTrainer | None = None,
    tokens: int | None = None,
) -> MultiTaskTrainer:
    """Return the trainer of a plan with everything that a run logs and keeps.

    With `quick`, the model is evaluated every `training.quick_every` steps. Under `training.selection`
    `best` its best weights are put back at the end, and it stops early after `training.patience` epochs
    without a better one; under `last` it does neither; there, with `tokens`, those of all phases, the
    development curve is kept. A second phase is opened `after` the first: steps and tokens are counted on.
    """
    settings, watch, curve = exp.config.training, None, None
    if quick is not None:
        best = settings.selection == "best"
        epoch = steps_per_epoch(plan, {name: task.groups for name, task in exp.encoded.items()})
        patience = settings.patience * epoch if best and settings.patience else None
        every = settings.quick_every
        watch = QuickEvaluationCallback(quick, SELECTION, every=every, patience=patience, keeps_best=best)
        if tokens and not best:
            begun = sum(after.tokens.total.values()) if after else 0
            keeps = scores_best_development(exp.config)
            curve = DevelopmentCallback(quick, SELECTION, budget=tokens, begun=begun, keeps_best=keeps)
    callbacks = study_callbacks(exp.run, watch, curve)
    follow(exp.config, exp.run, callbacks)
    checkpointer = CheckpointCallback(every=settings.checkpoint_every)
    steps = PlanDataset(plan, exp.encoded)
    trainer = make_trainer(exp, steps, [*callbacks, checkpointer], settings.target_tokens)
    if after is not None:
        trainer.tokens.load_state_dict(after.tokens.state_dict())
    return trainer


def make_trainer(
    exp: "Experiment",
    steps: PlanDataset,
    callbacks: Sequence[TrainerCallback] = (),
    target_tokens: int | None = None,
) -> MultiTaskTrainer:
    """Return a trainer under the strategy's loss weights and gradient surgery.

    Without `callbacks` it logs nothing and keeps nothing. With `target_tokens` it refuses a plan of other
    than so many tokens.
    """
    config, decisions = exp.config, exp.backbone.decisions
    place, device = exp.run.checkpoints, decisions["device"].value
    half, count = decisions["dtype"].value == "float16", len(steps)
    arguments = training_arguments(
        config.training, steps=count, output_dir=place, seed=config.seed, device=device, float16=half
    )
    tasks, rate = list(config.tasks), config.training.uncertainty_learning_rate
    uncertain = config.strategy.loss_weighting == "uncertainty"
    weighting = UncertaintyWeightedLoss(tasks, rate) if uncertain else EqualLoss(tasks)
    seed = config.seed if config.strategy.pcgrad else None
    kind: Callable[..., MultiTaskTrainer] = MultiTaskTrainer
    if target_tokens is not None:
        (task,) = steps.plan.tasks
        kind = partial(TokenControlledTrainer, target_tokens=target_tokens, task=task)
    surgery = {
        "pcgrad_seed": seed,
        "conflict_resolution": config.strategy.conflict_resolution,
        "gradient_per": config.strategy.gradient_per,
    }
    return kind(exp.model, steps, arguments, callbacks=callbacks, weighting=weighting, **surgery)


def train(exp: "Experiment", trainer: MultiTaskTrainer, phase: str = "training") -> SessionEnd:
    """Train to the end, from the newest whole checkpoint of the phase if there is one.

    Checkpoints are written every `training.checkpoint_every` steps, at a new best, at the session's
    deadline and when the process is told to stop. In the last two cases `end.paused` is true.
    """
    run = exp.run
    (checkpointer,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, CheckpointCallback))
    config, plan = identifying_values(exp.config), trainer.train_dataset.plan.sha256
    inputs = identity(config=config, corpus=exp.data_hashes, plan=plan)
    logs = (run.events_jsonl, run.tokens_jsonl)
    facts = {"batch": json.loads(run.batch_json.read_text())} if run.batch_json.is_file() else {}
    checkpoints = CheckpointManager(run.checkpoints / phase, identity=inputs, logs=logs, facts=facts)
    return train_session(trainer, checkpoints, checkpointer)


def training_seconds(run: RunFolder) -> float:
    """Return the seconds in training steps, over all sessions and phases of the run."""
    return sum(event["seconds"] for event in run.events())
