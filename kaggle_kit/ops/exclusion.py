"""MIMIC exclusion: what a shared adapter owes to the kind of text that it is tried on.

    exclusion.check(config)
    first, second = exclusion.plan_phases(config, encoded)       # token-matched between the arms
    phases = exclusion.phases(config, network, (first, second), quick)

The arm `full` trains the shared adapter on all tasks, `excluded` on `experiment.kept` alone. Both then
train a private adapter, fusion and head on each task of `experiment.mimic`, from the same start and by
the same steps. Fixed: tokens of the first phase in total, every step of the second, ranks, seed, data.
Not fixed, because it is the question: which tasks the tokens of the first phase come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data.encode import EncodedTask
from kaggle_kit.data.plan import StepPlan
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.ops import wiring
from kaggle_kit.ops.sessions import Phase

FULL, EXCLUDED = "full", "excluded"
SHARED, OWN = "shared", "own"  # the phases


def check(config: RunConfig) -> None:
    """Raises ConfigError unless the tasks are those of both lists and the epochs alone say how long."""
    mimic, kept = (config.experiment.get(key) or [] for key in ("mimic", "kept"))
    if not mimic or not kept:
        raise ConfigError(
            "experiment.mimic and experiment.kept name the tasks; set experiment=mimic_exclusion"
        )
    if set(config.tasks) != {*mimic, *kept}:
        listed = ",".join([*mimic, *kept])
        raise ConfigError(f"tasks are {', '.join(config.tasks)}; both arms need exactly --task {listed}")
    if config.training.max_steps is not None:
        raise ConfigError(
            "training.max_steps would end the arms at different points; leave it empty, set training.epochs"
        )


def only_mimic(config: RunConfig) -> RunConfig:
    """The configuration with the MIMIC tasks alone: what the second phase trains and the page scores."""
    return replace(config, tasks={name: config.tasks[name] for name in config.experiment["mimic"]})


def plan_phases(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> tuple[StepPlan, StepPlan]:
    """The plans of both phases of the run's arm, each half of the epochs.

    The first phase of `excluded` has the tokens of that of `full`, to the token; the second phase is
    the same in both: the second half of what a run on the MIMIC tasks alone would read.
    """
    first, second = wiring.HALVES
    shared = wiring.plan_training(config, encoded, first)
    if config.experiment["arm"] == EXCLUDED:
        tokens = sum(shared.tokens.values())
        targeted = replace(config, training=replace(config.training, target_tokens=tokens))
        kept = {name: encoded[name] for name in config.experiment["kept"]}
        shared = wiring.plan_training(targeted, kept)  # the target ends it, not a part of the epochs
    own = {name: encoded[name] for name in config.experiment["mimic"]}
    return shared, wiring.plan_training(config, own, second)


def phases(
    config: RunConfig,
    network: MultiTaskModel,
    plans: tuple[StepPlan, StepPlan],
    quick: Callable[[], Mapping[str, float]] | None = None,
) -> list[Phase]:
    """The two phases; `quick` watches the second, whose weights are scored.

    The heads of the MIMIC tasks, which the first phase of `full` has trained and that of `excluded` has
    not, begin the second as they were built, so that only the shared adapter tells the arms apart.
    """
    mimic = config.experiment["mimic"]
    built = {task: _copied(network.heads[task].state_dict()) for task in mimic}

    def adapt() -> None:
        for task, state in built.items():
            network.heads[task].load_state_dict(state)
        network.adapt(config.strategy.adapt_shared, mimic)

    shared, own = plans
    return [
        Phase(shared, name=SHARED, prepare=lambda: network.pretrain_shared(shared.tasks)),
        Phase(own, quick, name=OWN, prepare=adapt),
    ]


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
