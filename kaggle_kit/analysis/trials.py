"""What a hyper-parameter search tried, from its run folder: the table and the learning curves.

trials_table(run); Image(png(trial_curves(run)))
"""

from __future__ import annotations

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
