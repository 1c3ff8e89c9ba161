"""The verdict as a picture and a table, made from its document alone.

    display(Image(png(verdict_figure(document)))); verdict_table(document)

One panel per unit: differences of a task's score in points, and all tasks relative to the control in per
cent. A point is the estimate against the control that decides, with its interval, over the margin's band;
small dots are single seeds; a diamond is the estimate against the control with its own share of tokens.
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
from kaggle_kit.analysis.verdict_rule import EXPOSURE, GENUINE, NEGATIVE, UNDECIDED
from kaggle_kit.analysis.verdict_words import TOYS

COLOUR = {GENUINE: COLOURS[2], EXPOSURE: COLOURS[0], NEGATIVE: COLOURS[1], UNDECIDED: "#6b6b6b"}
BAND = "#e6e8eb"
POINTS = 100  # a score of 1 in points, a ratio of 1 in per cent


def verdict_figure(document: Mapping[str, Any]) -> Figure:
    """Estimates, intervals and margins of every task and of all together, with the verdict in words."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        if not document["controls"]:
            return no_data(document["reason"])
        tasks = document["controls"]["total"]["tasks"]
        overall = document["controls"]["total"]["overall"]
        share = document["controls"].get("share", {"tasks": {}})["tasks"]
        heights = [len(tasks), 1]
        figure = Figure(figsize=(WIDTH, 1.9 + 1.5 * ROW * sum(heights)), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=heights)
        metrics = document["comparison"]["metrics"]
        labels = [f"{task}\n{metrics[task]['name']}" for task in tasks]
        _panel(upper, labels, list(tasks.values()), [share.get(task) for task in tasks])
        upper.set_xlabel("multi-task minus token-controlled single-task, points")
        if "reason" in overall:
            lower.set_axis_off()
            lower.text(0, 0.5, f"all tasks: {overall['verdict']}; {overall['reason']}")
        else:
            _panel(lower, ["all tasks,\nrelative"], [overall], [None])
            lower.set_xlabel("mean over tasks, per cent of the control's score")
        upper.set_title(_title(document))
        _legend(figure, upper)
        return figure


def verdict_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """One row per task and one for all tasks: estimates in the metric's own unit, p values after Holm."""
    if not document["controls"]:
        return pd.DataFrame([{"task": "all tasks", "verdict": document["verdict"]}])
    total = document["controls"]["total"]
    found = {**total["tasks"], "all tasks (relative)": total["overall"]}
    return pd.DataFrame([_row(name, member) for name, member in found.items() if "reason" not in member])


def _row(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    low, high = found["interval"]
    return {
        "task": name,
        "verdict": found["verdict"],
        "difference": found["difference"],
        "low": low,
        "high": high,
        "margin": found["margin"],
        "p, no difference": found["p_holm"],
        "p, beyond the margin": found["equivalence_p_holm"],
        "detectable": found["minimum_detectable_effect"],
        "seeds": found["seeds"],
        "more seeds": found.get("more_seeds"),
    }


def _panel(
    axes: Axes, labels: Sequence[str], found: Sequence[Mapping[str, Any]], share: Sequence[Any]
) -> None:
    for row, (member, second) in enumerate(zip(found, share, strict=True)):
        margin, colour = POINTS * member["margin"], COLOUR[member["verdict"]]
        axes.barh(row, 2 * margin, 0.8, left=-margin, color=BAND, zorder=0)
        low, high = (POINTS * end for end in member["interval"])
        axes.plot([low, high], [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=3)
        axes.plot(POINTS * member["difference"], row, "o", color=colour, ms=7, zorder=4)
        if "scores" in member:
            seeds = np.subtract(member["scores"]["multi_task"], member["scores"]["control"])
            axes.plot(POINTS * seeds, np.full(len(seeds), row + 0.27), ".", color=TOY, ms=4, zorder=2)
        if second:
            axes.plot(
                POINTS * second["difference"], row - 0.24, "D", mfc="none", mec=colour, ms=4.5, zorder=3
            )
        axes.annotate(
            member["verdict"],
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
        "against the task's own share of tokens": line(
            [], [], mec="#3a3f47", mfc="none", marker="D", ms=4.5, lw=0
        ),
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, handlelength=1.2)


def _title(document: Mapping[str, Any]) -> str:
    compared = document["comparison"]
    toys = [mark.upper() for mark in TOYS if mark in document["marks"]]
    marked = f"{' and '.join(toys)} RUNS, NOT A RESULT — " if toys else ""
    seeds = len(compared["seeds"])
    return f"{marked}{compared['strategy']} on {compared['model']}, {compared['split']} split, {seeds} seeds"
