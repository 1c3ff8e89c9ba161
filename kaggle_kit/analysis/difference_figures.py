"""Differences between arms as pictures, made from the documents of a verdict or of contrasts alone.

    Image(png(verdict_figure(document))); Image(png(contrast_figure(documents)))

A row is a difference in points with its interval over seeds and documents. Of a verdict it is that to the
total control at its last step, over the margin's band; small dots are single seeds; open marks above it are
the differences to the other controls, with their intervals: genuine transfer has to beat them as well.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kaggle_kit.analysis.contrasts import HIGHER, LOWER
from kaggle_kit.analysis.figures import (
    COLOURS,
    PANEL,
    ROW,
    STYLE,
    TOY,
    draw_range,
    name_rows,
    no_data,
    stacked,
)
from kaggle_kit.analysis.overview import TOYS
from kaggle_kit.analysis.verdict_rule import Control, Verdict
from kaggle_kit.analysis.verdict_tables import over_all_tasks
from kaggle_kit.analysis.verdict_words import with_interim_mark

COLOUR: dict[str, str] = {Verdict.GENUINE: COLOURS[2], Verdict.EXPOSURE: COLOURS[0]}
COLOUR |= {Verdict.NEGATIVE: COLOURS[1], Verdict.REGULARISATION: COLOURS[3], Verdict.UNDECIDED: "#6b6b6b"}
COLOUR |= {HIGHER: COLOURS[0], LOWER: COLOURS[1]}  # a higher drop is worse, so no colour means good
OTHERS = {  # mark and name of the other controls
    Control.SHARE: ("D", "own share of tokens"),
    Control.BEST: ("^", "best development point"),
    Control.PLACEBO: ("s", "permuted labels"),
}
BAND, DARK = "#e6e8eb", "#3a3f47"
POINTS = 100  # a score of 1 in points, a ratio of 1 in per cent
TITLE_LETTERS = 70  # a line of a title, which has to fit between the notes on either side
HORIZONTAL = STYLE | {"axes.grid.axis": "x"}


@mpl.rc_context(HORIZONTAL)
def verdict_figure(document: Mapping[str, Any]) -> Figure:
    """Draw differences, intervals and margins of every task and of all together, with their verdicts."""
    if not document["tasks"]:
        return no_data(document["reason"])
    tasks, overall = document["tasks"], over_all_tasks(document)
    figure, (upper, lower) = stacked([0.95 + 2.0 * ROW * len(members) for members in (tasks, overall)])
    metrics, seeds = document["comparison"]["metrics"], len(document["comparison"]["seeds"])
    _judged(upper, {f"{task}\n{metrics[task]['name']}": member for task, member in tasks.items()}, document)
    upper.set_xlabel("multi-task minus token-controlled single-task, points")
    _judged(lower, overall, document)
    lower.set_xlabel("mean over tasks, per cent of the way from trivial to published")
    toys = [mark.upper() for mark in TOYS if mark in document["marks"]]
    warning = f"{' and '.join(toys)} RUNS, NOT A RESULT — " if toys else ""
    warning += "INTERIM — " if document["interim"] else ""
    names = "{strategy} on {model}, {split} split".format_map(document["comparison"])
    upper.set_title(f"{warning}{names}, {seeds} seeds")
    handles, labels = upper.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=3, handlelength=1.2)
    return figure


@mpl.rc_context(HORIZONTAL)
def contrast_figure(documents: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a panel per comparison, a row per difference with its interval; one seed has none.

    Blue: higher. Orange: lower. Grey: no difference is shown, or none could be.
    """
    drawable = [document for document in documents if document.get("contrasts")]
    if not drawable:
        return no_data("no two arms have finished that could be compared")
    figure, panels = stacked([1.1 + 1.5 * ROW * len(document["contrasts"]) for document in drawable])
    for axes, document in zip(panels, drawable, strict=True):
        for row, one in enumerate(document["contrasts"]):
            ends = None if one["low"] is None else (POINTS * one["low"], POINTS * one["high"])
            draw_range(axes, row, POINTS * one["difference"], ends, COLOUR.get(one["verdict"], TOY))
            _note(axes, row, one["verdict"], fontsize=8, color=DARK)
        rows = "{first} − {second}, n = {n}\n{task}, {figure}"
        names = [rows.format_map(one | {"n": len(one["seeds"])}) for one in document["contrasts"]]
        _around_zero(axes, names)
        toys = " and ".join(mark for mark in document["marks"] if mark in TOYS)
        title = f"{document['title']}{f' ({toys}: no result)' if toys else ''}"
        axes.set_title(fill(title, TITLE_LETTERS), fontsize=8)
        axes.set_xlabel("points; bars are intervals over seeds and documents")
    return figure


