"""Examples of errors: both sides in their words, a browser where a kernel is live, nothing restricted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import ipywidgets
import pytest

from kaggle_kit.analysis.error_types import mention_errors, relation_errors
from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, UnifiedSample
from kaggle_kit.experiment.show import error_examples
from kaggle_kit.experiment.show.error_examples import case_table, case_view, error_browser
from tests.experiment.show_of import displayed  # noqa: F401

TEXT = "Fever and a dry cough after aspirin."
GOLD = UnifiedSample(
    "d",
    TEXT,
    "dev",
    Access.PUBLIC,
    (
        Mention("T1", ((0, 5),), "Sign"),
        Mention("T2", ((12, 21),), "Sign"),
        Mention("T3", ((28, 35),), "Drug"),
    ),
    (Relation("R1", "causes", "T3", "T2"),),
)
TOLD = replace(GOLD, text=None, mentions=(Mention("T1", ((16, 21),), "Sign", score=0.7), GOLD.mentions[2]))
LABELS, LINKS = ("Sign", "Drug"), ComponentSpec("links", Kind.RELATIONS, 2, ("causes",))


def test_cases_are_shown_in_their_words():
    cases = mention_errors(LABELS, [GOLD], [TOLD]).cases
    rows = case_table(cases, [GOLD], 1).set_index("category")
    assert rows.loc["boundary", ["gold", "predicted"]].tolist() == ["dry cough / Sign", "cough / Sign"]
    assert rows.loc["missed", ["gold", "predicted"]].tolist() == ["Fever / Sign", "–"]
    html, text = case_view(next(case for case in cases if case.category == "boundary"), GOLD)
    assert (
        "[dry cough / Sign, gold]" in text
        and "[cough / Sign, predicted]" in text
        and html.count("<mark") == 2
    )
    told = replace(TOLD, mentions=GOLD.mentions, relations=())
    (missed,) = relation_errors(LINKS, [GOLD], [told]).cases
    assert case_table([missed], [GOLD], 1)["gold"].tolist() == ["aspirin → dry cough / causes"]


def test_restricted_text_is_withheld_everywhere():
    secret = replace(GOLD, access=Access.RESTRICTED)
    cases = mention_errors(LABELS, [secret], [TOLD]).cases
    shown = case_table(cases, [secret], 1).to_string() + "".join(
        str(case_view(case, secret)) for case in cases
    )
    assert "withheld" in shown
    assert not any(word in shown for word in ("Fever", "cough", "aspirin"))


@pytest.mark.parametrize("live", [False, True])
def test_a_live_kernel_gets_a_browser_of_all_errors(live, displayed, monkeypatch):  # noqa: F811
    widgets = []
    monkeypatch.setattr(error_examples, "display", widgets.append)
    monkeypatch.setattr(
        error_examples, "get_ipython", lambda: SimpleNamespace(kernel=object()) if live else None
    )
    error_browser(mention_errors(LABELS, [GOLD], [TOLD]), [GOLD])
    assert displayed[0].startswith("Examples, of 2 errors") and "dry cough" in displayed[0]
    assert bool(widgets) is live
    if live:
        kind, number, shown = widgets[0].children
        assert isinstance(shown, ipywidgets.HTML) and "missed" in kind.options and number.max == 2
        kind.value = "missed"
        assert (
            number.max == 1 and shown.value.startswith("<b>missed</b>, d<div") and "Fever<sub" in shown.value
        )
