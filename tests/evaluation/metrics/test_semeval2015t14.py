"""2015 Task 14 figures, worked by hand; agreement with the scripts' own output is tested elsewhere."""

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.semeval2015t14 import score

DEFAULTS = {
    "negation": "no",
    "subject": "patient",
    "uncertainty": "no",
    "course": "unmarked",
    "severity": "unmarked",
    "conditional": "false",
    "generic": "false",
    "location": "null",
}
ALL_DEFAULT = 1 + 0.21 + 0.05 + 0.07 + 0.05 + 0.08 + 0.06 + 0.05 + 0.51  # weights of CUI and eight slots


def row(span: str, cui: str = "C1", document: str = "a.txt", **slots: str) -> str:
    values = (DEFAULTS | slots).values()
    return "|".join([document, span, cui, *(field for value in values for field in (value, "null"))]) + "\n"


def figures(folder: Path, gold: str, pred: str) -> dict[str, float]:
    for side, text in (("gold", gold), ("pred", pred)):
        (folder / side).mkdir()
        (folder / side / "a.pipe").write_bytes(text.encode())
    return score(folder / "gold", folder / "pred")


def prf(result: dict[str, float], name: str, suffix: str = "") -> tuple[float, float]:
    return result[f"{name}_precision{suffix}"], result[f"{name}_recall{suffix}"]


def test_strict_wants_span_and_cui_and_relaxed_cui_and_a_touch(tmp_path: Path):
    gold = row("70-80", "C1") + row("100-110", "C2") + row("200-210", "C3")
    pred = row("80-85", "C1") + row("100-110", "C2") + row("200-210", "C9")
    result = figures(tmp_path, gold, pred)
    assert prf(result, "task1_strict") == pytest.approx((1 / 3, 1 / 3))
    assert prf(result, "task1_relaxed") == pytest.approx((2 / 3, 2 / 3))
    assert prf(result, "task1_spans") == pytest.approx((2 / 3, 2 / 3))  # a wrong span, and no matter the CUI
    assert prf(result, "task2a") == (1.0, 1.0)


def test_a_gold_disorder_takes_all_it_meets_and_keeps_the_largest(tmp_path: Path):
    gold = row("0-20") + row("15-30", "C2")
    pred = row("0-5") + row("8-18", negation="yes") + row("19-22")
    result = figures(tmp_path, gold, pred)
    assert prf(result, "task2a") == pytest.approx((1 / 3, 1 / 2))  # all three go to 0-20
    assert result["task2a_accuracy"] == pytest.approx(8 / 9)  # its partner is 8-18, 11 positions
    assert prf(result, "task2a", "_corrected") == pytest.approx((2 / 3, 1.0))


def test_accuracies_weigh_slots_by_the_gold_value(tmp_path: Path):
    result = figures(tmp_path, row("0-5", negation="yes"), row("0-5", severity="severe"))
    weights = ALL_DEFAULT - 0.21 + 0.79
    assert result["task2a_accuracy"] == pytest.approx(7 / 9)
    assert result["task2a_weighted_accuracy"] == pytest.approx((weights - 0.79 - 0.08) / weights)
    assert result["task2a_f1_times_accuracy"] == pytest.approx(7 / 9)
    assert (result["task2a_wa_negation"], result["task2a_wa_severity"]) == (0.0, 0.0)
    assert result["task2a_wa_course"] == 1.0
    assert {k[6:]: v for k, v in result.items() if k.startswith("task2a")} == {
        k[6:]: v for k, v in result.items() if k.startswith("task2b")
    }


def test_a_pair_adds_to_the_slot_figure_what_its_gold_value_weighs(tmp_path: Path):
    gold = row("0-5", course="worsened") + row("10-15")
    result = figures(tmp_path, gold, row("0-5") + row("10-15"))
    assert result["task2a_wa_course"] == pytest.approx(0.05 / (0.95 + 0.05))


def test_one_common_body_location_is_enough(tmp_path: Path):
    gold = row("0-5", location="C7") + row("0-5", location="C8") + row("10-15", location="null")
    pred = row("0-5", location="C8") + row("10-15", location="C7")
    result = figures(tmp_path, gold, pred)
    assert result["task2a_wa_body_location"] == pytest.approx(0.49 / (0.49 + 0.51))


def test_an_extra_overlapping_prediction_undoes_an_exact_pair_officially(tmp_path: Path):
    gold = row("10-20")
    result = figures(tmp_path, gold, row("10-20") + row("12-30", "C9"))
    assert prf(result, "task2a") == (1.0, 1.0)
    assert result["task2a_accuracy"] == pytest.approx(8 / 9)
    assert prf(result, "task2a", "_corrected") == (0.5, 1.0)
    assert result["task2a_accuracy_corrected"] == 1.0


def test_a_gold_disorder_whose_own_span_was_taken_takes_nothing_in_task_1(tmp_path: Path):
    gold = row("0-30", "C2") + row("10-20", "C1")
    pred = row("10-20", "C2") + row("12-18", "C1")
    result = figures(tmp_path, gold, pred)
    assert prf(result, "task1_relaxed") == (0.5, 0.5)
    assert prf(result, "task1_relaxed", "_corrected") == (1.0, 1.0)


def test_the_donor_weighs_nothing_unless_misspelt_or_corrected(tmp_path: Path):
    gold = row("0-5", subject="donor_other")
    result = figures(tmp_path, gold, row("0-5", subject="doner_other"))
    assert "task2a_wa_subject" not in result
    assert result["task2a_accuracy"] == pytest.approx(8 / 9)
    assert (result["task2a_wa_subject_corrected"], result["task2a_accuracy_corrected"]) == (1.0, 1.0)


def test_case_crlf_and_a_closing_pipe_do_not_matter(tmp_path: Path):
    pred = row("0-5", "C1", "A.TXT", subject="Patient").replace("\n", "|\r\n")
    result = figures(tmp_path, row("0-5", "c1"), pred)
    assert (result["task1_strict_f1"], result["task2b_accuracy"]) == (1.0, 1.0)


def test_pieces_in_another_order_are_another_span(tmp_path: Path):
    result = figures(tmp_path, row("0-5,8-9"), row("8-9,0-5"))
    assert (result["task1_strict_f1"], result["task1_relaxed_f1"]) == (0.0, 1.0)


def test_only_documents_with_gold_count(tmp_path: Path):
    gold = row("0-5") + row("0-5", document="b.txt")
    result = figures(tmp_path, gold, row("0-5") + row("0-5", document="c.txt"))
    assert prf(result, "task1_strict") == (1.0, 0.5)


def test_without_a_pair_the_slot_figures_do_not_exist(tmp_path: Path):
    result = figures(tmp_path, row("0-5"), "")
    assert result["task2a_weighted_accuracy"] == 0.0
    assert not any("_wa_" in name for name in result)


def test_a_gold_folder_without_pipe_files_is_refused(tmp_path: Path):
    with pytest.raises(ScoreError, match="no file with .pipe"):
        score(tmp_path, tmp_path)
    with pytest.raises(ScoreError, match="no such folder"):
        score(tmp_path / "gold", tmp_path)
