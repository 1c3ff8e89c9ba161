"""Is it transfer? The verdict on multi-task runs against their token-controlled baselines, from run folders.

    document = verdict(find_runs(Path("runs")), strategy="s3b_hierarchical")
    write_verdict(document, Path("verdict.json"))

The document holds every estimate, the rule (`verdict_rule`), how both arms trained, and the hashes of all
that was read, so that anyone can check it; the same runs and settings give the same bytes. Which runs belong
together is `verdict_inputs`, which may be compared `token_parity` and `comparability`, by how much
they differ `verdict_estimates`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.analysis.anchors import metric_kind, scale
from kaggle_kit.analysis.comparability import MAX_PARAMETER_GAP
from kaggle_kit.analysis.stats import outliers
from kaggle_kit.analysis.survivorship import documents_by_arm
from kaggle_kit.analysis.token_parity import assert_controlled
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_inputs import Arms, Entry, find_arms, flat, marks_of
from kaggle_kit.analysis.verdict_rule import Control, Rule, Verdict
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, KitError, RunFolderError
from kaggle_kit.core.records import sha256_of, to_json, write_atomically
from kaggle_kit.core.runtime import library_versions

INTERIM = "interim"  # a mark, too: judged on other seeds than were declared
SETTINGS = ("alpha", "test", "estimand", "power", "resamples", "seeds", "looks")  # of `experiment`
EXPERIMENT = "token_controlled"  # of both arms
LIBRARIES = ("numpy", "scipy")
Runs = Sequence[RunFolder]


def verdict(
    runs: Runs,
    *,
    strategy: str = "",
    model: str = "",
    split: str = "",
    tasks: str = "",
    as_they_stand: bool = False,
) -> dict[str, Any]:
    """Return the verdict document, as plain values.

    `strategy`, `model`, `split` and `tasks` (commas between) choose where the runs have several. Without any
    token-controlled baseline the verdict is `undecided`, and `reason` says what to run. `as_they_stand`
    scores unfinished runs (`survivorship`), which are refused otherwise. Raises ConfigError,
    IncomparableRuns, and RunFolderError where there is no run at all.
    """
    if not runs:
        raise RunFolderError("no finished run to judge; name the folder that holds run folders (--runs)")
    arms = find_arms(runs, strategy, model, split, tasks)
    if arms is None:
        return no_verdict(_nothing_to_judge(runs))
    unfinished, seeds = assert_controlled(arms, as_they_stand)
    rule, margins = declared_rule(arms)
    entries, family = arms.entries(), arms.multi_task[0].config["tasks"]
    marks = marks_of(entries)
    units = {task: scale(family[task], "practice" in marks) for task in arms.tasks}
    # Tasks that are told to share notes with another one here: the same supervision counted twice.
    shared = [task for task in arms.tasks if set(family[task]["shares_notes_with"]) & set(arms.tasks)]
    tables = tables_of(arms, margins, units, seeds)
    judgement = judge(tables, rule, np.random.default_rng(rule.seed), left_out=shared)
    interim = rule.interim(seeds)
    return {
        "verdict": judgement["overall"]["verdict"],
        "specification": judgement["overall"]["specification"],
        "marks": marks + ([INTERIM] if interim else []),
        "interim": interim,
        "comparison": _comparison(arms) | {"seeds": seeds, "sharing_notes": shared, "units": units},
        "unfinished": unfinished,
        "as_they_stand": as_they_stand,
        "rule": _rule(rule, margins, arms),
        **judgement,
        "training": {task: _training(arms, task) for task in arms.tasks},
        "outliers": list(_outliers(arms)),
        "inputs": [_input(entry, arms.split) for entry in entries],
        "differences_not_held_fixed": _reported_differences(entries),
        "versions": library_versions(LIBRARIES),
    }


def verdict_or_refusal(
    runs: Runs,
    *,
    strategy: str = "",
    model: str = "",
    split: str = "",
    tasks: str = "",
    as_they_stand: bool = False,
) -> dict[str, Any]:
    """Return `verdict` for a page, which shows a refusal instead of stopping at it."""
    try:
        choice = {"strategy": strategy, "model": model, "split": split, "tasks": tasks}
        return verdict(runs, **choice, as_they_stand=as_they_stand)
    except KitError as refusal:
        return no_verdict(f"the comparison is refused — {refusal}")


def no_verdict(reason: str) -> dict[str, Any]:
    """Return the document of a verdict that cannot be given: undecided, for this reason."""
    return {"verdict": Verdict.UNDECIDED, "reason": reason, "marks": [], "tasks": {}, "inputs": []}


def read_verdict(path: Path) -> dict[str, Any]:
    """Read a document that `write_verdict` wrote; RunFolderError where there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {name: document[name] for name in ("verdict", "marks", "tasks")} | document
    except (OSError, ValueError, KeyError, TypeError) as error:
        how = "write one with `python -m kaggle_kit verdict --out FILE.json`"
        raise RunFolderError(f"{path} holds no verdict ({type(error).__name__}: {error}); {how}") from error


def write_verdict(document: Mapping[str, Any], path: Path) -> Path:
    """Write the document as JSON, with the same bytes for the same document, and return its path."""
    return write_atomically(path, to_json(document, indent=2) + "\n")


