"""Pictures of transfer: the matrix with what is missing left blank, the predictors, one against the other.

Image(png(transfer_heatmap(found)))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import STYLE, TOY, WIDTH
from kaggle_kit.analysis.transfer import TransferMatrix

DIVERGING, SEQUENTIAL = "RdBu", "Blues"
CELL = 0.62  # inches
SIGNED = ("affinity", "conflict_excess", "log_size_ratio")  # predictors with a zero that means something


def transfer_heatmap(found: TransferMatrix, toy: bool = False) -> Figure:
    """Row i, column j: what training with j does to i, with the spread over the seeds.

    Blue gains, red loses; a missing cell says so. `toy` marks runs that are no results.
    """
    tasks, values, spreads = found.tasks, 100 * found.values, 100 * found.spreads
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.6 + CELL * len(tasks)), layout="constrained")
        axes = figure.subplots()
        image = _heatmap(axes, values, tasks, DIVERGING, signed=True)
        for row, column in np.argwhere(np.isfinite(values)):
            spread = spreads[row, column]
            words = f"{values[row, column]:+.1f}" + (f"\n± {spread:.1f}" if np.isfinite(spread) else "")
            _write(axes, row, column, words, image)
        for pair in found.missing:
            row, column = (tasks.index(task) for task in pair)
            axes.text(column, row, "missing", ha="center", va="center", color="#8a8f98", fontsize=7)
        note = " (smoke or practice: no result)" if toy else ""
        axes.set_title(f"Transfer at equal tokens, points of the task's own metric{note}")
        axes.set(xlabel="trained together with", ylabel="task")
        figure.colorbar(image, ax=axes, shrink=0.8)
        return figure


def predictor_heatmaps(predictors: Mapping[str, np.ndarray], tasks: Sequence[str]) -> Figure:
    """One panel per predictor, laid out as the transfer matrix; what could not be measured stays blank."""
    columns = min(3, len(predictors))
    rows = -(-len(predictors) // columns)
    height = rows * (0.9 + 0.38 * len(tasks)) + 0.8
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.35 * WIDTH, height), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(predictors) :]:
            axes.set_visible(False)
        for number, (axes, (name, matrix)) in enumerate(zip(panels.flat, predictors.items(), strict=False)):
            signed = name in SIGNED
            image = _heatmap(axes, matrix, tasks, DIVERGING if signed else SEQUENTIAL, signed)
            for row, column in np.argwhere(np.isfinite(matrix)):
                _write(axes, row, column, _short(matrix[row, column]), image, size=6)
            axes.set_title(name.replace("_", " "))
            if number % columns:
                axes.set_yticklabels([])
            if number + columns < len(predictors):
                axes.set_xticklabels([])
        return figure


def _heatmap(axes: Axes, values: np.ndarray, tasks: Sequence[str], colours: str, signed: bool):
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max()) if known.size else 1.0
    limits = {"vmin": -most, "vmax": most} if signed else {"vmin": 0.0, "vmax": most}
    axes.set_facecolor("#f4f5f6")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, aspect="auto", **limits)
    axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right", fontsize=7)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=7)
    axes.tick_params(length=0)
    axes.grid(False)
    for place in range(len(tasks)):
        axes.add_patch(mpl.patches.Rectangle((place - 0.5, place - 0.5), 1, 1, color=TOY, alpha=0.6, lw=0))
    return image


def _write(axes: Axes, row: int, column: int, words: str, image, size: float = 8) -> None:
    """Text in a cell, white on a dark one."""
    red, green, blue, _ = image.cmap(image.norm(image.get_array()[row, column]))
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    style = {"ha": "center", "va": "center", "fontsize": size}
    axes.text(column, row, words, color="white" if dark else "#22262c", **style)


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.0e}"
