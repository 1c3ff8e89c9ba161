"""Pictures of the instruments: reliability diagrams, errors by category, confusion of types, probes by layer.

reliability_figure({"notes, mentions": reliability_table(found)}, "not a result")
"""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.error_types import OF_MENTIONS, OF_RELATIONS
from kaggle_kit.analysis.figures import COLOURS, ROW, STYLE, WIDTH, name_rows, no_data

ACROSS = 3  # diagrams beside each other
CELL = 0.5  # inches
OF_CATEGORY = dict(zip(dict.fromkeys((*OF_MENTIONS, *OF_RELATIONS)), COLOURS, strict=True))


@mpl.rc_context(STYLE)
def reliability_figure(tables: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Draw share right over confidence, a panel for each `reliability_table`, and below it the bins' counts.

    Bars are 95 % intervals. Below the diagonal a model is overconfident.
    """
    if not tables:
        return no_data("no prediction has a probability")
    rows, columns = -(-len(tables) // ACROSS), min(ACROSS, len(tables))
    figure = Figure(figsize=(max(4, 2.7 * columns), 3.7 * rows), layout="constrained")
    axes: Any = figure.subplots(2 * rows, columns, height_ratios=[3, 1] * rows, sharex=True, squeeze=False)
    for empty in range(len(tables), rows * columns):
        for panel in axes[2 * (empty // ACROSS) :, empty % ACROSS]:
            panel.set_visible(False)
    for number, (name, table) in enumerate(tables.items()):
        row, column = 2 * (number // ACROSS), number % ACROSS
        diagram, counts = axes[row, column], axes[row + 1, column]
        diagram.plot([0, 1], [0, 1], color="#8a8f98", lw=0.9, ls=":")
        ends = [table["share right"] - table["low"], table["high"] - table["share right"]]
        diagram.errorbar(table["confidence"], table["share right"], ends, fmt="o-", ms=4, color=COLOURS[0])
        diagram.set(title=f"{name}\nn = {table['n'].sum():,}{note}", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
        counts.bar(table["confidence"], table["n"], 0.03, color=COLOURS[0])
        counts.set(xlabel="confidence", yscale="log", ylim=(0.7, None))
        counts.yaxis.set_major_formatter("{x:,.0f}")
        counts.yaxis.set_minor_formatter(lambda *_: "")
        if column == 0:
            diagram.set_ylabel("share right")
            counts.set_ylabel("predictions")
    return figure


@mpl.rc_context(STYLE)
def probing_figure(
    tables: Mapping[str, Mapping[str, pd.DataFrame]], name: str, chance: Mapping[str, float], note: str = ""
) -> Figure:
    """Draw a figure of `layer_table` over layers: a panel for each property, a line with bars for each model.

    `tables` are by property and model, `chance` by property the height of the dotted line.
    """
    rows, columns = -(-len(tables) // ACROSS), min(ACROSS, len(tables))
    figure = Figure(figsize=(max(4, 2.9 * columns), 2.7 * rows + 0.5), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in axes[len(tables) :]:
        panel.set_visible(False)
    for panel, (what, models) in zip(axes, tables.items(), strict=False):
        for number, ((model, table), colour) in enumerate(zip(models.items(), cycle(COLOURS), strict=False)):
            place = table["layer"] + 0.08 * (number - (len(models) - 1) / 2)  # bars beside each other
            ends = [table[name] - table[f"{name} low"], table[f"{name} high"] - table[name]]
            style = {"ms": 3, "lw": 1.2, "elinewidth": 0.8, "color": colour, "label": model}
            panel.errorbar(place, table[name], np.maximum(ends, 0), fmt="o-", **style)
        panel.axhline(chance[what], color="#8a8f98", lw=0.9, ls=":")
        count = f"n = {table[f'{name} n'].iloc[0]:,.0f}"
        panel.set(title="\n".join([*what.split(", ", 1), count]), xlabel="layer (0: embeddings)")
        panel.locator_params(axis="x", integer=True)
        panel.set_ylabel(f"{name}{note}" if panel in axes[::columns] else "")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@mpl.rc_context(STYLE | {"axes.grid.axis": "x"})
def error_bars(counts: pd.DataFrame, title: str) -> Figure:
    """Draw a stacked bar of errors for each row: counts of (run or task, category)."""
    figure = Figure(figsize=(WIDTH, 1.3 + ROW * len(counts)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(counts))
    for name, numbers in counts.items():
        bars = axes.barh(range(len(counts)), numbers, 0.62, left=left, color=OF_CATEGORY[name], label=name)
        small = counts.to_numpy().sum(axis=1).max() / 30
        words = [f"{n:,}" if n > small else "" for n in numbers]
        axes.bar_label(bars, words, label_type="center", color="white")
        left += numbers.to_numpy()
    name_rows(axes, list(counts.index))
    axes.set(title=title, xlabel="errors")
    figure.legend(loc="outside lower center", ncols=len(counts.columns))
    return figure


@mpl.rc_context(STYLE)
def confusion_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the counts of `Errors.confusion`, each row shaded by its shares."""
    size = 1.4 + CELL * len(table)
    figure = Figure(figsize=(min(WIDTH, size + 1.6), size), layout="constrained")
    axes, counts = figure.subplots(), table.to_numpy()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.6)
    for (row, column), n in np.ndenumerate(counts):
        axes.text(column, row, f"{n:,}" if n else "·", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(table)), table.columns, rotation=40, ha="right", fontsize=7)
    axes.set_yticks(range(len(table)), table.index, fontsize=7)
    axes.grid(False)
    axes.set(title=title, xlabel="predicted", ylabel="gold")
    return figure
