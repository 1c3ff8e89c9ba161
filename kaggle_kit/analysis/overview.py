"""All finished runs as one table: what each scored on its task's primary metric, and what it cost.

table = overview_table(find_runs(Path("runs")))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from kaggle_kit.analysis.anchors import published_best, trivial_baseline
from kaggle_kit.core.artifacts import Metric, RunFolder

COLUMNS = {
    "run": "str",
    "task": "str",
    "model": "str",
    "strategy": "str",
    "profile": "str",
    "flags": "str",
    "seed": "int64",
    "metric": "str",
    "split": "str",
    "score": "float64",  # in the scorer's own unit, mostly a share of 1
    "n": "Int64",  # gold items behind the score
    "published": "float64",  # best published figure of this metric, NaN where it does not apply
    "trivial": "float64",  # the figure without any model, NaN where it is not known
    "tokens": "int64",  # real tokens of this task seen in training
    "parameters": "int64",  # trained, not total
    "seconds": "float64",
}


def overview_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """One row per run, task and split; a run whose page recorded no primary metric has no score."""
    rows = [row for run in runs for task in run.manifest()["tasks"] for row in _rows(run, task)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def flag_names(flags: Mapping[str, bool]) -> list[str]:
    """The flags that are set: smoke, practice, restricted."""
    return [name for name, is_set in flags.items() if is_set]


def arm_of(manifest: Mapping[str, Any]) -> str:
    """What a run stands for: its strategy, or which control of another it is."""
    if not (twin := manifest.get("twin")):
        return str(manifest["strategy"])
    return twin["control"] if twin["control"] == "placebo" else f"control, {twin['control']} tokens"


def arm_table(runs: Sequence[RunFolder], table: pd.DataFrame) -> pd.DataFrame:
    """The scored rows of `overview_table(runs)` by arm: runs; mean, lowest, highest and published score.

    Best arms of a task first. Runs of one arm may differ in more than the seed; only a verdict compares arms.
    """
    arms = {run.run_id: arm_of(run.manifest()) for run in runs}
    scored = table[table["score"].notna()].assign(arm=lambda rows: rows["run"].map(arms))
    same = ["task", "split", "metric", "model", "profile", "flags", "arm"]
    figures = {"runs": "size", "mean": "mean", "lowest": "min", "highest": "max"}
    figures = {name: ("score", how) for name, how in figures.items()} | {"published": ("published", "max")}
    found = scored.groupby(same).agg(**figures).reset_index()
    ordered = found.sort_values(["task", "split", "mean"], ascending=[True, True, False])
    return ordered.reset_index(drop=True)


def summary_in_words(table: pd.DataFrame, left_out: Sequence[str] = ()) -> Iterator[str]:
    """How many runs are finished, how many of them are results, and which are left out."""
    runs = table.drop_duplicates("run")
    toys = int(runs["flags"].str.contains("smoke|practice").sum())
    yield f"finished runs: {len(runs)}; tasks: {table['task'].nunique()}; results: {len(runs) - toys}"
    if toys:
        yield f"smoke or practice runs, which only show that the machinery works: {toys}"
    yield from (f"left out: {why}" for why in left_out)


def _rows(run: RunFolder, task: str) -> list[dict[str, Any]]:
    manifest = run.manifest()
    config = run.config()["tasks"][task]
    name, totals, flags = config["primary_metric"], manifest["totals"], manifest["flags"]
    common = {key: manifest[key] for key in ("model", "strategy", "profile", "seed")} | {
        "run": run.run_id,
        "task": task,
        "metric": name,
        "published": None if flags.get("practice") else published_best(config),
        "trivial": _trivial(config, bool(flags.get("practice"))),
        "tokens": totals["tokens"].get(task, 0),
        "parameters": totals["trainable_parameters"],
        "seconds": totals["seconds"],
        "flags": ", ".join(flag_names(flags)),
    }
    scores = [metric for metric in run.metrics() if (metric.task, metric.name) == (task, name)]
    return [common | _score(metric) for metric in scores] or [common | {"split": ""}]


def _trivial(task: Mapping[str, Any], practice: bool) -> float | None:
    """Published figures belong to the published corpus; an F1 without a model is 0 on every corpus."""
    return trivial_baseline(task | {"trivial_baselines": ()} if practice else task)


def _score(metric: Metric) -> dict[str, Any]:
    return {"split": metric.split, "score": metric.value, "n": metric.n}
