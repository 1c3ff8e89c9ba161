"""MeasEval's rows counted by hand: pairs, one-sided rows, and what a set is excused for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.measeval import score

HEADER = "docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother\n"
WORDS = "abcd efgh ijkl mnop qrst uvwx yzab cdef"


def _row(annot_set: int, kind: str, start: int, end: int, name: str, other: dict | None = None) -> str:
    cells = ["d1", str(annot_set), kind, str(start), str(end), name, WORDS[start:end]]
    return "\t".join([*cells, json.dumps(other) if other else ""]) + "\n"


def _folder(folder: Path, *rows: str) -> Path:
    folder.mkdir()
    (folder / "d1.tsv").write_text(HEADER + "".join(rows), encoding="utf-8")
    return folder


def _score(tmp_path: Path, gold: list[str], pred: list[str]) -> dict[str, float]:
    return score(_folder(tmp_path / "gold", *gold), _folder(tmp_path / "pred", *pred))


GOLD = [
    _row(1, "Quantity", 0, 9, "T1-1", {"unit": "mm", "mods": ["IsMean", "IsRange"]}),
    _row(1, "MeasuredProperty", 10, 14, "T2-1", {"HasQuantity": "T1-1"}),
    _row(1, "MeasuredEntity", 15, 19, "T3-1", {"HasProperty": "T2-1"}),
    _row(1, "Qualifier", 20, 24, "T4-1", {"Qualifies": "T1-1"}),
]


def test_a_perfect_prediction_is_one_everywhere(tmp_path):
    figures = _score(tmp_path, GOLD, GOLD)
    assert set(figures.values()) == {1.0} and len(figures) == 23


def test_overlap_counts_blank_separated_parts_of_the_predicted_text(tmp_path):
    # "efgh ijkl" against "abcd efgh": one shared part of two on each side.
    gold, pred = [_row(1, "Quantity", 0, 9, "T1-1")], [_row(7, "Quantity", 5, 14, "T1-7")]
    figures = _score(tmp_path, gold, pred)
    assert figures["quantity_overlap_f1"] == figures["overlap_f1"] == 0.5
    assert figures["quantity_exact_match"] == 0.0 and figures["row_f1"] == 1.0


def test_quantities_that_only_touch_match_with_an_empty_stretch_of_one_part(tmp_path):
    figures = _score(tmp_path, [_row(1, "Quantity", 0, 4, "T1-1")], [_row(1, "Quantity", 4, 9, "T1-1")])
    # the predicted text " efgh" has two parts, the empty stretch one: precision 1/2, recall 1
    assert figures["quantity_overlap_f1"] == pytest.approx(2 / 3)


def test_what_hangs_on_a_missed_quantity_is_wrong_on_both_sides(tmp_path):
    pred = [_row(1, "Quantity", 30, 34, "T1-1", {"unit": "mm"}), *GOLD[1:]]
    figures = _score(tmp_path, GOLD, pred)
    assert figures["row_f1"] == 0.0 and figures["overlap_f1"] == 0.0


def test_a_relation_needs_both_partners_and_the_gold_relation(tmp_path):
    other_target = _row(1, "Qualifier", 20, 24, "T4-1", {"Qualifies": "T2-1"})
    figures = _score(tmp_path, GOLD, [*GOLD[:3], other_target])
    assert figures["qualifier_exact_match"] == 1.0
    assert figures["qualifies_exact_match"] == 0.0  # one gold-only and one prediction-only row
    rows = 4 + 1 + 2 + 2  # spans, unit, modifiers, the two relations that are right
    assert figures["exact_match"] == rows / (rows + 2)
    assert figures["row_precision"] == figures["row_recall"] == rows / (rows + 1)


def test_two_predictions_on_one_quantity_give_two_matched_rows(tmp_path):
    gold = [_row(1, "Quantity", 0, 9, "T1-1", {"unit": "mm"})]
    pred = [
        _row(1, "Quantity", 0, 4, "T1-1", {"unit": "mm"}),
        _row(2, "Quantity", 5, 9, "T1-2", {"unit": "cm"}),
    ]
    figures = _score(tmp_path, gold, pred)
    assert figures["row_f1"] == 1.0  # the second unit is excused: its gold set has a unit match
    assert figures["quantity_overlap_f1"] == pytest.approx(2 / 3)
    assert figures["unit_exact_match"] == 1.0


def test_a_modifier_is_excused_only_by_a_match_of_that_very_modifier(tmp_path):
    gold = [_row(1, "Quantity", 0, 9, "T1-1", {"mods": ["IsMean", "IsRange"]})]
    pred = [_row(1, "Quantity", 0, 9, "T1-1", {"mods": ["IsMean", "IsCount"]})]
    assert _score(tmp_path, gold, pred)["modifier_exact_match"] == 1 / 3


def test_classes_without_rows_have_no_figures_and_documents_may_be_missing(tmp_path):
    gold = _folder(tmp_path / "gold", GOLD[0])
    pred = _folder(tmp_path / "pred")
    figures = score(gold, pred)
    assert figures["quantity_overlap_f1"] == 0.0 and figures["row_f1"] == 0.0
    assert "qualifier_overlap_f1" not in figures


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_row(1, "MeasuredEntity", 15, 19, "T3-1"), "a MeasuredEntity without relation"),
        (GOLD[0] + GOLD[0], "there before"),
        (GOLD[0].replace("abcd", "abc"), "a text of 8 characters for the span 0-9"),
        (GOLD[0].replace("T1-1", "first"), "annotId 'first'"),
        ("d1\t1\tQuantity\n", "3 fields"),
    ],
)
def test_what_stops_the_official_program_is_an_error(tmp_path, row, message):
    with pytest.raises(ScoreError, match=message):
        _score(tmp_path, GOLD, [row])


def test_a_folder_without_tables_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScoreError, match=r"no \.tsv"):
        score(_folder(tmp_path / "gold", *GOLD), tmp_path / "empty")
