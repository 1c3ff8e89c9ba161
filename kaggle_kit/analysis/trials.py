"""The trials of a hyper-parameter search, from its run folder: tables and learning curves.

trials_table(run); Image(png(trial_curves(run)))
"""

from math import nan
from statistics import median
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, PANEL, STYLE, TOY, stacked
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.records import read_records


def read_trials(run: RunFolder) -> list[dict[str, Any]]:
    """Read the trials of a search in order, pruned ones included."""
    return read_records(run.path / "trials.jsonl")


def trials_table(run: RunFolder) -> pd.DataFrame:
    """Return a row per trial: state, score (none for a pruned one), cost, and a column per value."""
    rows = [
        {"trial": one["trial"], "state": one["state"], "score": one["score"], "seconds": one["seconds"]}
        | {"tokens": sum(one["tokens"].values())}
        | {key.rpartition(".")[2]: value for key, value in one["values"].items()}
        for one in read_trials(run)
    ]
    return pd.DataFrame(rows).astype({"score": "float64"})


def value_table(run: RunFolder) -> pd.DataFrame:
    """Return a row per value that was tried: its trials, how many ran to their end, mean and best score."""
    rows = [
        (key, str(value), one["score"]) for one in read_trials(run) for key, value in one["values"].items()
    ]
    scores = pd.DataFrame(rows, columns=("key", "value", "score")).astype({"score": "float64"})
    figures = {"trials": "size", "to the end": "count", "mean score": "mean", "best score": "max"}
    return scores.groupby(["key", "value"])["score"].agg(**figures).reset_index()


def pruning_table(run: RunFolder) -> pd.DataFrame:
    """Return a row per trial: its best report, and the median that its last one was compared with.

    The median is over the trials before it that ran to their end, NaN where there are none.
    """
    rows: list[tuple[Any, ...]] = []
    whole: list[dict[int, float]] = []  # the reports of every trial so far that ran to its end
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


@mpl.rc_context(STYLE)
def trial_curves(run: RunFolder) -> Figure:
    """Draw the reports of every trial; the best one in colour, pruned ones grey and ending in a cross."""
    trials = read_trials(run)
    whole = [one for one in trials if one["score"] is not None]
    best = max(whole, key=lambda one: one["score"], default=None)
    figure, (axes,) = stacked([PANEL])
    for one in trials:
        points, scores = zip(*one["reports"], strict=True) if one["reports"] else ((), ())
        style: dict[str, Any] = {"color": COLOURS[0], "lw": 1.0, "marker": "o", "ms": 3, "alpha": 0.7}
        if one is best:
            style = {"color": COLOURS[1], "lw": 2.0, "marker": "o", "ms": 4, "zorder": 3}
            style["label"] = f"best: trial {one['trial']}"
        elif one["state"] == "pruned":
            style = {"color": TOY, "lw": 1.0, "marker": "x", "markevery": [-1] if points else []}
        axes.plot(points, scores, **style)
    pruned = len(trials) - len(whole)
    axes.set(xlabel="report", ylabel="selection figure on dev")
    axes.set_title(f"{len(trials)} trials, {pruned} of them pruned (grey)")
    axes.locator_params(axis="x", integer=True)
    if best is not None:
        axes.legend(loc="lower right")
    return figure
