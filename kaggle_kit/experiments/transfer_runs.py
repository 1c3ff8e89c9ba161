"""Which finished runs a page without training may compare: a multi-task run and its single-task ones.

folders = comparable_arms(config, runs_dir)         # refuses, naming the field, what is not comparable
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kaggle_kit.analysis.comparability import assert_comparable
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import RunFolder, find_run, find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.core.request import name_of
from kaggle_kit.core.runtime import in_workspace, logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment.page_run import run_page

CONTROL = "token_controlled"  # the page of the single-task arm where no runs are named


def comparable_arms(config: RunConfig, runs_dir: Path | str) -> list[RunFolder]:
    """The runs that `experiment.runs` names by their ids, below `runs_dir` or in attached outputs.

    Where none is named: the newest token-controlled run of the task, model, profile and seed, with the
    multi-task run whose control it is; on practice data both are trained if they are not there yet.
    Raises what `assert_arms` raises.
    """
    folder, named = in_workspace(runs_dir), config.experiment.get("runs") or []
    found = [find_run(folder, str(name)) for name in named] or _newest_pair(config, folder)
    assert_arms(config, [Entry.of(run) for run in found])
    return found


def assert_arms(config: RunConfig, runs: Sequence[Entry]) -> None:
    """Refuse runs that are no multi-task and single-task runs of what was asked for, or not comparable.

    Raises ConfigError, and IncomparableRuns naming the field.
    """
    (task,) = config.tasks
    for run in runs:
        if task not in run["tasks"]:
            then = "name other runs by experiment.runs, or one of these tasks by --task"
            raise ConfigError(f"tasks of {run.id} is {run['tasks']}: {task} is none of them; {then}")
        for field, wanted in {"model": config.model.name, "profile": config.profile.name}.items():
            if run[field] != wanted:
                told = f"{run[field]} in {run.id}, and {wanted} was asked for; name others by experiment.runs"
                raise IncomparableRuns(field, told)
    arms = {
        "multi-task runs": [run for run in runs if len(run["tasks"]) > 1],
        "single-task runs": [run for run in runs if len(run["tasks"]) == 1],
    }
    if not all(arms.values()):
        sizes = [len(run["tasks"]) for run in runs]
        takes = f"multi-task runs and as many single-task ones, such as the controls of page {CONTROL}"
        raise ConfigError(f"experiment.runs names runs on {sizes} tasks; it takes {takes}")
    reported = [{metric.split for metric in run.run.metrics()} for run in runs]
    split = "test" if all("test" in splits for splits in reported) else "dev"  # as `Reloaded.split`
    assert_comparable("ood", arms, [task], split)


def practice_arms(runs_dir: Path | str, named: str = "", most: int = 2) -> list[RunFolder]:
    """Return runs by their ids or folders, commas between; else a practice pair, control first.

    The pair is the newest that is there, as in `comparable_arms`. ConfigError for more than `most` names.
    """
    folder = in_workspace(runs_dir)
    if named:
        if len(names := named.split(",")) > most:
            raise ConfigError(f"runs names {len(names)} runs; this page compares at most {most}")
        return [find_run(folder, name) for name in names]
    config = compose(model="tiny", task="semeval2014t7", overrides=["training.epochs=1"])
    return _newest_pair(config, folder)[::-1]


def _newest_pair(config: RunConfig, folder: Path) -> list[RunFolder]:
    (task,) = config.tasks
    profile, seed = config.profile.name, config.seed
    wanted = {"page": CONTROL, "tasks": [task], "model": config.model.name, "profile": profile, "seed": seed}
    finished = {run.run_id: run for run in find_runs(folder, damaged=[])}
    runs = [run for run in finished.values() if all(run.facts[key] == wanted[key] for key in wanted)]
    twins = [(run, run.manifest()["twin"]) for run in runs]
    pairs = [run for run, twin in twins if twin["control"] == "total" and twin["of"] in finished]
    if pairs:  # the newest sound one
        control = max(pairs, key=lambda run: run.manifest()["finished"])
    elif config.profile.corpora == "practice":
        logger.info("no experiment.runs: training a pair by the page %s first", CONTROL)
        asks = partial(run_page, CONTROL, model=name_of(config.model), task=task, profile=profile, seed=seed)
        overrides = [f"experiment={CONTROL}", f"training.epochs={config.training.epochs}"]
        control = RunFolder.open(asks(overrides=overrides, runs_dir=folder))
    else:
        named = f"--task {task} --model {config.model.name} --profile {profile} --seed {seed}"
        command = f"python -m kaggle_kit run {CONTROL} {named} experiment={CONTROL} experiment.twin=ITS_ID"
        none = f"experiment.runs is empty and {folder} holds no pair for {task}"
        raise ConfigError(f"{none}; train a multi-task run, then `{command}`")
    return [find_run(folder, control.manifest()["twin"]["of"]), control]
