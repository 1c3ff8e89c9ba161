"""Pictures of transfer: the matrix with what is missing left blank, the predictors, one against the other.

Image(png(transfer_heatmap(found)))
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from kaggle_kit.analysis.figures import STYLE, TOY, WIDTH
from kaggle_kit.analysis.transfer import TransferMatrix

DIVERGING, SEQUENTIAL = "RdBu", "Blues"
CELL = 0.62  # inches
SIGNED = ("affinity", "conflict_excess", "log_size_ratio")  # predictors with a zero that means something


@mpl.rc_context(STYLE)
def transfer_heatmap(found: TransferMatrix, toy: bool = False) -> Figure:
    """Draw in row i, column j what training with j does to i, with the spread over the seeds.

    Blue gains, red loses; a missing cell says so. `toy` marks runs that are no results.
    """
    tasks, values, spreads = found.tasks, np.multiply(100, found.values), np.multiply(100, found.spreads)
    words = np.empty(values.shape, dtype=object)
    for cell, value in np.ndenumerate(values):
        words[cell] = f"{value:+.1f}" + (f"\n± {spreads[cell]:.1f}" if np.isfinite(spreads[cell]) else "")
    figure = Figure(figsize=(WIDTH, 1.6 + CELL * len(tasks)), layout="constrained")
    axes = figure.subplots()
    image = _heatmap(axes, values, tasks, words, signed=True)
    for row, column in ([tasks.index(task) for task in pair] for pair in found.missing):
        axes.text(column, row, "missing", ha="center", va="center", color="#8a8f98", fontsize=7)
    note = " (smoke or practice: no result)" if toy else ""
    axes.set_title(f"Transfer at equal tokens, points of the task's own metric{note}")
    axes.set(xlabel="trained together with", ylabel="task")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


@mpl.rc_context(STYLE)
def predictor_heatmaps(predictors: Mapping[str, np.ndarray], tasks: Sequence[str]) -> Figure:
    """Draw a panel per predictor, laid out as the transfer matrix; what could not be measured is blank."""
    columns = min(3, len(predictors))
    rows = -(-len(predictors) // columns)
    size = (1.35 * WIDTH, rows * (0.9 + 0.38 * len(tasks)) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    for number, (name, matrix) in enumerate(predictors.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        words = np.array([[_short(value) for value in row] for row in matrix])
        _heatmap(axes, matrix, tasks, words, name in SIGNED, size=6)
        axes.set_title(name.replace("_", " "))
        if number % columns:
            axes.set_yticklabels([])
        if number + columns < len(predictors):
            axes.set_xticklabels([])
    return figure


def _heatmap(
    axes: Axes, values: np.ndarray, tasks: Sequence[str], words: np.ndarray, signed: bool, size: float = 8
) -> AxesImage:
    """Draw known cells in colour with their words on them, white on a dark one; the diagonal is grey."""
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max()) if known.size else 1.0
    least, colours = (-most, DIVERGING) if signed else (0.0, SEQUENTIAL)
    axes.set_facecolor("#f4f5f6")
    cells = np.ma.masked_invalid(values)
    image = axes.imshow(cells, cmap=colours, aspect="auto", vmin=least, vmax=most)
    axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right", fontsize=7)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=7)
    axes.tick_params(length=0)
    axes.grid(False)
    for place in range(len(tasks)):
        axes.add_patch(mpl.patches.Rectangle((place - 0.5, place - 0.5), 1, 1, color=TOY, alpha=0.6, lw=0))
    for row, column in np.argwhere(np.isfinite(values)):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#22262c"
        word = words[row, column]
        axes.text(column, row, word, ha="center", va="center", fontsize=size, color=colour)
    return image


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.0e}"
