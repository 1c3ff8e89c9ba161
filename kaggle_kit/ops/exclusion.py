"""MIMIC exclusion: what a shared adapter owes to the kind of text that it is tried on.

    exclusion.check(config)
    first, second = exclusion.plan_phases(config, encoded)       # token-matched between the arms
    phases = exclusion.phases(config, network, (first, second), quick)
    print(exclusion.against_other_arm(run, runs_dir))

The arm `full` trains the shared adapter on all tasks, `excluded` on `experiment.kept` alone. Both then
train a private adapter, fusion and head on each task of `experiment.mimic`, from the same start and by
the same steps. Fixed: tokens of the first phase in total, every step of the second, ranks, seed, data.
Not fixed, because it is the question: which tasks the tokens of the first phase come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_kit.core.artifacts import RunFolder, left_out_of
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace
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


def against_other_arm(run: RunFolder, runs_dir: Path | str) -> str:
    """Each MIMIC task's primary metric, full minus excluded, where the other arm has finished too.

    The newest finished run of the same configuration but for the arm counts. Raises RunFolderError,
    naming the field, where the two differ in what the comparison holds fixed.
    """
    config = run.config()
    others = [other for other in find_runs(in_workspace(runs_dir)) if _is_other_arm(other.config(), config)]
    if not others:
        return "the other arm has no finished run of this configuration yet: nothing to compare"
    other = max(others, key=lambda found: found.manifest()["finished"])
    assert_comparable(run.manifest(), other.manifest())
    arms = {folder.config()["experiment"]["arm"]: folder for folder in (run, other)}
    lines = [f"{arms[FULL].run_id} against {arms[EXCLUDED].run_id}, one seed"]
    for task in config["experiment"]["mimic"]:
        name = config["tasks"][task]["primary_metric"]
        for split in config["profile"]["report"]:
            full, excluded = (_figure(arms[arm], task, name, split) for arm in (FULL, EXCLUDED))
            figures = f"{full:.4f} - {excluded:.4f} = {full - excluded:+.4f}"
            lines.append(f"{task} {split} {name}: {figures}")
    return "\n".join(lines)


def assert_comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises RunFolderError, naming the field, where two arms' manifests differ in what is held fixed.

    The steps of the second phase follow from configuration, data and seed; only their micro-batches may
    differ, by what each run's GPU held.
    """
    fixed = {
        "data_hashes": lambda m: m["data_hashes"],
        "left_out": lambda m: {task: left_out_of(m, task) for task in m["tasks"]},
        "seed": lambda m: m["seed"],
        "totals.tokens (sum)": lambda m: sum(m["totals"]["tokens"].values()),
        "active_parameters": lambda m: m["active_parameters"],
        "selection": lambda m: m["selection"],
    }
    for field, of in fixed.items():
        if of(one) != of(other):
            raise RunFolderError(
                f"{field} is {of(one)} in {one['run_id']} and {of(other)} in {other['run_id']}; "
                "run both arms with the same options on the same files"
            )


def _is_other_arm(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    arm = theirs["experiment"].get("arm")
    return arm != ours["experiment"]["arm"] and _without_arm(theirs) == _without_arm(ours)


def _without_arm(config: dict[str, Any]) -> dict[str, Any]:
    strategy = {key: value for key, value in config["strategy"].items() if key != "name"}
    experiment = {key: value for key, value in config["experiment"].items() if key != "arm"}
    return without_machine_keys(config | {"strategy": strategy, "experiment": experiment})


def _figure(run: RunFolder, task: str, name: str, split: str) -> float:
    for metric in run.metrics():
        if (metric.task, metric.name, metric.split) == (task, name, split):
            return metric.value
    raise RunFolderError(f"{run.run_id} records no {name} of {task} on {split}; run its page again")


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
