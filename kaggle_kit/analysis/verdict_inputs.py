"""Finished runs as the arms of a comparison: multi-task runs, and token-controlled baselines by task.

    arms = find_arms(find_runs(Path("runs")), strategy="s3b_hierarchical")
    arms.multi_task[0].id, arms.controls["total"]["semeval2014t7"][0].id

Every multi-task run of the twinned configuration is in, whether it has twins or not: seeds that were
left out would be a choice by result. `token_parity` says whether the arms may be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, nearest
from kaggle_kit.core.records import flat

FLAGS = {"strategy": "--multi-task", "model": "--model", "tasks": "--task", "split": "--split"}
MARKS = ("smoke", "practice", "restricted")
CONTROLS = ("total", "share", "placebo")  # `verdict_rule` says what each of them rules out


@dataclass(frozen=True)
class Entry:
    """A finished run as the judge sees it: its folder, manifest and configuration."""

    run: RunFolder
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunFolder) -> Entry:
        """Raises RunFolderError for files that are not as the run left them, naming them.

        IncomparableRuns where the manifest does not say what config.yaml says.
        """
        run.verify()
        entry = cls(run, run.manifest(), without_machine_keys(run.config()))
        _assert_unedited(entry)
        return entry

    @property
    def id(self) -> str:
        """The run's name in its folder's manifest, such as the verdict and its messages use."""
        return self["run_id"]

    @property
    def seed(self) -> int:
        """The seed, by which the run is paired with those of the other arms."""
        return self["seed"]

    def __getitem__(self, field: str) -> Any:
        """A field of the manifest; refused where the run does not record it."""
        if field not in self.manifest:
            raise IncomparableRuns(field, f"{self.run.path.name} does not record it; run its page again")
        return self.manifest[field]

    @property
    def scored_tasks(self) -> list[str]:
        """The tasks that the run is scored on: all that it trains, but in a placebo one."""
        if self.manifest.get("twin", {}).get("control") != "placebo":
            return self["tasks"]
        return sorted({metric.task for metric in self.run.metrics()})

    def at_best_development(self) -> Entry | None:
        """Return the run as scored at its best development point; None where it kept no such point."""
        folder = self.run.best_development
        return replace(self, run=folder) if folder.metrics_json.is_file() else None

    def primary(self, task: str, split: str) -> Metric:
        """Return the task's primary metric on a split. IncomparableRuns unless it is there exactly once."""
        name = self.config["tasks"][task]["primary_metric"]
        metrics = [m for m in self.run.metrics() if (m.task, m.name, m.split) == (task, name, split)]
        if len(metrics) != 1:
            has = f"{self.id} reports {name} of {task} on {split!r} {len(metrics)} times"
            then = "run its page again, or name by --split one that it reports"
            raise IncomparableRuns("split", f"{has}; exactly one figure is needed: {then}")
        return metrics[0]


@dataclass(frozen=True)
class Arms:
    """One comparison. `controls`: control -> task -> its runs; every arm in the order of its seeds."""

    multi_task: Sequence[Entry]
    controls: Mapping[str, Mapping[str, Sequence[Entry]]]
    split: str

    @property
    def tasks(self) -> list[str]:
        """The tasks of the multi-task runs: the family that p values are adjusted over."""
        return self.multi_task[0]["tasks"]

    def entries(self) -> list[Entry]:
        """Return the multi-task runs, then every control run, once for each task that it is a control of."""
        controls = [runs for tasks in self.controls.values() for runs in tasks.values()]
        return [*self.multi_task, *chain.from_iterable(controls)]

    def trained_arms(self, task: str) -> dict[str, Sequence[Entry]]:
        """Return the multi-task runs and the control runs of a task, by name of the arm."""
        own = {name: tasks[task] for name, tasks in self.controls.items() if task in tasks}
        return {"multi_task": self.multi_task, **own}

    def scored_arms(self, task: str) -> dict[str, Sequence[Entry]]:
        """Return those of `trained_arms`, and the total control at its best point, if all have one."""
        arms = self.trained_arms(task)
        best = [point for entry in arms["total"] if (point := entry.at_best_development())]
        return arms | ({"best_development": best} if len(best) == len(arms["total"]) else {})


