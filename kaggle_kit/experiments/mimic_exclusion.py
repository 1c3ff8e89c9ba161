"""MIMIC exclusion: what a shared adapter owes to the kind of text that it is evaluated on.

    exclusion.check(config)
    first, second = exclusion.plan_phases(config, encoded)       # equal tokens and steps in every arm
    phases = exclusion.phases(config, network, (first, second), quick)

In the first phase the strategy (S3a or S3b) learns as it always does, to as many tokens and steps: `full`
on all tasks, `excluded` on `experiment.kept` alone, `leave_target_out` on all tasks but `experiment.target`.
In the second phase what is private learns the tasks of `experiment.mimic` on the frozen shared adapter, from
its initial values and by the same steps in every arm. Private are, of S3a, a task's adapter, fusion and head;
of S3b, which has no private adapters, the level adapters that the MIMIC tasks reach, and their heads.

`full` minus `excluded` is the specification's comparison. `full` has seen the evaluated task's own data in
both phases, which by itself may explain a difference: `full` minus `leave_target_out` is that part, and
`leave_target_out` minus `excluded` what the other clinical notes give.

Fixed: steps and tokens of the first phase, every step of the second, ranks, seed, data. Not fixed, because it
is the question: which tasks the tokens of the first phase come from. Models are built for the same tasks in
every arm, so that all start from the same values.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.errors import refuse
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import preparation
from kaggle_kit.experiment.training_session import Phase
from kaggle_kit.models.adapters import SHARED
from kaggle_kit.models.multitask import MultiTaskModel

FULL, EXCLUDED, LEAVE_TARGET_OUT = ARMS = ("full", "excluded", "leave_target_out")
KINDS = ("shared_private", "hierarchical")
FIRST, SECOND = "shared", "own"  # the phases
SOURCES = {"MIMIC notes": "mimic", "other clinical notes": "clinical", "public text": "kept"}


def check(config: RunConfig) -> RunConfig:
    """Return the configuration of one arm. ConfigError for a strategy, task, arm or target of none."""
    refuse(_problems(config))
    return config


def _problems(config: RunConfig) -> Iterator[str]:
    experiment, training, kind = config.experiment, config.training, config.strategy.kind
    if not experiment.get("mimic") or not experiment.get("kept"):
        yield "experiment.mimic and experiment.kept name the tasks; set experiment=mimic_exclusion"
        return
    listed = [task for key in SOURCES.values() for task in experiment.get(key) or ()]
    arm, target, mimic = experiment["arm"], experiment.get("target"), ", ".join(experiment["mimic"])
    if kind not in KINDS:
        why = "it has no adapter beside the shared one, or has phases of its own"
        yield f"strategy.kind is {kind!r}: {why}; allowed: {', '.join(KINDS)}"
    if sorted(config.tasks) != sorted(listed):
        yield f"tasks are {', '.join(config.tasks)}; every arm needs exactly --task {','.join(listed)}"
    if training.max_steps is not None:
        yield "training.max_steps would end the arms at different points; leave it empty, set training.epochs"
    if training.selection != "last":
        yield f"training.selection={training.selection}: each arm would choose its own step; set last"
    if arm == LEAVE_TARGET_OUT and target not in experiment["mimic"]:
        yield f"experiment.target={target}: name the task to leave out, of {mimic}"
    if arm != LEAVE_TARGET_OUT and target is not None:
        does = f"experiment.target={target} does nothing in arm {arm}"
        yield f"{does}; leave it out, or set experiment.arm={LEAVE_TARGET_OUT}"


def every_arm(config: RunConfig) -> dict[str, RunConfig]:
    """Name -> configuration of each arm of the comparison that a run belongs to, one per left-out task."""
    targets = {f"without {task}": (LEAVE_TARGET_OUT, task) for task in config.experiment["mimic"]}
    arms = {FULL: (FULL, None), **targets, EXCLUDED: (EXCLUDED, None)}
    return {
        name: replace(config, experiment=config.experiment | {"arm": arm, "target": target})
        for name, (arm, target) in arms.items()
    }


def by_source(config: RunConfig, tokens: Mapping[str, int]) -> dict[str, int]:
    """Kind of text (`SOURCES`) -> tokens, from tokens by task."""
    return {
        source: sum(tokens.get(task, 0) for task in config.experiment.get(key) or ())
        for source, key in SOURCES.items()
    }


def first_tasks(config: RunConfig) -> list[str]:
    """The tasks that the first phase of the run's arm trains, in the order of the run."""
    arm = config.experiment["arm"]
    if arm == EXCLUDED:
        return [task for task in config.tasks if task in config.experiment["kept"]]
    return [task for task in config.tasks if arm == FULL or task != config.experiment["target"]]


def evaluated(config: RunConfig) -> RunConfig:
    """The configuration with the evaluated tasks alone: the MIMIC tasks, or the target that was left out.

    `leave_target_out` has learnt the other MIMIC task in both phases, so that one's score answers nothing.
    """
    experiment = config.experiment
    names = [experiment["target"]] if experiment["arm"] == LEAVE_TARGET_OUT else experiment["mimic"]
    return replace(config, tasks={name: config.tasks[name] for name in names})


def plan_phases(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> tuple[StepPlan, StepPlan]:
    """The plans of both phases of the run's arm, each half of the epochs.

    The first phase has the steps and tokens of that of `full`, both exactly, along the same course; the
    second phase is the same in all arms: the second half of what a run on the MIMIC tasks alone would read.
    """
    own = {name: encoded[name] for name in config.experiment["mimic"]}
    return plan_first(config, encoded), preparation.plan_training(config, own, preparation.HALVES[1])


def plan_first(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> StepPlan:
    """The plan of the first phase: of any arm, from the token files of all tasks."""
    shared = preparation.plan_training(config, encoded, preparation.HALVES[0])
    if len(tasks := first_tasks(config)) == len(encoded):
        return shared
    targets = StepTargets.of(sum(step.tokens.values()) for step in shared.steps)
    return preparation.plan_training(config, {name: encoded[name] for name in tasks}, targets=targets)


def phases(
    config: RunConfig,
    network: MultiTaskModel,
    plans: tuple[StepPlan, StepPlan],
    quick: Callable[[], Mapping[str, float]] | None = None,
) -> list[Phase]:
    """The two phases; `quick` watches the second, whose weights are scored.

    What learns in the second phase begins it as it was built, whether or not the first has trained it, so
    that only what is frozen by then, and above all the shared adapter, tells the arms apart.
    """
    mimic = config.experiment["mimic"]
    private = [name for name in network.reached_by(mimic) if name != SHARED]
    groups = network.parameter_groups()
    built = [(p, p.detach().clone()) for name in private for p in groups[name].parameters]

    def adapt() -> None:
        with torch.no_grad():
            for parameter, value in built:
                parameter.copy_(value)
        network.train_only(private)

    shared, own = plans
    learning = network.reached_by(shared.tasks)
    left_out = [task for task in config.tasks if task not in (*shared.tasks, *own.tasks)]
    return [
        Phase(shared, name=FIRST, prepare=lambda: network.train_only(learning), left_out=left_out),
        Phase(own, quick, name=SECOND, prepare=adapt),
    ]