@mpl.rc_context(STYLE)
def development_curves(document: Mapping[str, Any]) -> Figure:
    """Draw development scores over the share of the token budget: a panel per task, a thin line per seed."""
    training = document.get("training", {})
    if not training:
        return no_data("nothing was judged, so there is no training to compare")
    figure, panels = stacked([PANEL] * len(training))
    for axes, (task, arms) in zip(panels, training.items(), strict=True):
        for colour, (name, arm) in zip(COLOURS, arms.items(), strict=False):
            for seed, curve in enumerate(arm["development"]):
                points = np.array([(100 * share, score) for share, score in curve if score is not None])
                label = f"{name}, n = {len(arm['development'])}" if seed == 0 else None
                axes.plot(*points.reshape(-1, 2).T, ".-", color=colour, lw=1, alpha=0.7, label=label)
        axes.set(title=f"{task}, one line a seed", xlabel="per cent of the token budget")
        axes.set_ylabel("development score")
        axes.legend(loc="lower right")
    return figure


def _judged(axes: Axes, members: Mapping[str, Mapping[str, Any]], document: Mapping[str, Any]) -> None:
    """Draw a row for each member of a family of verdicts; marks of one label look alike in every row."""
    for row, member in enumerate(members.values()):
        margin, colour = POINTS * member["margin"], COLOUR[member["verdict"]]
        axes.barh(row, 2 * margin, 0.96, left=-margin, color=BAND, zorder=0, label="equivalence margin")
        low, high = member["interval"]
        draw_range(axes, row, POINTS * member["difference"], (POINTS * low, POINTS * high), colour)
        if "scores" in member:
            seeds = POINTS * np.subtract(member["scores"]["multi_task"], member["scores"]["total"])
            places = np.full(len(seeds), row + 0.27)
            axes.plot(seeds, places, ".", color=TOY, ms=4, zorder=2, label="one seed")
        others = [control for control in OTHERS if control in member["contrasts"]]
        for number, control in enumerate(others, start=1):
            contrast, place = member["contrasts"][control], row - 0.15 * number
            ends, (marker, name) = [POINTS * end for end in contrast["interval"]], OTHERS[control]
            axes.plot(ends, [place, place], color=colour, lw=0.9, alpha=0.6, zorder=3)
            value, label = POINTS * contrast["difference"], f"against: {name}"
            axes.plot(value, place, marker, mfc="white", mec=colour, ms=4.5, zorder=4, label=label)
        _note(axes, row, with_interim_mark(document, member["verdict"]), color=colour, weight="bold")
    _around_zero(axes, list(members))
    axes.use_sticky_edges = False  # room beside a band that is wider than all estimates
    axes.autoscale(axis="x")


def _note(axes: Axes, row: float, words: str, **style: Any) -> None:
    axes.annotate(words, (1.02, row), xycoords=("axes fraction", "data"), va="center", **style)


def _around_zero(axes: Axes, names: Sequence[str]) -> None:
    axes.axvline(0, color=DARK, lw=0.9, zorder=1)
    name_rows(axes, names)
