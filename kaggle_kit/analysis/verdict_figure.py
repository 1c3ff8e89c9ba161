"""The verdict as a picture and a table, made from its document alone.

    display(Image(png(verdict_figure(document)))); verdict_table(document)

One panel per unit: differences of a task's score in points, and all tasks in per cent of the way from the
trivial baseline to the best published score. A point is the estimate against the total control at its last
step, with its interval, over the margin's band; small dots are single seeds; open marks above it are the
estimates against the other controls, with theirs: genuine transfer has to beat them as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, ROW, STYLE, TOY, WIDTH, name_rows, no_data
from kaggle_kit.analysis.verdict_rule import (
    BEST,
    EXPOSURE,
    GENUINE,
    NEGATIVE,
    PLACEBO,
    REGULARISATION,
    SHARE,
    UNDECIDED,
)
from kaggle_kit.analysis.verdict_words import TOYS, marked

COLOUR = {
    GENUINE: COLOURS[2],
    EXPOSURE: COLOURS[0],
    NEGATIVE: COLOURS[1],
    REGULARISATION: COLOURS[3],
    UNDECIDED: "#6b6b6b",
}
MARKERS = {SHARE: "D", BEST: "^", PLACEBO: "s"}  # of the other controls
BAND = "#e6e8eb"
POINTS = 100  # a score of 1 in points, a ratio of 1 in per cent


def verdict_figure(document: Mapping[str, Any]) -> Figure:
    """Estimates, intervals and margins of every task and of all together, with the verdict in words."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        if not document["tasks"]:
            return no_data(document["reason"])
        tasks, overall = document["tasks"], _overall(document)
        heights = [len(tasks), len(overall)]
        figure = Figure(figsize=(WIDTH, 1.9 + 2.0 * ROW * sum(heights)), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=heights)
        metrics = document["comparison"]["metrics"]
        labels = [f"{task}\n{metrics[task]['name']}" for task in tasks]
        _panel(upper, labels, list(tasks.values()), document)
        upper.set_xlabel("multi-task minus token-controlled single-task, points")
        _panel(lower, list(overall), list(overall.values()), document)
        lower.set_xlabel("mean over tasks, per cent of the way from trivial to published")
        upper.set_title(_title(document))
        _legend(figure, upper)
        return figure


def verdict_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """One row per task and one for all tasks: estimates in the metric's own unit, p values after Holm."""
    if not document["tasks"]:
        return pd.DataFrame([{"task": "all tasks", "verdict": document["verdict"]}])
    found = document["tasks"] | _overall(document)
    return pd.DataFrame([_row(name, member, document) for name, member in found.items()])


def _overall(document: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> what was found over all tasks, and without those that share notes with another."""
    found = {"all tasks": document["overall"]}
    if "overall_without" in document:
        found[f"without {', '.join(document['comparison']['sharing_notes'])}"] = document["overall_without"]
    return found


def _row(name: str, found: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    low, high = found["interval"]
    return {
        "task": name,
        "verdict": marked(document, found["verdict"]),
        "specification": found["specification"],
        "difference": found["difference"],
        "low": low,
        "high": high,
        "trimmed mean": found["estimands"]["trimmed"]["difference"],
        "margin": found["margin"],
        "p, no difference": found["p_holm"],
        "p, all controls": found["transfer_p_holm"],
        "p, beyond the margin": found["equivalence_p_holm"],
        "detectable": found["minimum_detectable_effect"],
        "seeds": found["seeds"],
        "more seeds": found.get("more_seeds"),
    }


def _panel(
    axes: Axes, labels: Sequence[str], found: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> None:
    for row, member in enumerate(found):
        margin, colour = POINTS * member["margin"], COLOUR[member["verdict"]]
        axes.barh(row, 2 * margin, 0.96, left=-margin, color=BAND, zorder=0)
        low, high = (POINTS * end for end in member["interval"])
        axes.plot([low, high], [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=3)
        axes.plot(POINTS * member["difference"], row, "o", color=colour, ms=7, zorder=4)
        if "scores" in member:
            seeds = np.subtract(member["scores"]["multi_task"], member["scores"]["total"])
            axes.plot(POINTS * seeds, np.full(len(seeds), row + 0.27), ".", color=TOY, ms=4, zorder=2)
        others = [control for control in MARKERS if control in member["contrasts"]]
        for number, control in enumerate(others, start=1):
            contrast, place = member["contrasts"][control], row - 0.15 * number
            ends = [POINTS * end for end in contrast["interval"]]
            axes.plot(ends, [place, place], color=colour, lw=0.9, alpha=0.6, zorder=3)
            mark = POINTS * contrast["difference"], place
            axes.plot(*mark, MARKERS[control], mfc="white", mec=colour, ms=4.5, zorder=4)
        axes.annotate(
            marked(document, member["verdict"]),
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=colour,
            weight="bold",
        )
    axes.axvline(0, color="#3a3f47", lw=0.9, zorder=1)
    name_rows(axes, labels)
    axes.use_sticky_edges = False  # room beside a band that is wider than all estimates
    axes.autoscale(axis="x")


def _legend(figure: Figure, axes: Axes) -> None:
    line = mpl.lines.Line2D
    handles = {
        "estimate and interval": line([], [], color="#3a3f47", marker="o", ms=6, lw=2),
        "equivalence margin": mpl.patches.Patch(color=BAND),
        "one seed": line([], [], color=TOY, marker=".", lw=0),
    }
    named = {SHARE: "own share of tokens", BEST: "best development point", PLACEBO: "permuted labels"}
    for control, marker in MARKERS.items():
        handles[f"against: {named[control]}"] = line(
            [], [], mec="#3a3f47", mfc="none", marker=marker, ms=4.5, lw=0
        )
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, handlelength=1.2)


def _title(document: Mapping[str, Any]) -> str:
    compared = document["comparison"]
    toys = [mark.upper() for mark in TOYS if mark in document["marks"]]
    said = f"{' and '.join(toys)} RUNS, NOT A RESULT — " if toys else ""
    said += "INTERIM — " if document["interim"] else ""
    seeds = len(compared["seeds"])
    return f"{said}{compared['strategy']} on {compared['model']}, {compared['split']} split, {seeds} seeds"