def find_arms(
    runs: Iterable[RunFolder], strategy: str = "", model: str = "", split: str = "", tasks: str = ""
) -> Arms | None:
    """Return the arms among finished runs; None without any token-controlled baseline.

    `tasks` are those of the multi-task runs, in any order, with commas between. Raises ConfigError where
    twins of several strategies, models or sets of tasks, or several splits, are there and none was chosen,
    and IncomparableRuns for a twin whose multi-task run is not there.
    """
    entries = sorted((Entry.of(run) for run in runs), key=lambda entry: entry.seed)
    twins = [entry for entry in entries if "twin" in entry.manifest]
    if not twins:
        return None
    by_id = {entry.id: entry for entry in entries}
    for twin in twins:
        if (of := twin["twin"]["of"]) not in by_id:
            beside = "put that run beside it, train it to its end, or move the control away"
            why = f"{twin.id} is the control of {of}, which is no finished run here; {beside}"
            raise IncomparableRuns("twin.of", why)
    twinned = [by_id[of] for of in dict.fromkeys(twin["twin"]["of"] for twin in twins)]
    for field, chosen in (("strategy", strategy), ("model", model)):
        value = _choose(field, chosen, (entry[field] for entry in twinned))
        twinned = [entry for entry in twinned if entry[field] == value]
    family = _choose("tasks", _task_set(tasks.split(",")), (_task_set(entry["tasks"]) for entry in twinned))
    twinned = [entry for entry in twinned if _task_set(entry["tasks"]) == family]
    kinds = [{**entry.config, "seed": None} for entry in twinned]
    multi_task = [
        entry for entry in entries if "twin" not in entry.manifest and {**entry.config, "seed": None} in kinds
    ]
    ids = {entry.id for entry in multi_task}
    controls: dict[str, dict[str, list[Entry]]] = {}
    for twin in twins:
        for task in twin.scored_tasks if twin["twin"]["of"] in ids else ():
            controls.setdefault(twin["twin"]["control"], {}).setdefault(task, []).append(twin)
    return Arms(multi_task, controls, reported_split(multi_task, split))


def chosen_on(entry: Entry) -> dict[str, str]:
    """Return field -> the split on which something of the run was chosen: such a split is not judged."""
    selection, tuning, choice = entry["selection"], entry["tuning"], entry.manifest.get("choice") or {}
    found = {
        "selection.split": selection["split"] if selection["rule"] == "best" else None,
        "tuning.split": tuning["split"] if tuning["trials"] else None,
        "choice.split": choice.get("split"),
    }
    return {field: split for field, split in found.items() if split}


def reported_split(entries: Sequence[Entry], named: str = "") -> str:
    """Return the split to judge: the one named, or the only one reported by all and used for no choice."""
    reported = {metric.split for entry in entries for metric in entry.run.metrics()}
    chosen = {split for entry in entries for split in chosen_on(entry).values()}
    return _choose("split", named, reported if named else reported - chosen or reported)


def _task_set(tasks: Iterable[str]) -> str:
    return ",".join(sorted(tasks))


def _choose(what: str, chosen: str, there: Iterable[str]) -> str:
    known = sorted(set(there))
    if chosen in known or (not chosen and len(known) == 1):
        return chosen or known[0]
    named = f"{what} {chosen!r}" if chosen else what
    listed = (" and " if what == "tasks" else ", ").join(known) or "none"
    closest = nearest(chosen, known) if chosen else ""
    raise ConfigError(f"{named}: these runs have {listed}; choose one by {FLAGS[what]}{closest}")


def _assert_unedited(entry: Entry) -> None:
    """Refuse a manifest that does not say what config.yaml says, in its first line and below."""
    config = entry.config
    stated = flat(dict(entry.run.facts))
    stated |= {name: config[name]["name"] for name in ("model", "strategy", "profile")}
    stated |= {"seed": config["seed"], "tasks": list(config["tasks"]), "paper": config["profile"]["paper"]}
    recorded = flat(dict(entry.manifest))
    if recorded.get("flags.practice"):  # a synthetic corpus may lie where a real one would: known when read
        stated["flags.practice"] = True
    for name, value in stated.items():
        if (other := recorded.get(name)) != value:
            where = f"{value!r} in the config.yaml of {entry.run.path.name}"
            why = f"{other!r} in the manifest but {where}; one was edited, run the page again"
            raise IncomparableRuns(name, why)


def marks_of(entries: Sequence[Entry]) -> list[str]:
    """Return the flags of any of the runs that a reader has to know of."""
    return [mark for mark in MARKS if any(entry["flags"].get(mark) for entry in entries)]
