"""Which finished runs a page without training may compare: a multi-task run and its single-task ones.

folders = comparable_arms(config, runs_dir)         # refuses, naming the field, what is not comparable
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_kit.core.artifacts import RunFolder, left_out_of
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.folders import find_run, find_runs
from kaggle_kit.core.runtime import in_workspace, logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.ops.run import run_page

CONTROL = "token_controlled"  # the page of the single-task arm where no runs are named
TOLERANCE = 0.05  # of the active parameters


def comparable_arms(config: RunConfig, runs_dir: Path | str) -> list[RunFolder]:
    """The runs that `experiment.runs` names by their ids, below `runs_dir` or in attached outputs.

    Where none is named: the newest token-controlled run of the task, model, profile and seed, with the
    multi-task run whose control it is; on practice data both are trained if they are not there yet.
    Raises ConfigError, naming the field, for runs that are not comparable.
    """
    folder, named = in_workspace(runs_dir), config.experiment.get("runs") or []
    found = [find_run(folder, str(name)) for name in named] or _newest_pair(config, folder)
    assert_comparable(config, [run.manifest() for run in found])
    return found


def assert_comparable(config: RunConfig, manifests: Sequence[Mapping[str, Any]]) -> None:
    """Raises ConfigError, naming the field, unless the runs differ in the tasks they learnt from alone.

    Fixed: model, profile, the task's data, how weights were chosen, tuning, and active parameters
    within 5 %. There must be a multi-task run and a single-task one.
    """
    (task,) = config.tasks
    for manifest in manifests:
        if task not in manifest["tasks"]:
            raise ConfigError(
                f"tasks of {manifest['run_id']} is {manifest['tasks']}: {task} is none of them; "
                f"name other runs by experiment.runs, or one of these tasks by --task"
            )
    sizes = [len(manifest["tasks"]) for manifest in manifests]
    if min(sizes) != 1 or max(sizes) < 2:
        raise ConfigError(
            f"experiment.runs names runs on {sizes} tasks; it takes a multi-task run and a single-task one, "
            f"such as the control that the page {CONTROL} trains"
        )
    wanted = {"model": config.model.name, "profile": config.profile.name}
    fixed = {
        **{key: lambda m, key=key: m[key] for key in (*wanted, "selection", "tuning")},
        f"data_hashes.{task}": lambda m: m["data_hashes"][task],
        f"left_out.{task}": lambda m: left_out_of(m, task),
    }
    first = manifests[0]
    for manifest in manifests:
        for field, of in fixed.items():
            expected, who = (
                (wanted[field], "what was asked for") if field in wanted else (of(first), first["run_id"])
            )
            if of(manifest) != expected:
                here = f"{of(manifest)} in {manifest['run_id']}"
                raise ConfigError(
                    f"{field} is {here} and {expected} in {who}: not comparable; name runs that agree on it "
                    "by experiment.runs, or train one of them again"
                )
    counts = {manifest["run_id"]: manifest["active_parameters"][task] for manifest in manifests}
    if max(counts.values()) / min(counts.values()) > 1 + TOLERANCE:
        listed = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
        raise ConfigError(
            f"active_parameters.{task} is {listed}: more than {TOLERANCE:.0%} apart; take the single-task "
            f"run of the page {CONTROL}, which matches them"
        )


def _newest_pair(config: RunConfig, folder: Path) -> list[RunFolder]:
    (task,) = config.tasks
    names = {"model": config.model.name, "profile": config.profile.name, "seed": config.seed}
    control = _newest_control(folder, task, names)
    if control is None and config.profile.corpora != "practice":
        options = " ".join(f"--{name} {value}" for name, value in {"task": task, **names}.items())
        raise ConfigError(
            f"experiment.runs is empty and {folder} holds no pair for {task}; train a multi-task run, then "
            f"`python -m kaggle_kit run {CONTROL} {options} experiment={CONTROL} experiment.twin=ITS_ID`"
        )
    if control is None:
        logger.info("no experiment.runs: training a pair by the page %s first", CONTROL)
        overrides = [f"experiment={CONTROL}", f"training.epochs={config.training.epochs}"]
        control = RunFolder.open(run_page(CONTROL, task=task, overrides=overrides, runs_dir=folder, **names))
    return [find_run(folder, control.manifest()["twin"]["of"]), control]


def _newest_control(folder: Path, task: str, names: Mapping[str, Any]) -> RunFolder | None:
    wanted = {"page": CONTROL, "tasks": [task], **names}
    finished = find_runs(folder)
    runs = [run for run in finished if all(run.facts[key] == wanted[key] for key in wanted)]
    there = {run.run_id for run in finished}
    pairs = [run for run in runs if run.manifest()["twin"]["of"] in there]
    return max(pairs, key=lambda run: run.manifest()["finished"], default=None)
