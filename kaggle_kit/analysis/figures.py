"""Figures drawn from run folders, and what all figures share: style, panels, rows with ranges.

    Image(png(loss_curves(runs)))

They are plain matplotlib `Figure`s made without pyplot, so no display, backend or global state matters.
"""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kaggle_kit.analysis.overview import TOY_FLAGS, arm_of
from kaggle_kit.core.artifacts import RunFolder

COLOURS = ("#2f6690", "#d1603d", "#4f8a5b", "#8a5a94", "#c2962f", "#3d9aa1", "#8c4a4a", "#6b6b6b")
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names come from run folders
    "axes.edgecolor": "#8a8f98",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3a3f47",
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": "#3a3f47",
    "ytick.color": "#3a3f47",
}
TOY = "#b9bec6"  # for what must not be read as a result
WIDTH = 7.2  # inches
ROW = 0.42  # inches that one horizontal bar takes
PANEL = 2.7  # inches that one curve panel takes


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG image, sharp on a dense screen."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def loss_curves(runs: Sequence[RunFolder]) -> Figure:
    """Draw the training loss over optimiser steps: one panel per task, one line per run, one colour per arm.

    Reads `step` and `losses` (by task), or `loss` where a run has one task, from each run's events.
    """
    curves = defaultdict(list)
    for run in runs:
        for task in run.facts["tasks"]:
            if points := loss_points(run.events(), task):
                curves[task].append((_arm(run), points))
    if not curves:
        return no_data("no run has recorded a loss")
    figure, panels = stacked([PANEL] * len(curves))
    for axes, (task, lines) in zip(panels, curves.items(), strict=True):
        colours = dict(zip(dict(lines), cycle(COLOURS), strict=False))
        for number, (arm, points) in enumerate(lines):
            first = arm not in dict(lines[:number])
            axes.plot(*zip(*points, strict=True), color=colours[arm], lw=1, label=arm if first else None)
        axes.set(title=task, xlabel="optimiser step", ylabel="training loss")
        axes.set_ylim(bottom=0)
        if len(runs) > 1:
            axes.legend(loc="upper right")
    return figure


@mpl.rc_context(STYLE)
def tokens_per_task(runs: Sequence[RunFolder]) -> Figure:
    """Draw the real (unpadded) tokens that each run has trained on, split by task."""
    totals = pd.DataFrame([run.manifest()["totals"]["tokens"] for run in runs]).fillna(0).sort_index(axis=1)
    if totals.empty:
        return no_data("no run has counted its tokens")
    figure, (axes,) = stacked([0.9 + ROW * max(len(runs), 2)])
    left = totals.cumsum(axis=1) - totals
    for task, colour in zip(totals, cycle(COLOURS), strict=False):
        axes.barh(totals.index, totals[task], 0.6, left=left[task], color=colour, label=task)
    name_rows(
        axes, [f"{_arm(run)} · {'+'.join(run.facts['tasks'])}, seed {run.facts['seed']}" for run in runs]
    )
    axes.set_xlim(0, 1.05 * totals.sum(axis=1).max() or 1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set(xlabel="training tokens", title="Tokens per task")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@mpl.rc_context(STYLE)
def arm_ranges(arms: pd.DataFrame) -> Figure:
    """Draw mean, lowest and highest score of every arm of `overview.arm_table`, a panel per task and split.

    The dotted line is the best published figure, where it applies.
    """
    if arms.empty:
        return no_data("no run has recorded its primary metric")
    panels = list(arms.groupby(["task", "split", "metric"]))
    figure, axes_of = stacked([ROW * len(rows) + 1.0 for _, rows in panels])
    for axes, (names, rows) in zip(axes_of, panels, strict=True):
        toy = rows["flags"].str.contains(TOY_FLAGS)
        for place, (row, grey) in enumerate(zip(rows.itertuples(), toy, strict=True)):
            draw_range(axes, place, row.mean, (row.lowest, row.highest), TOY if grey else COLOURS[0])
        if (best := rows["published"].max()) == best:
            axes.axvline(best, color=COLOURS[1], lw=1, ls=":", label="best published")
            axes.legend(loc="lower left")
        name_rows(axes, [f"{row.arm}, {row.model}, n = {row.runs}" for row in rows.itertuples()])
        axes.set(title=" · ".join(names) + (" (grey: not a result)" if toy.any() else ""))
    axes.set_xlabel("score: mean, lowest and highest run")
    return figure


def loss_points(events: Sequence[Mapping[str, Any]], task: str) -> list[tuple[int, float]]:
    """Return (step, loss) of a task, in order, without steps whose loss was no number."""
    points = [(event["step"], event.get("losses", {}).get(task, event.get("loss"))) for event in events]
    return [(int(step), float(loss)) for step, loss in points if loss is not None]


def _arm(run: RunFolder) -> str:
    """Return the run's arm, and its model; only a manifest knows of what a run is a control."""
    known = run.manifest() if run.manifest_json.is_file() else run.facts
    return f"{arm_of(known)} · {run.facts['model']}"


def stacked(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels one below the other, `heights` inches each, and the panels."""
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    return figure, list(figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])


def draw_range(axes: Axes, row: float, value: float, ends: tuple[float, float] | None, colour: str) -> None:
    """Draw a value as a point and its range, where there is one, as a bar in a row of `axes`."""
    if ends:
        axes.plot(ends, [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=3)
    axes.plot(value, row, "o", color=colour, ms=7, zorder=4)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write one name beside each horizontal row, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def no_data(words: str) -> Figure:
    """Return a small figure that says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH, 1.0))
    figure.text(0.5, 0.5, words, ha="center", va="center", color="#8a8f98", wrap=True)
    return figure
