"""Encoder baselines beside the best published scores: ours, the difference, and the two-point rule.

    table = reproduction_table(find_runs(Path("runs")))
    for sentence in reproduction_in_words(table): ...

A published score belongs to the official test split. So a score on any other split is shown and not judged.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from kaggle_kit.analysis.overview import overview_table
from kaggle_kit.analysis.stats import by_cluster, resampled_scores
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.records import to_json
from kaggle_kit.core.runs import OF_WHOLE
from kaggle_kit.evaluation.documents import document_table

REPRODUCED = 0.02  # of a score of 1: a baseline may lie so far below the best published one
RESAMPLES, ENDS = 10_000, (0.025, 0.975)  # of the bootstrap over documents
WAYS = {True: "the whole model", False: "LoRA"}
COLUMNS: tuple[str, ...] = ("task", "model", "trained", "split", "metric", "runs", "n")
COLUMNS += ("published", "score", "low", "high", "difference", "reproduced")


def reproduction_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Return a row per task, encoder, way of training and split, of single-task runs that are no control.

    `score` is the mean over runs that differ in nothing but the seed, `low` to `high` its 95 % interval over
    documents, `difference` is to the best published score. `reproduced` is yes where that is at most
    REPRODUCED below, else no; empty where there is no published score or the split is not test.
    """
    alike: dict[tuple[str, str], list[RunFolder]] = defaultdict(list)
    for run in filter(_is_baseline, runs):
        alike[run.facts["tasks"][0], to_json({**run.config(), "seed": None})].append(run)
    rows = [row for _, several in sorted(alike.items(), key=lambda one: one[0]) for row in _rows(several)]
    return pd.DataFrame(rows, columns=COLUMNS)


def reproduction_in_words(table: pd.DataFrame) -> Iterator[str]:
    """Yield the result of every row, with what it may be taken for."""
    if table.empty:
        yield "No finished single-task run of an encoder lies here."
    for row in table.itertuples():
        ours = f"{row.task}, {row.model}, {row.trained}: {row.metric} {row.score:.4f} on {row.split}"
        if row.reproduced:
            far = f"{abs(row.difference) * 100:.1f} points {'above' if row.difference >= 0 else 'below'}"
            held = "within" if row.reproduced == "yes" else "not within"
            yield f"{ours}, {far} the best published {row.published:.4f}: {held} two points of it or better."
        elif np.isnan(row.published):
            yield f"{ours}; no published score is known for this corpus and metric."
        else:
            yield f"{ours}; the published {row.published:.4f} was scored on test, so nothing is judged here."


def interval(runs: RunFolder | Sequence[RunFolder], task: str, split: str) -> tuple[float, float, int] | None:
    """Return the ends of the 95 % interval of the mean primary metric, and how many documents were resampled.

    Documents are drawn with replacement, those of one patient or question together; the seed of the training
    is not in it. None where the metric has no parts by document, or the runs have not the same documents.
    """
    records = [one.read_documents(task, split) for one in ([runs] if isinstance(runs, RunFolder) else runs)]
    names = {tuple(record["document"] for record in of) for of in records}
    if len(names) != 1 or not records[0]:
        return None
    arms = np.stack([document_table(of)[1] for of in records])  # (runs, documents, columns)
    if all(record.get("cluster") is not None for record in records[0]):
        arms = by_cluster(arms, [record["cluster"] for record in records[0]])
    drawn = resampled_scores(arms, RESAMPLES, np.random.default_rng(0)).mean(axis=1)
    low, high = np.quantile(drawn, ENDS)
    return float(low), float(high), arms.shape[1]


def _is_baseline(run: RunFolder) -> bool:
    encoder = run.config()["model"]["family"] == "encoder" or run.facts["page"] == OF_WHOLE
    return encoder and len(run.facts["tasks"]) == 1 and not run.manifest().get("twin")


def _rows(runs: Sequence[RunFolder]) -> Iterator[dict[str, object]]:
    """Yield a row for each split that runs of one configuration, seeds apart, were scored on."""
    whole = bool(runs[0].config()["training"].get("full_finetuning"))
    scored = overview_table(runs).dropna(subset="score")
    for (task, model, split, metric), of in scored.groupby(["task", "model", "split", "metric"]):
        score, published = of["score"].mean(), of["published"].iloc[0]
        ends = interval(runs, task, split) or (np.nan, np.nan, 0)
        judged = split == "test" and not np.isnan(published)
        yield {
            **{"task": task, "model": model, "trained": WAYS[whole], "split": split, "metric": metric},
            **{"runs": len(of), "n": of["n"].iloc[0], "published": published, "score": score},
            **{"low": ends[0], "high": ends[1], "difference": score - published},
            "reproduced": ("yes" if score >= published - REPRODUCED else "no") if judged else "",
        }
