"""Figures drawn from run folders: loss curves, tokens per task, scores beside the published best.

    Image(png(loss_curves(runs)))

They are plain matplotlib `Figure`s made without pyplot, so no display, backend or global state matters.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    """The figure as a PNG image, sharp on a dense screen."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def loss_curves(runs: Sequence[RunFolder]) -> Figure:
    """Training loss over optimiser steps: one panel per task, one line per run.

    Reads `step` and `losses` (by task), or `loss` where a run has one task, from each run's events.
    """
    curves = defaultdict(list)
    for run in runs:
        for task in run.facts["tasks"]:
            if points := loss_points(run.events(), task):
                curves[task].append((_label(run.facts), points))
    with mpl.rc_context(STYLE):
        if not curves:
            return no_data("no run has recorded a loss")
        figure, panels = _panels(len(curves), PANEL)
        for axes, (task, lines) in zip(panels, curves.items(), strict=True):
            for number, (label, points) in enumerate(lines):
                axes.plot(
                    *zip(*points, strict=True), color=COLOURS[number % len(COLOURS)], lw=1.4, label=label
                )
            axes.set(title=task, xlabel="optimiser step", ylabel="training loss")
            axes.set_ylim(bottom=0)
            if len(runs) > 1:
                axes.legend(loc="upper right")
        return figure


def tokens_per_task(runs: Sequence[RunFolder]) -> Figure:
    """Real (unpadded) tokens that each run has trained on, split by task."""
    totals = [run.manifest()["totals"]["tokens"] for run in runs]
    tasks = sorted({task for tokens in totals for task in tokens})
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 0.9 + ROW * max(len(runs), 2))
        if not tasks:
            return no_data("no run has counted its tokens")
        left = [0] * len(runs)
        for number, task in enumerate(tasks):
            widths = [tokens.get(task, 0) for tokens in totals]
            axes.barh(
                range(len(runs)), widths, 0.6, left=left, color=COLOURS[number % len(COLOURS)], label=task
            )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        name_rows(axes, [_label(run.facts) for run in runs])
        axes.set_xlim(0, 1.05 * max(left) or 1)
        axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
        axes.set(xlabel="training tokens", title="Tokens per task")
        figure.legend(loc="outside lower center", ncols=3)
        return figure


def score_bars(table: pd.DataFrame) -> Figure:
    """The primary metric of every row of the overview table, with the best published figure marked."""
    scored = table[table["score"].notna()]
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 0.9 + 1.3 * ROW * max(len(scored), 2))
        if scored.empty:
            return no_data("no run has recorded its primary metric")
        rows = range(len(scored))
        toy = scored["flags"].str.contains("smoke|practice")
        axes.barh(rows, scored["score"], 0.5, color=toy.map({True: TOY, False: COLOURS[0]}))
        for row, score in zip(rows, scored["score"], strict=True):
            axes.annotate(f"{score:.4f}", (score, row), (4, 0), textcoords="offset points", va="center")
        if scored["published"].notna().any():
            axes.scatter(
                scored["published"], rows, marker="D", s=30, color=COLOURS[1], label="best published"
            )
            figure.legend(loc="outside lower center")
        name_rows(axes, [f"{_label(row)}\n{row['metric']}, {row['split']}" for _, row in scored.iterrows()])
        axes.set_xlim(0, 1.12 * scored[["score", "published"]].max(axis=None) or 1)
        note = " (grey: smoke or practice, not a result)" if toy.any() else ""
        axes.set(xlabel="score", title=f"Primary metric{note}")
        return figure


def arm_ranges(arms: pd.DataFrame) -> Figure:
    """Mean, lowest and highest score of every arm of `overview.arm_table`, a panel per task and split.

    The dotted line is the best published figure, where it applies.
    """
    with mpl.rc_context(STYLE):
        if arms.empty:
            return no_data("no run has recorded its primary metric")
        panels = list(arms.groupby(["task", "split", "metric"]))
        heights = [len(rows) for _, rows in panels]
        figure = Figure(figsize=(WIDTH, ROW * sum(heights) + 1.0 * len(panels)), layout="constrained")
        axes_of = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (names, rows) in zip(axes_of, panels, strict=True):
            toy = rows["flags"].str.contains("smoke|practice")
            for place, (row, grey) in enumerate(zip(rows.itertuples(), toy, strict=True)):
                colour = TOY if grey else COLOURS[0]
                axes.plot([row.lowest, row.highest], [place, place], color=colour, lw=2.2)
                axes.plot(row.mean, place, "o", color=colour, ms=6)
            if (best := rows["published"].max()) == best:
                axes.axvline(best, color=COLOURS[1], lw=1, ls=":", label="best published")
                axes.legend(loc="lower left")
            name_rows(axes, [f"{row.arm}, {row.model}, n = {row.runs}" for row in rows.itertuples()])
            axes.set(title=" · ".join(names) + (" (grey: not a result)" if toy.any() else ""))
        axes.set_xlabel("score: mean, lowest and highest run")
        return figure


def loss_points(events: Sequence[Mapping[str, Any]], task: str) -> list[tuple[int, float]]:
    """(step, loss) of a task, in order, without steps whose loss was no number."""
    points = [(event["step"], event.get("losses", {}).get(task, event.get("loss"))) for event in events]
    return [(int(step), float(loss)) for step, loss in points if loss is not None]


def _label(facts: Mapping[str, Any]) -> str:
    task = facts["task"] if "task" in facts else "+".join(facts["tasks"])
    return f"{task} · {facts['model']} · {facts['profile']} · seed {facts['seed']}"


def _panels(rows: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    return figure, figure.subplots(rows, 1, squeeze=False)[:, 0]


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """One name per horizontal row, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def no_data(words: str) -> Figure:
    """A small figure that says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH, 1.0))
    figure.text(0.5, 0.5, words, ha="center", va="center", color="#8a8f98", wrap=True)
    return figure