def declared_rule(arms: Arms) -> tuple[Rule, dict[str, float]]:
    """Return the rule and each task's margin, as the runs' configuration fixed them before they started."""
    experiment = arms.multi_task[0].config["experiment"]
    for key in ("alpha", "margin"):
        if key not in experiment:
            then = f"run both arms with experiment={EXPERIMENT}"
            raise ConfigError(f"experiment.{key} is not declared; {then}")
    margins = {}
    for task in arms.tasks:
        kind = metric_kind(arms.multi_task[0].primary(task, arms.split).name)
        margins[task] = experiment["margin"].get(kind)
        if not isinstance(margins[task], int | float) or not margins[task] > 0:
            raise ConfigError(f"experiment.margin.{kind} is {margins[task]!r}; allowed: a number above 0")
    return Rule(**{key: experiment[key] for key in SETTINGS if key in experiment}), margins


def tables_of(
    arms: Arms, margins: Mapping[str, float], units: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, Table]:
    """Return task -> its documents under each seed, of the multi-task runs and of all their controls."""
    tables = {}
    for task in arms.tasks:
        by_arm = documents_by_arm(arms.scored_arms(task), task, arms.split, seeds)
        documents = arms.multi_task[0].run.read_documents(task, arms.split)
        # the patient or question thread of each document, unless one has none
        clusters = [record["cluster"] for record in documents if record.get("cluster") is not None]
        whole = clusters if len(clusters) == len(documents) else None
        tables[task] = Table(by_arm, margins[task], units[task]["unit"], whole)
    return tables


def _rule(rule: Rule, margins: Mapping[str, float], arms: Arms) -> dict[str, Any]:
    """Return the declared rule with its hash: two verdicts with the same hash were decided alike."""
    terms = asdict(rule) | {"margins": margins, "family": arms.tasks, "parameter_parity": MAX_PARAMETER_GAP}
    digest = hashlib.sha256(to_json(terms).encode()).hexdigest()[:16]
    return terms | {"level": rule.level, "hash": digest}


def _training(arms: Arms, task: str) -> dict[str, Any]:
    """Return how each arm trained, by seed: steps, epochs over the task's data, last loss, development."""
    return {
        name: {
            "optimiser_steps": [entry["optimiser_steps"] for entry in entries],
            "epochs_over_own_data": [entry["epochs_over_own_data"][task] for entry in entries],
            "final_training_loss": [entry["final_training_loss"][task] for entry in entries],
            "development": [
                [[point["share"], point["scores"].get(task)] for point in entry["development"]]
                for entry in entries
            ],
            "best_development": [entry.manifest.get("best_development") for entry in entries],
        }
        for name, entries in arms.trained_arms(task).items()
    }


def _outliers(arms: Arms) -> Iterator[dict[str, Any]]:
    """Runs that lie far from their arm in score or final training loss: did they learn at all?"""
    for task in arms.tasks:
        for name, entries in arms.scored_arms(task).items():
            figures = {"score": [entry.primary(task, arms.split).value for entry in entries]}
            if name != Control.BEST:  # its loss is that of the last step
                figures["final training loss"] = [entry["final_training_loss"][task] for entry in entries]
            for what, values in figures.items():
                for place in outliers(values):
                    run = {"run_id": entries[place].id, "seed": entries[place].seed, "task": task}
                    run |= {"arm": name, "figure": what, "value": values[place]}
                    yield run | {"median": float(np.median(values))}


def _comparison(arms: Arms) -> dict[str, Any]:
    first = arms.multi_task[0]
    metrics = {task: first.primary(task, arms.split) for task in arms.tasks}
    return {
        **{name: first[name] for name in ("strategy", "model", "profile")},
        "control_strategy": arms.trained_arms(arms.tasks[0])[Control.TOTAL][0]["strategy"],
        "multi_task_runs": [entry.id for entry in arms.multi_task],
        "split": arms.split,
        "tokens": {str(entry.seed): entry["totals"]["tokens"] for entry in arms.multi_task},
        "active_parameters": first["active_parameters"],
        "metrics": {task: {"name": m.name, "scorer": m.scorer, "n": m.n} for task, m in metrics.items()},
    }


def _input(entry: Entry, split: str) -> dict[str, Any]:
    """Return the hashes of all files that were read of one run."""
    points = ("", "best_development/") if entry.at_best_development() else ("",)
    documents = [f"{at}documents/{task}.{split}.jsonl" for at in points for task in entry.scored_tasks]
    files = ("manifest.json", "metrics.json", *documents)
    return {
        "run_id": entry.id,
        "seed": entry.seed,
        "twin": entry.manifest.get("twin"),
        "config_hash": entry["config_hash"],
        "data_hashes": entry["data_hashes"],
        "sha256": {name: sha256_of(entry.run.path / name) for name in files},
    }


def _reported_differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return field -> its values, for commits and versions, which may differ between runs."""
    fields = [flat({name: entry.manifest.get(name) for name in ("git_sha", "versions")}) for entry in entries]
    values = {name: {str(each.get(name)) for each in fields} for name in sorted(set().union(*fields))}
    return {name: sorted(found) for name, found in values.items() if len(found) > 1}


def _nothing_to_judge(runs: Runs) -> str:
    multi = sorted({run.facts["run_id"] for run in runs if len(run.facts["tasks"]) > 1})
    if multi:
        return (
            f"no token-controlled baseline of {multi[0]} or any other of the {len(runs)} finished runs; for "
            f"each task and seed `run token_controlled --task TASK experiment={EXPERIMENT} "
            f"experiment.twin={multi[0]}`"
        )
    return (
        f"no finished multi-task run among {len(runs)} finished runs, so there is nothing to control; "
        f"begin with `run s2_shared --task ONE,OTHER experiment={EXPERIMENT}`"
    )
