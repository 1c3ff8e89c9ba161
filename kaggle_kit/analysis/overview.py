"""All finished runs as one table: what each scored on its task's primary metric, and what it cost.

table = overview_table(find_runs(Path("runs")))
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from kaggle_kit.analysis.anchors import published_best, trivial_baseline
from kaggle_kit.core.artifacts import RunFolder

COLUMNS: tuple[str, ...] = ("run", "task", "model", "arm", "profile", "flags", "seed", "metric")
COLUMNS += ("split", "score", "n", "published", "trivial", "tokens", "parameters", "seconds")
TYPES = dict.fromkeys(COLUMNS, "str") | dict.fromkeys(("seed", "tokens", "parameters"), "int64")
TYPES |= dict.fromkeys(("score", "published", "trivial", "seconds"), "float64") | {"n": "Int64"}
TOYS = ("smoke", "practice")  # flags that make a run no result
TOY_FLAGS = "|".join(TOYS)  # a pattern that finds them


def overview_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Return a row per run, task and split; a run whose page recorded no primary metric has no score.

    `score` is in the scorer's own unit, mostly a share of 1, on `n` gold items; `published` is the best
    published figure of this metric and `trivial` the one without any model, NaN where they do not apply.
    `tokens` are real tokens of this task seen in training, `parameters` those trained, not all of them.
    """
    rows = [row for run in runs for task in run.manifest()["tasks"] for row in _rows(run, task)]
    return pd.DataFrame(rows, columns=COLUMNS).astype(TYPES)


def flag_names(flags: Mapping[str, bool]) -> list[str]:
    """Return the names of the flags that are set, of smoke, practice and restricted."""
    return [name for name, is_set in flags.items() if is_set]


def arm_of(manifest: Mapping[str, Any]) -> str:
    """Return a run's arm: its strategy, or the kind of control that it is of another run."""
    if not (twin := manifest.get("twin")):
        return str(manifest["strategy"])
    return twin["control"] if twin["control"] == "placebo" else f"control, {twin['control']} tokens"


def arm_table(table: pd.DataFrame) -> pd.DataFrame:
    """Group the scored rows of `overview_table(runs)` by arm: runs; mean, extreme and anchor scores.

    Best arms of a task first. Runs of one arm may differ in more than the seed; only a verdict compares arms.
    """
    score = table[table["score"].notna()].groupby(
        ["task", "split", "metric", "model", "profile", "flags", "arm"]
    )
    by_arm = score["score"].agg(runs="size", mean="mean", lowest="min", highest="max")
    by_arm = by_arm.join(score[["published", "trivial"]].max()).reset_index()
    ordered = by_arm.sort_values(["task", "split", "mean"], ascending=[True, True, False])
    return ordered.reset_index(drop=True)


def summary_in_words(table: pd.DataFrame, left_out: Sequence[str] = ()) -> Iterator[str]:
    """Yield the number of finished runs and of results, and the reason for each run left out."""
    runs = table.drop_duplicates("run")
    toys = int(runs["flags"].str.contains(TOY_FLAGS).sum())
    yield f"finished runs: {len(runs)}; tasks: {table['task'].nunique()}; results: {len(runs) - toys}"
    if toys:
        yield f"smoke or practice runs, which only show that the machinery works: {toys}"
    yield from (f"left out: {why}" for why in left_out)


def _rows(run: RunFolder, task: str) -> list[dict[str, Any]]:
    manifest, config = run.manifest(), run.config()["tasks"][task]
    name, totals, practice = config["primary_metric"], manifest["totals"], manifest["flags"].get("practice")
    common = {key: manifest[key] for key in ("model", "profile", "seed")} | {
        "run": run.run_id,
        "arm": arm_of(manifest),
        "task": task,
        "metric": name,
        "published": None if practice else published_best(config),
        # Published figures belong to the published corpus; an F1 without a model is 0 on every corpus.
        "trivial": trivial_baseline(config | {"trivial_baselines": ()} if practice else config),
        "tokens": totals["tokens"].get(task, 0),
        "parameters": totals["trainable_parameters"],
        "seconds": totals["seconds"],
        "flags": ", ".join(flag_names(manifest["flags"])),
    }
    scores = [metric for metric in run.metrics() if (metric.task, metric.name) == (task, name)]
    found = [{"split": metric.split, "score": metric.value, "n": metric.n} for metric in scores]
    return [common | score for score in found or [{"split": ""}]]
