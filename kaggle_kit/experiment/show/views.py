"""Something to look at, as HTML in a notebook and as text elsewhere.

table(frame, "Scores on dev")
figure(loss_curves([run]))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import png

TITLE = '<div style="font-weight:600;margin:.6rem 0 .3rem">{}</div>'
NOTHING = "nothing to show yet"
WIDTH = 720  # pixels of a figure
LEFT = [{"selector": "th, td", "props": "text-align: left; vertical-align: top; padding: .2rem .6rem"}]
RIGHT = [{"selector": "th, td", "props": "text-align: right; font-variant-numeric: tabular-nums"}]


@dataclass(frozen=True)
class View:
    """The same thing twice; the notebook chooses."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(frame: pd.DataFrame, title: str = "", formats: dict[str, str] | None = None) -> None:
    """Show a table: numbers aligned to the right, everything escaped, the index left out."""
    if frame.empty:
        return show_html(title, f"<i>{NOTHING}</i>", NOTHING)
    formats = formats or {}
    numbers = [name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])]
    styler = frame.style.hide(axis="index").format(formats, na_rep="–", escape="html")
    styler = styler.format_index(axis="columns", escape="html").set_table_styles(LEFT)
    styler = styler.set_table_styles(dict.fromkeys(numbers, RIGHT), overwrite=False)
    cells = {name: formats[name].format for name in formats if name in frame}
    text = frame.to_string(index=False, formatters=cells, na_rep="–")
    show_html(title, styler.to_html(), text)


def figure(drawn: Figure) -> None:
    """Show a matplotlib figure."""
    display(Image(png(drawn), width=WIDTH))


def show_html(title: str, body: str, text: str) -> None:
    """Show `body` below a title; `text` is what stands for both where there is no notebook."""
    heading = TITLE.format(escape(title)) if title else ""
    display(View(heading + body, "\n".join(filter(None, (title, text)))))


def sentences(lines: Iterable[str], title: str = "") -> None:
    """Show sentences, one a line."""
    said = list(lines)
    show_html(title, "".join(f"<div>{escape(line)}</div>" for line in said), "\n".join(said))
