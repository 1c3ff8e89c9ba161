"""Something to look at, as HTML in a notebook and as text elsewhere: tables, figures, sentences.

table(rows, "Scores on dev", {"score": "{:.4f}"})
lines({"task": {0: 0.5, 1: 0.6}}, "Weight of the shared adapter", xlabel="layer", ylabel="weight")
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import pandas as pd
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data, png

TITLE = '<div style="font-weight:600;margin:.6rem 0 .3rem">{}</div>'
NOTHING = "nothing to show yet"
WIDTH_PIXELS = 720
LEFT = [{"selector": "th, td", "props": "text-align: left; vertical-align: top; padding: .2rem .6rem"}]
RIGHT = [{"selector": "th, td", "props": "text-align: right; font-variant-numeric: tabular-nums"}]
NUMBERS = {"i": "{:,}", "u": "{:,}", "f": "{:.4f}"}  # kind of a column -> how its numbers are written
SPECIAL = {  # and those of these columns
    **dict.fromkeys(("difference", "low", "high", "trimmed mean", "change"), "{:+.4f}"),
    **dict.fromkeys(("p", "p, no difference", "p, all controls", "p, beyond the margin", "p_holm"), "{:.3g}"),
    **dict.fromkeys(
        ("share", "share of seen", "widest difference", "within reach", "recall", "ratio", "conflicts"),
        "{:.1%}",
    ),
    **dict.fromkeys(("excess", "share of the sum"), "{:+.1%}"),
    **dict.fromkeys(
        ("passes", "epochs", "epochs over its data", "norm of a state", "length before"), "{:.2f}"
    ),
    **dict.fromkeys(("mean cosine", "cosine with the sum"), "{:+.3f}"),
    **{"more seeds": "{:.0f}", "at": "{:.0%}", "seconds": "{:.1f}", "moved from the pass before": "{:.3f}"},
}


@dataclass(frozen=True)
class View:
    """The same thing twice; the notebook chooses."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    title: str = "",
    formats: Mapping[str, str] | None = None,
) -> None:
    """Show a table: numbers aligned to the right, everything escaped, the index left out.

    `formats` are those of columns that differ from `NUMBERS` and `SPECIAL`.
    """
    frame = pd.DataFrame(rows)
    if frame.empty:
        return show_html(title, f"<i>{NOTHING}</i>", NOTHING)
    kinds = {name: dtype.kind for name, dtype in frame.dtypes.items()}
    known = {name: SPECIAL.get(name, NUMBERS[kind]) for name, kind in kinds.items() if kind in NUMBERS}
    formats = {name: form for name, form in (known | dict(formats or {})).items() if name in kinds}
    numbers = [name for name, kind in kinds.items() if kind in (*NUMBERS, "b")]
    styler = frame.style.hide(axis="index").format(formats, na_rep="–", escape="html")
    styler = styler.format_index(axis="columns", escape="html").set_table_styles(LEFT)
    styler = styler.set_table_styles(dict.fromkeys(numbers, RIGHT), overwrite=False)
    cells = {name: form.format for name, form in formats.items()}
    show_html(title, styler.to_html(), frame.to_string(index=False, formatters=cells, na_rep="–"))


def facts(pairs: Iterable[tuple[str, Any]], title: str) -> None:
    """Show pairs of a name and what was found as a table of two columns."""
    table([{"what": name, "found": value} for name, value in pairs], title)


def figure(drawn: Figure) -> None:
    """Show a matplotlib figure."""
    display(Image(png(drawn), width=WIDTH_PIXELS))


@contextmanager
def panel(title: str, height: float = 2.8, xlabel: str = "", ylabel: str = "") -> Iterator[Axes]:
    """Draw on one pair of axes in the house's style; the figure is shown at the end of the block."""
    with mpl.rc_context(STYLE):
        chart = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = chart.subplots()
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        yield axes
    figure(chart)


def lines(
    curves: Mapping[str, Mapping[int, float]],
    title: str,
    empty: str = NOTHING,
    *,
    xlabel: str,
    ylabel: str,
    level: float | None = None,
    top: float | None = None,
) -> None:
    """Show one line for each name, from x -> y, or say in a small figure that there is none.

    `level` is the height of a dotted line across, `top` that of the panel, if the lines are not to set it.
    """
    if not any(curves.values()):
        return figure(no_data(empty))
    with panel(title, xlabel=xlabel, ylabel=ylabel) as axes:
        for number, (name, points) in enumerate(curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(list(points), list(points.values()), "o-", ms=3, color=colour, label=name)
        if level is not None:
            axes.axhline(level, color="#8a8f98", lw=0.8, ls=":")
        axes.set_ylim(0, top)
        axes.locator_params(axis="x", integer=True)
        axes.figure.legend(loc="outside right upper")


def show_html(title: str, body: str, text: str) -> None:
    """Show `body` below a title; `text` is what stands for both where there is no notebook."""
    heading = TITLE.format(escape(title)) if title else ""
    display(View(heading + body, "\n".join(filter(None, (title, text)))))


def sentences(lines: Iterable[str], title: str = "") -> None:
    """Show sentences, one a line."""
    words = list(lines)
    show_html(title, "".join(f"<div>{escape(line)}</div>" for line in words), "\n".join(words))
