"""Which finished runs make a comparison: multi-task runs, and their token-controlled twins by task.

    arms = find_arms(find_runs(Path("runs")), strategy="s3b_hierarchical")
    arms.multi_task[0].id, arms.controls["total"]["semeval2014t7"][0].id

Every multi-task run of the twinned configuration is in, whether it has twins or not: seeds that were
left out would be a choice by result. `token_parity` says whether the arms may be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, nearest

FLAGS = {"strategy": "--multi-task", "model": "--model", "split": "--split"}  # of `kaggle_kit verdict`
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
        return self["run_id"]

    @property
    def seed(self) -> int:
        return self["seed"]

    def __getitem__(self, field: str) -> Any:
        """A field of the manifest; refused where the run does not record it."""
        if field not in self.manifest:
            raise IncomparableRuns(field, f"{self.run.path.name} does not record it; run its page again")
        return self.manifest[field]

    @property
    def scored(self) -> list[str]:
        """The tasks that the run is a score of: a placebo trains on all of them and is scored on one."""
        if self.manifest.get("twin", {}).get("control") != "placebo":
            return self["tasks"]
        return sorted({metric.task for metric in self.run.metrics()})

    def at_best_development(self) -> Entry | None:
        """The run as its weights at its best development point scored; None where it kept no such point."""
        folder = self.run.best_development
        return replace(self, run=folder) if folder.metrics_json.is_file() else None

    def primary(self, task: str, split: str) -> Metric:
        """The task's primary metric on a split."""
        name = self.config["tasks"][task]["primary_metric"]
        found = [m for m in self.run.metrics() if (m.task, m.name, m.split) == (task, name, split)]
        if len(found) != 1:
            has = f"{self.id} reports {name} of {task} on {split!r} {len(found)} times"
            raise IncomparableRuns(
                "split",
                f"{has}; exactly one figure is needed: "
                "run its page again, or name by --split one that it reports",
            )
        return found[0]


@dataclass(frozen=True)
class Arms:
    """One comparison. `controls`: control -> task -> its runs; every arm in the order of its seeds."""

    multi_task: Sequence[Entry]
    controls: Mapping[str, Mapping[str, Sequence[Entry]]]
    split: str

    @property
    def tasks(self) -> list[str]:
        return self.multi_task[0]["tasks"]

    def twins(self) -> Iterator[tuple[str, str, Entry]]:
        """(control, task, run) of every control run."""
        for control, tasks in self.controls.items():
            for task, entries in tasks.items():
                yield from ((control, task, entry) for entry in entries)

    def entries(self) -> list[Entry]:
        return [*self.multi_task, *(entry for _, _, entry in self.twins())]

    def against(self, task: str) -> dict[str, Sequence[Entry]]:
        """Control -> its runs of a task, and those of the total control at their best development point."""
        found = {name: tasks[task] for name, tasks in self.controls.items() if task in tasks}
        best = [point for entry in found["total"] if (point := entry.at_best_development())]
        return found | ({"best_development": best} if len(best) == len(found["total"]) else {})


def find_arms(runs: Iterable[RunFolder], strategy: str = "", model: str = "", split: str = "") -> Arms | None:
    """The arms among finished runs; None where there is no token-controlled twin at all.

    Raises ConfigError where twins of several strategies or models, or several splits, are there and none
    was chosen, and IncomparableRuns for a twin whose multi-task run is not there.
    """
    entries = [Entry.of(run) for run in runs]
    twins = sorted((entry for entry in entries if "twin" in entry.manifest), key=lambda entry: entry.seed)
    if not twins:
        return None
    twinned = _controlled(entries, twins)
    for field, chosen in (("strategy", strategy), ("model", model)):
        value = _choose(field, chosen, (entry[field] for entry in twinned))
        twinned = [entry for entry in twinned if entry[field] == value]
    kinds = [_apart_from_seed(entry) for entry in twinned]
    multi_task = [
        entry for entry in entries if "twin" not in entry.manifest and _apart_from_seed(entry) in kinds
    ]
    controls: dict[str, dict[str, list[Entry]]] = {}
    for twin in twins:
        if twin["twin"]["of"] in {entry.id for entry in multi_task}:
            for task in twin.scored:
                controls.setdefault(twin["twin"]["control"], {}).setdefault(task, []).append(twin)
    in_order = sorted(multi_task, key=lambda entry: entry.seed)
    return Arms(in_order, controls, reported_split(multi_task, split))


def chosen_on(entry: Entry) -> dict[str, str]:
    """Field -> the split on which something about the run was chosen: such a split is not judged."""
    selection, tuning, choice = entry["selection"], entry["tuning"], entry.manifest.get("choice") or {}
    found = {
        "selection.split": selection["split"] if selection["rule"] == "best" else None,
        "tuning.split": tuning["split"] if tuning["trials"] else None,
        "choice.split": choice.get("split"),
    }
    return {field: split for field, split in found.items() if split}


def reported_split(entries: Sequence[Entry], named: str = "") -> str:
    """The split to judge: the one named, or the only one that all runs report and nothing was chosen on."""
    reported = {metric.split for entry in entries for metric in entry.run.metrics()}
    chosen = {split for entry in entries for split in chosen_on(entry).values()}
    return _choose("split", named, reported if named else reported - chosen or reported)


def _controlled(entries: Iterable[Entry], twins: Iterable[Entry]) -> list[Entry]:
    """The runs that the twins are controls of."""
    by_id = {entry.id: entry for entry in entries}
    for twin in twins:
        if (of := twin["twin"]["of"]) not in by_id:
            missing = (
                f"{twin.id} is the control of {of}, which is no finished run here; put that run beside it, "
                "train it to its end, or move the control away"
            )
            raise IncomparableRuns("twin.of", missing)
    return list({of: by_id[of] for of in (twin["twin"]["of"] for twin in twins)}.values())


def _choose(what: str, chosen: str, there: Iterable[str]) -> str:
    known = sorted(set(there))
    if chosen in known or (not chosen and len(known) == 1):
        return chosen or known[0]
    if not chosen:
        raise ConfigError(
            f"{what}: these runs have {', '.join(known) or 'none'}; choose one by {FLAGS[what]}"
        )
    raise ConfigError(
        f"{what} {chosen!r} has no twins here; allowed for {FLAGS[what]}: "
        f"{', '.join(known)}{nearest(chosen, known)}"
    )


def _apart_from_seed(entry: Entry) -> dict[str, Any]:
    return {**entry.config, "seed": None}


def _assert_unedited(entry: Entry) -> None:
    """The manifest says what config.yaml says, in its first line and below."""
    config = entry.config
    stated = flat(dict(entry.run.facts))
    stated |= {name: config[name]["name"] for name in ("model", "strategy", "profile")}
    stated |= {"seed": config["seed"], "tasks": list(config["tasks"]), "paper": config["profile"]["paper"]}
    recorded = flat(dict(entry.manifest))
    if recorded.get("flags.practice"):  # a synthetic corpus may lie where a real one would: known when read
        stated["flags.practice"] = True
    for name, value in stated.items():
        if recorded.get(name) != value:
            values = f"{recorded.get(name)!r} in the manifest but {value!r} in the config.yaml"
            raise IncomparableRuns(
                name, f"{values} of {entry.run.path.name}; one was edited, run the page again"
            )


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; lists and empty mappings are values."""
    fields: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        fields |= flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return fields
