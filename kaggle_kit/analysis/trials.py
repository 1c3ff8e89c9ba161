"""What a hyper-parameter search tried, from its run folder: the table and the learning curves.

trials_table(run); Image(png(trial_curves(run)))
"""

from __future__ import annotations

from math import nan
from statistics import fmean, median
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, TOY, WIDTH
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.records import read_records

PANEL = 3.0  # inches


def read_trials(run: RunFolder) -> list[dict[str, Any]]:
    """The trials of a search in order, pruned ones included."""
    return read_records(run.path / "trials.jsonl")


def trials_table(run: RunFolder) -> pd.DataFrame:
    """One row per trial: state, score (none for a pruned one), cost, and a column per value."""
    rows = [
        {"trial": one["trial"], "state": one["state"], "score": one["score"], "seconds": one["seconds"]}
        | {"tokens": sum(one["tokens"].values())}
        | {key.rpartition(".")[2]: value for key, value in one["values"].items()}
        for one in read_trials(run)
    ]
    return pd.DataFrame(rows).astype({"score": "float64"})


def value_table(run: RunFolder) -> pd.DataFrame:
    """One row per value that was tried: its trials, how many ran to their end, their mean and best score."""
    tried: dict[tuple[str, str], list[float | None]] = {}
    for one in read_trials(run):
        for key, value in one["values"].items():
            tried.setdefault((key, str(value)), []).append(one["score"])
    rows = []
    for (key, value), all_scores in sorted(tried.items()):
        scores = [score for score in all_scores if score is not None]
        mean, best = (fmean(scores), max(scores)) if scores else (nan, nan)
        rows.append((key, value, len(all_scores), len(scores), mean, best))
    return pd.DataFrame(rows, columns=("key", "value", "trials", "to the end", "mean score", "best score"))


def pruning_table(run: RunFolder) -> pd.DataFrame:
    """One row per trial: its best report so far, and the median that it was compared with at its last one.

    The median is over the trials before it that ran to their end, NaN where there are none.
    """
    rows, whole = [], []
    for one in read_trials(run):
        reports = {int(point): score for point, score in one["reports"]}
        last = max(reports, default=0)
        earlier = [other[last] for other in whole if last in other]
        best = max(reports.values(), default=nan)
        rows.append((one["trial"], last, best, median(earlier) if earlier else nan, one["state"] == "pruned"))
        if one["state"] == "complete":
            whole.append(reports)
    columns = ("trial", "last report", "best so far", "median of earlier trials", "given up")
    return pd.DataFrame(rows, columns=columns)


def trial_curves(run: RunFolder) -> Figure:
    """The reports of every trial; the best one in colour, pruned ones grey and ending in a cross."""
    trials = read_trials(run)
    whole = [one for one in trials if one["score"] is not None]
    best = max(whole, key=lambda one: one["score"], default=None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, PANEL), layout="constrained")
        axes = figure.subplots()
        for one in trials:
            points, scores = zip(*one["reports"], strict=True) if one["reports"] else ((), ())
            if one is best:
                style = {"color": COLOURS[1], "lw": 2.0, "marker": "o", "ms": 4, "zorder": 3}
                axes.plot(points, scores, **style, label=f"best: trial {one['trial']}")
            elif one["state"] == "pruned":
                axes.plot(points, scores, color=TOY, lw=1.0, marker="x", markevery=[-1] if points else [])
            else:
                axes.plot(points, scores, color=COLOURS[0], lw=1.0, marker="o", ms=3, alpha=0.7)
        pruned = len(trials) - len(whole)
        axes.set(xlabel="report", ylabel="selection figure on dev")
        axes.set_title(f"{len(trials)} trials, {pruned} of them pruned (grey)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if best is not None:
            axes.legend(loc="lower right")
        return figure
