"""Examples of errors: a table of a few, and in a live notebook a browser of all; never restricted text."""

from collections.abc import Sequence
from html import escape

import ipywidgets
import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import display

from kaggle_kit.analysis.error_types import CORRECT, Case, Errors, Item, places_of
from kaggle_kit.core.types import Access, Mention, UnifiedSample
from kaggle_kit.experiment.show.marked import GOLD, WITHHELD, WRONG, marked_text
from kaggle_kit.experiment.show.views import table

MOST = 60  # characters shown of a mention


def error_browser(errors: Errors, gold: Sequence[UnifiedSample], each: int = 2) -> None:
    """Show `each` errors of every category as a table, then a browser where a notebook is live."""
    cases = [case for case in errors.cases if case.category != CORRECT]
    table(case_table(cases, gold, each), f"Examples, of {len(cases):,} errors", {"score": "{:.2f}"})
    if cases and getattr(get_ipython(), "kernel", None):
        _browser(("all", *errors.categories), cases, {sample.document_id: sample for sample in gold})


def case_table(cases: Sequence[Case], gold: Sequence[UnifiedSample], each: int) -> pd.DataFrame:
    """Return the first `each` cases of every category with the words of both sides, unless restricted."""
    samples = {sample.document_id: sample for sample in gold}
    rows = pd.DataFrame(cases, columns=Case._fields).groupby("category", sort=False).head(each)
    samples_of_rows = rows["document"].map(samples)
    told = {side: list(map(_words, rows[side], samples_of_rows)) for side in ("gold", "predicted")}
    return rows[["category", "document", "score"]].assign(**told)


def _words(item: Item | None, sample: UnifiedSample) -> str:
    if item is None:
        return "–"
    if sample.access == Access.RESTRICTED or sample.text is None:
        return f"{WITHHELD} / {item.label}"
    ends = [Mention("", place.fragments, "").text(sample.text)[:MOST] for place in places_of(item)]
    return f"{' → '.join(ends)} / {item.label}"


def _browser(kinds: Sequence[str], cases: Sequence[Case], samples: dict[str, UnifiedSample]) -> None:
    kind = ipywidgets.Dropdown(options=kinds, description="category")
    number, shown = ipywidgets.BoundedIntText(1, min=1, description="example"), ipywidgets.HTML()

    def draw(_: object) -> None:
        chosen = [case for case in cases if kind.value in ("all", case.category)]
        number.max = max(1, len(chosen))
        shown.value = ""
        for case in chosen[number.value - 1 : number.value]:
            view, _ = case_view(case, samples[case.document])
            shown.value = f"<b>{case.category}</b>, {escape(case.document)}{view}"

    kind.observe(draw, "value")
    number.observe(draw, "value")
    draw(None)
    display(ipywidgets.VBox([kind, number, shown]))


def case_view(case: Case, sample: UnifiedSample) -> tuple[str, str]:
    """Return (HTML, text) of both sides of a case in their text; of restricted text that it is withheld."""
    if sample.access == Access.RESTRICTED or sample.text is None:
        return WITHHELD, WITHHELD
    views = []
    for item, colour, side in ((case.gold, GOLD, "gold"), (case.predicted, WRONG, "predicted")):
        places = [Mention("", place.fragments, place.label) for place in places_of(item)]
        if places:
            marks = [(m, colour, f"{m.type}, {side}") for m in places]
            views.append(marked_text(sample.text, marks))
    return "".join(html for html, _ in views), "\n".join(text for _, text in views)
