"""The figures of 2016 Task 12 by hand: spans, attributes with their quirks, links and their closure."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.semeval2016t12 import closure, score

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "thyme_annotations"


def _note(root, name, entities=(), links=(), schema="Temporal-Relation", status="gold"):
    """Entities are (span, type, properties); links are (index, type, index) or full XML."""
    parts = []
    for number, (span, kind, properties) in enumerate(entities):
        inner = "".join(f"<{key}>{value}</{key}>" for key, value in properties.items())
        parts.append(
            f"<entity><id>{number}@e</id><span>{span}</span><type>{kind}</type>"
            f"<properties>{inner}</properties></entity>"
        )
    for number, (source, kind, target) in enumerate(links):
        parts.append(
            f"<relation><id>{number}@r</id><type>TLINK</type><properties><Source>{source}@e</Source>"
            f"<Type>{kind}</Type><Target>{target}@e</Target></properties></relation>"
        )
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{schema}.{status}.completed.xml"
    path.write_text("<data><annotations>" + "\n".join(parts) + "</annotations></data>")
    return path


@pytest.fixture
def gold(tmp_path):
    return tmp_path / "gold"


@pytest.fixture
def pred(tmp_path):
    (tmp_path / "pred").mkdir()
    return tmp_path / "pred"


def _row(figures, name):
    return tuple(figures[f"{name}_{figure}"] for figure in ("precision", "recall", "f1"))


def _events(*spans):
    return [(span, "EVENT", {}) for span in spans]


def test_spans_are_counted_over_all_notes_as_sets(gold, pred):
    _note(gold, "a_path", _events("0,4", "5,9", "5,9", "12,14"))
    _note(gold, "b_path", _events("0,4"))
    _note(pred, "a_path", _events("0,4", "0,4", "5,8"), status="system")
    figures = score(gold, pred)
    assert _row(figures, "event_span") == pytest.approx((1 / 2, 1 / 4, 1 / 3))
    assert not [name for name in figures if name.startswith(("timex3", "contains", "event_type"))]


def test_pieces_in_another_order_are_another_span(gold, pred):
    _note(gold, "a", _events("0,4;9,12"))
    _note(pred, "a", _events("9,12;0,4"))
    assert _row(score(gold, pred), "event_span") == (0, 0, 0)


def test_an_empty_prediction_has_full_precision_and_no_f1(gold, pred):
    _note(gold, "a", _events("0,4"))
    assert _row(score(gold, pred), "event_span") == (1, 0, 0)


def test_notes_that_only_the_prediction_has_are_ignored(gold, pred):
    for root in (gold, pred):
        _note(root, "a", _events("0,4"))
    _note(pred, "b", _events("0,4"))
    assert _row(score(gold, pred), "event_span") == (1, 1, 1)


def test_files_of_other_schemas_are_not_read_and_relations_are_preferred_to_entities(gold, pred):
    for schema, span in (("Temporal-Entity", "1,2"), ("Temporal-Relation", "0,4"), ("UMLS-Entity", "3,4")):
        _note(gold, "a", _events(span), schema=schema)
    _note(pred, "a", _events("0,4"), schema="Temporal-Entity", status="system")
    assert _row(score(gold, pred), "event_span") == (1, 1, 1)


def test_an_entity_without_the_attribute_counts_as_a_value_of_its_own_but_not_among_stated_ones(gold, pred):
    _note(gold, "a", [("0,4", "EVENT", {"Degree": "MOST"}), ("5,9", "EVENT", {}), ("10,12", "EVENT", {})])
    _note(
        pred,
        "a",
        [("0,4", "EVENT", {"Degree": "N/A"}), ("5,9", "EVENT", {}), ("10,12", "EVENT", {"Degree": ""})],
    )
    figures = score(gold, pred)
    assert _row(figures, "event_degree") == pytest.approx((1 / 3, 1 / 3, 1 / 3))  # 5,9: none = none
    assert _row(figures, "event_degree_stated") == (0, 0, 0)


def test_a_note_in_which_no_entity_has_the_attribute_adds_nothing_to_its_row(gold, pred):
    for root in (gold, pred):
        _note(root, "a", [("0,4", "TIMEX3", {"Class": "DATE"})])
    _note(gold, "b", [("0,4", "TIMEX3", {}), ("5,6", "TIMEX3", {})])
    _note(pred, "b", [("7,8", "TIMEX3", {})])
    figures = score(gold, pred)
    assert _row(figures, "timex3_class") == (1, 1, 1)
    assert _row(figures, "timex3_span") == pytest.approx((1 / 2, 1 / 3, 2 / 5))


def test_links_are_compared_by_spans_in_clinical_notes_only(gold, pred):
    spans = _events("0,1", "2,3", "4,5")
    for name in ("ID1_clinic_1", "ID1_path_2"):
        _note(gold, name, spans, [(0, "CONTAINS", 1), (0, "BEFORE", 2)])
    _note(pred, "ID1_clinic_1", spans[::-1], [(2, "CONTAINS", 1), (1, "CONTAINS", 2), (0, "BEFORE", 2)])
    assert _row(score(gold, pred), "contains") == pytest.approx((1 / 2, 1, 2 / 3))


def test_closure_credits_links_that_follow_from_the_others(gold, pred):
    spans = _events("0,1", "2,3", "4,5", "6,7")
    _note(gold, "clinic", spans, [(0, "CONTAINS", 1), (1, "CONTAINS", 2), (2, "CONTAINS", 3)])
    _note(pred, "clinic", spans, [(0, "CONTAINS", 2), (2, "CONTAINS", 3), (3, "CONTAINS", 0)])
    figures = score(gold, pred)
    assert _row(figures, "contains") == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    # 0 > 2 follows from the gold links; 2 > 3 is given; 0 > 1 and 1 > 2 follow from no prediction
    assert _row(figures, "contains_closure") == pytest.approx((2 / 3, 1 / 3, 4 / 9))


def test_on_a_cycle_everything_contains_everything():
    a, b, c, d = (((n, n + 1),) for n in range(4))
    assert closure({(a, b), (b, a)}) == {(a, b), (b, a), (a, a), (b, b)}
    assert closure({(a, b), (b, c), (c, b), (c, d)}) >= {(a, b), (a, c), (a, d), (b, b), (c, c), (b, d)}
    assert (b, a) not in closure({(a, b), (b, c), (c, b)})


def test_a_link_without_an_end_has_no_closure_figure_but_still_counts_as_a_link(gold, pred):
    spans = _events("0,1", "2,3")
    _note(gold, "clinic", spans, [(0, "CONTAINS", 1)])
    _note(pred, "clinic", spans, [(0, "CONTAINS", 1), (0, "CONTAINS", 7)])
    figures = score(gold, pred)
    assert _row(figures, "contains") == pytest.approx((1 / 2, 1, 2 / 3))
    assert not [name for name in figures if "closure" in name]


def test_files_that_the_program_cannot_read_are_refused_with_their_place(gold, pred):
    _note(gold, "a", _events("0,4"))
    path = _note(pred, "a", _events("0,x"))
    with pytest.raises(ScoreError, match="found span '0,x'"):
        score(gold, pred)
    path.write_text("<data>\n<annotations>")
    with pytest.raises(ScoreError, match=r"\.xml:2: found Premature end"):
        score(gold, pred)
    twice = "<entity><id>1</id><span>0,4</span><type>EVENT</type></entity>\n" * 2
    path.write_text(f"<data><annotations>{twice}</annotations></data>")
    with pytest.raises(ScoreError, match=r"\.xml:2: found id '1' twice"):
        score(gold, pred)


def test_folders_that_are_not_there_are_refused(gold, pred):
    with pytest.raises(ScoreError, match="no <ID>"):
        score(gold, pred)
    _note(gold, "a", _events("0,4"))
    with pytest.raises(ScoreError, match="no such folder"):
        score(gold, pred / "none")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_gold_notes_score_full_marks_against_themselves():
    figures = score(REAL / "Dev", REAL / "Dev")
    assert len(figures) == 48  # 10 official rows and 6 of stated values
    assert set(figures.values()) == {1.0}
