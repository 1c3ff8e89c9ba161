"""Differences between two arms as a picture, made from the documents of `contrasts`.

Image(png(contrast_figure(documents)))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from kaggle_kit.analysis.contrasts import HIGHER, LOWER
from kaggle_kit.analysis.figures import COLOURS, ROW, STYLE, TOY, WIDTH, name_rows, no_data

COLOUR = {HIGHER: COLOURS[0], LOWER: COLOURS[1]}  # a higher drop is worse, so no colour means good
POINTS = 100  # a score of 1 in points


def contrast_figure(documents: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel per comparison, a row per difference in points with its interval; one seed has none.

    Blue: higher. Orange: lower. Grey: no difference is shown, or none could be.
    """
    judged = [document for document in documents if document.get("contrasts")]
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        if not judged:
            return no_data("no two arms have finished that could be compared")
        heights = [len(document["contrasts"]) for document in judged]
        size = (WIDTH, 1.5 * ROW * sum(heights) + 1.1 * len(judged))
        drawn = Figure(figsize=size, layout="constrained")
        panels = drawn.subplots(len(judged), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, document in zip(panels, judged, strict=True):
            _panel(axes, document)
        return drawn


def _panel(axes: mpl.axes.Axes, document: Mapping[str, Any]) -> None:
    for row, found in enumerate(document["contrasts"]):
        colour = COLOUR.get(found["verdict"], TOY)
        if found["low"] is not None:
            ends = [POINTS * found[end] for end in ("low", "high")]
            axes.plot(ends, [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot(POINTS * found["difference"], row, "o", color=colour, ms=6)
        where = {"xycoords": ("axes fraction", "data"), "va": "center", "color": "#3a3f47"}
        axes.annotate(found["verdict"], (1.02, row), fontsize=8, **where)
    axes.axvline(0, color="#3a3f47", lw=0.9, zorder=1)
    names = [f"{f['first']} − {f['second']}, n = {len(f['seeds'])}" for f in document["contrasts"]]
    figures = [f"{found['task']}, {found['figure']}" for found in document["contrasts"]]
    name_rows(axes, ["\n".join(both) for both in zip(names, figures, strict=True)])
    toys = " and ".join(mark for mark in document["marks"] if mark != "restricted")
    axes.set_title(f"{document['title']}{f' ({toys}: no result)' if toys else ''}", fontsize=8)
    axes.set_xlabel("points; bars are intervals over seeds and documents")
