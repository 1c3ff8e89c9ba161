"""Is it transfer? The verdict on multi-task runs against their token-controlled twins, from run folders.

    document = verdict(find_runs(Path("runs")), strategy="s3b_hierarchical")
    write_verdict(document, Path("verdict.json"))

The document holds every estimate, the rule (`verdict_rule`), and the hashes of all that was read, so that
anyone can check it; the same runs and settings give the same bytes. Which runs belong together is
`verdict_inputs`, which may be compared `token_parity` and `comparability`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.analysis.comparability import MAX_PARAMETER_GAP, documents_of
from kaggle_kit.analysis.survivorship import filled
from kaggle_kit.analysis.token_parity import assert_controlled
from kaggle_kit.analysis.verdict_inputs import CONTROLS, Arms, Entry, find_arms, flat
from kaggle_kit.analysis.verdict_rule import UNDECIDED, Rule, Table, judge
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, KitError, RunFolderError
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runtime import library_versions

MARKS = ("smoke", "practice", "restricted")
SETTINGS = ("alpha", "test", "power", "resamples")  # of `experiment`, by which a rule is declared
EXPERIMENT = "token_controlled"  # of both arms
LIBRARIES = ("numpy", "scipy")


def verdict(
    runs: Sequence[RunFolder],
    *,
    strategy: str = "",
    model: str = "",
    split: str = "",
    as_they_stand: bool = False,
) -> dict[str, Any]:
    """The verdict document, as plain values.

    `strategy`, `model` and `split` choose where the runs have several. Without any token-controlled twin
    the verdict is `undecided`, and `reason` says what to run. `as_they_stand` scores unfinished runs
    (`survivorship`), which are refused otherwise. Raises ConfigError and IncomparableRuns.
    """
    arms = find_arms(runs, strategy, model, split)
    if arms is None:
        return no_verdict(_nothing_to_judge(runs))
    unfinished, seeds = assert_controlled(arms, as_they_stand)
    rule, margins = declared(arms)
    controls = {
        name: judge(_tables(arms, name, margins, seeds), rule, np.random.default_rng(rule.seed))
        for name in CONTROLS
        if name in arms.controls
    }
    return {
        "verdict": controls["total"]["overall"]["verdict"],
        "marks": [mark for mark in MARKS if any(entry["flags"].get(mark) for entry in arms.entries())],
        "comparison": _comparison(arms) | {"seeds": seeds},
        "unfinished": unfinished,
        "as_they_stand": as_they_stand,
        "rule": asdict(rule)
        | {"margins": margins, "family": arms.tasks, "parameter_parity": MAX_PARAMETER_GAP},
        "controls": controls,
        "inputs": [_input(entry, arms) for entry in arms.entries()],
        "differences_not_held_fixed": _reported_differences(arms),
        "versions": library_versions(LIBRARIES),
    }


def judged(runs: Sequence[RunFolder], **chosen: str) -> dict[str, Any]:
    """`verdict` for a page, which shows a refusal instead of stopping at it."""
    try:
        return verdict(runs, **chosen)
    except KitError as refusal:
        return no_verdict(f"the comparison is refused — {refusal}")


def no_verdict(reason: str) -> dict[str, Any]:
    return {"verdict": UNDECIDED, "reason": reason, "marks": [], "controls": {}, "inputs": []}


def read_verdict(path: Path) -> dict[str, Any]:
    """A document that `write_verdict` wrote; RunFolderError where there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {name: document[name] for name in ("verdict", "marks", "controls")} | document
    except (OSError, ValueError, KeyError, TypeError) as error:
        how = "write one with `python -m kaggle_kit verdict --out FILE.json`"
        raise RunFolderError(f"{path} holds no verdict ({type(error).__name__}: {error}); {how}") from error


def write_verdict(document: Mapping[str, Any], path: Path) -> Path:
    return write_atomically(path, to_json(document, indent=2) + "\n")


def declared(arms: Arms) -> tuple[Rule, dict[str, float]]:
    """The rule and each task's margin, as the runs' own configuration fixed them before they started."""
    experiment = arms.multi_task[0].config["experiment"]
    for key in ("alpha", "margin"):
        if key not in experiment:
            raise ConfigError(
                f"experiment.{key} is not declared; run both arms with experiment=token_controlled"
            )
    margins = {}
    for task in arms.tasks:
        kind = "map" if arms.multi_task[0].primary(task, arms.split).name.startswith("map") else "f1"
        margins[task] = experiment["margin"].get(kind)
        if not isinstance(margins[task], int | float) or not margins[task] > 0:
            raise ConfigError(f"experiment.margin.{kind} is {margins[task]!r}; allowed: a number above 0")
    return Rule(**{key: experiment[key] for key in SETTINGS if key in experiment}), margins


def _tables(arms: Arms, control: str, margins: Mapping[str, float], seeds: Sequence[int]) -> dict[str, Table]:
    tables = {}
    for task, entries in arms.controls[control].items():
        multi = arms.multi_task
        _, parts = documents_of([*multi, *entries], task, arms.split)
        pair = filled(parts[: len(multi)], multi, seeds, first=True), parts[len(multi) :]
        tables[task] = Table(pair[0], filled(pair[1], entries, seeds, first=False), margins[task])
    return {task: tables[task] for task in arms.tasks}


def _comparison(arms: Arms) -> dict[str, Any]:
    first = arms.multi_task[0]
    metrics = {task: first.primary(task, arms.split) for task in arms.tasks}
    return {
        **{name: first[name] for name in ("strategy", "model", "profile")},
        "control_strategy": next(entry["strategy"] for _, _, entry in arms.twins()),
        "split": arms.split,
        "tokens": {str(entry.seed): entry["totals"]["tokens"] for entry in arms.multi_task},
        "active_parameters": first["active_parameters"],
        "metrics": {task: {"name": m.name, "scorer": m.scorer, "n": m.n} for task, m in metrics.items()},
    }


def _input(entry: Entry, arms: Arms) -> dict[str, Any]:
    """What was read of one run, by its hash."""
    files = {"manifest.json": entry.run.manifest_json, "metrics.json": entry.run.metrics_json}
    for task in entry["tasks"]:
        name = f"documents/{task}.{arms.split}.jsonl"
        files[name] = entry.run.path / name
    return {
        "run_id": entry.id,
        "seed": entry.seed,
        "twin": entry.manifest.get("twin"),
        "config_hash": entry["config_hash"],
        "data_hashes": entry["data_hashes"],
        "sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
    }


def _reported_differences(arms: Arms) -> dict[str, list[Any]]:
    """Field -> its values, for what is not held fixed and differs between runs."""
    fields = [
        flat({name: entry.manifest.get(name) for name in ("git_sha", "versions")}) for entry in arms.entries()
    ]
    names = sorted({name for each in fields for name in each})
    values = {name: {str(each.get(name)) for each in fields} for name in names}
    return {name: sorted(found) for name, found in values.items() if len(found) > 1}


def _nothing_to_judge(runs: Sequence[RunFolder]) -> str:
    multi = sorted({run.facts["run_id"] for run in runs if len(run.facts["tasks"]) > 1})
    if multi:
        return (
            f"no token-controlled twin of {multi[0]} or any other of the {len(runs)} finished runs; for "
            f"each task and seed `run token_controlled --task TASK experiment={EXPERIMENT} "
            f"experiment.twin={multi[0]}`"
        )
    return (
        f"no finished multi-task run among {len(runs)} finished runs, so there is nothing to control; "
        f"begin with `run s2_shared --task ONE,OTHER experiment={EXPERIMENT}`"
    )
