"""brateval's figures on small folders, its two defects, and the strict figures beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.brat import java_hash_order, score


def _folder(root: Path, documents: dict[str, str]) -> Path:
    for name, content in documents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def _score(tmp_path: Path, gold: str, pred: str) -> dict[str, float]:
    return score(_folder(tmp_path / "gold", {"d.ann": gold}), _folder(tmp_path / "pred", {"d.ann": pred}))


def test_entities_and_relations_are_counted_one_to_one(tmp_path):
    gold = (
        "T1\tDrug 0 4\ta\nT2\tDrug 9 12\tb\nT3\tSign 20 25\tc\nR1\tX Arg1:T1 Arg2:T3\nR2\tX Arg1:T2 Arg2:T3\n"
    )
    pred = "T1\tDrug 0 4\ta\nT2\tDrug 0 4\ta\nT5\tSign 20 25\tc\nT6\tDose 9 12\tb\nR1\tX Arg1:T1 Arg2:T5\n"
    figures = _score(tmp_path, gold, pred)
    assert figures["entity_precision"] == 2 / 4 and figures["entity_recall"] == 2 / 3
    assert figures["entity_strict_precision"] == 2 / 3  # as a set the repeated mention counts once
    assert (figures["relation_precision"], figures["relation_recall"]) == (1.0, 0.5)
    assert figures["relation_f1"] == pytest.approx(2 / 3)


def test_a_relation_turned_round_is_another_relation(tmp_path):
    mentions = "T1\tDrug 0 4\ta\nT2\tSign 9 12\tb\n"
    figures = _score(tmp_path, mentions + "R1\tX Arg1:T1 Arg2:T2\n", mentions + "R1\tX Arg1:T2 Arg2:T1\n")
    assert figures["relation_f1"] == 0.0 and figures["entity_f1"] == 1.0


def test_a_prediction_with_further_pieces_matches_officially_but_not_strictly(tmp_path):
    figures = _score(tmp_path, "T1\tA 0 2;5 7\tx y\n", "T1\tA 9 11;5 7;0 2\tz y x\n")
    assert figures["entity_f1"] == 1.0 and figures["entity_strict_f1"] == 0.0


def test_pieces_in_another_order_are_the_same_mention(tmp_path):
    figures = _score(tmp_path, "T1\tA 0 2;5 7\tx y\n", "T1\tA 5 7;0 2\ty x\n")
    assert figures["entity_f1"] == figures["entity_strict_f1"] == 1.0


def test_greedy_matching_follows_the_hash_order_of_the_ids_not_the_lines(tmp_path):
    # Gold T1 fits both predictions, gold T2 only the one with two pieces; the first in hash order is taken.
    gold = "T1\tA 0 2\tx\nT2\tA 0 2;5 7\tx y\n"
    for name, (wide, narrow), right in (("a", ("T9", "T1"), 1), ("b", ("T1", "T9"), 2)):
        pred = f"{wide}\tA 0 2;5 7\tx y\n{narrow}\tA 0 2\tx\n"
        (tmp_path / name).mkdir()
        figures = _score(tmp_path / name, gold, pred)
        assert figures["entity_recall"] == right / 2
        assert figures["entity_strict_recall"] == 1.0


def test_ids_iterate_as_in_a_java_hash_map():
    # Java: "T1".hashCode() = 2653 = 0xa5d, so bucket 13 of 16; "T10" -> 82291, once mixed bucket 2.
    assert java_hash_order(["T1", "T2", "T3", "T4", "T10"]) == ["T4", "T10", "T1", "T2", "T3"]
    thirteen = java_hash_order(f"T{number}" for number in range(1, 14))  # one more than 16 buckets hold
    assert thirteen == [f"T{number}" for number in (4, 5, 6, 7, 8, 9, 10, 12, 11, 13, 1, 2, 3)]


def test_only_t_lines_with_three_fields_count_and_the_text_is_not_compared(tmp_path):
    gold = "T1\tA 0 2\tx\nT2\tA 5 7\nT3\tA 8 9\tx\ty\n\n#1\tnote T1\tz\n*\tEquiv T1 T2\n"
    figures = _score(tmp_path, gold, "T1\tA 0 2\tother\n")
    assert figures["entity_f1"] == 1.0


def test_relations_of_events_are_those_of_their_triggers(tmp_path):
    gold = "T1\tA 0 2\tx\nT2\tB 5 7\ty\nE1\tA:T1 \nE2\tB:T2\nR1\tAFTER Arg1:E1 Arg2:E2\t\n"
    pred = "T1\tA 0 2\tx\nT2\tB 5 7\ty\nR1\tAFTER Arg1:T1 Arg2:T2\n"
    assert _score(tmp_path, gold, pred)["relation_f1"] == 1.0


def test_predicted_files_without_gold_are_ignored_and_subfolders_are_found_by_name(tmp_path):
    gold = _folder(tmp_path / "gold", {"deep/a.ann": "T1\tA 0 2\tx\n", "b.ann": ""})
    pred = _folder(tmp_path / "pred", {"a.ann": "T1\tA 0 2\tx\n", "b.ann": "", "c.ann": "T1\tA 0 2\tx\n"})
    assert score(gold, pred)["entity_f1"] == 1.0


def test_nothing_right_is_zero_and_not_an_error(tmp_path):
    assert set(_score(tmp_path, "", "").values()) == {0.0}


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        ("T1\tA 0 x\ty\n", "d.ann:1: found offsets"),
        ("T1\tA 0\ty\n", "d.ann:1: found offsets"),
        ("T1\tA 0 2\ty\nR1\tX Arg1:T1 Arg2:T9\n", "d.ann:2: found 'R1"),
        ("T1\tA 0 2\ty\nR1 X:T1 Arg2:T1\n", "d.ann:2: found 'R1"),
    ],
)
def test_what_stops_the_official_program_is_an_error_with_its_line(tmp_path, pred, message):
    with pytest.raises(ScoreError, match=message):
        _score(tmp_path, "T1\tA 0 2\tx\nR1\tX Arg1:T1 Arg2:T1\n", pred)


def test_a_missing_predicted_document_is_an_error(tmp_path):
    gold = _folder(tmp_path / "gold", {"a.ann": "", "b.ann": ""})
    with pytest.raises(ScoreError, match=r"found no b\.ann"):
        score(gold, _folder(tmp_path / "pred", {"a.ann": ""}))


def test_the_strict_figures_count_a_mention_whose_stored_text_holds_a_tab(tmp_path):
    with_tab = "T1\tDrug 0 4\t8 mg\tx\nT2\tDisease 5 8\tflu\n"
    found = _score(tmp_path, with_tab, with_tab.replace("\tx", " x"))
    assert found["entity_strict_f1"] == 1.0
    assert (found["entity_precision"], found["entity_recall"]) == (0.5, 1.0)  # the official program drops it
