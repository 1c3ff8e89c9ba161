"""2014 Task 7 figures, worked by hand; agreement with the script's own output is tested elsewhere."""

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.semeval2014t7 import score


def rows(*spans: str, document: str = "a.txt", end: str = "\n") -> str:
    """One line per `CUI start end …`."""
    return "".join("||".join([document, "Disease_Disorder", *span.split()]) + end for span in spans)


def figures(folder: Path, gold: str, pred: str) -> dict[str, float]:
    for side, text in (("gold", gold), ("pred", pred)):
        (folder / side).mkdir()
        (folder / side / "a.pipe").write_bytes(text.encode())
    return score(folder / "gold", folder / "pred")


def test_strict_counts_spans_and_task_b_their_concepts(tmp_path: Path):
    gold = rows("C1 0 5", "C2 10 15 20 25", "CUI-less 30 35", "C4 40 45")
    pred = rows("c1 0 5", "C9 10 15 20 25", "C4 41 45")
    result = figures(tmp_path, gold, pred)
    assert result["task_a_strict_precision"] == pytest.approx(2 / 3)
    assert result["task_a_strict_recall"] == pytest.approx(2 / 4)
    assert result["task_a_strict_f1"] == pytest.approx(4 / 7)
    assert result["task_b_strict_accuracy"] == pytest.approx(1 / 4)
    assert result["task_b_relaxed_accuracy"] == pytest.approx(1 / 2)


def test_relaxed_wants_a_shared_character(tmp_path: Path):
    result = figures(tmp_path, rows("C1 70 80", "C2 100 110 120 130"), rows("C1 80 85", "C2 129 140"))
    assert result["task_a_relaxed_precision"] == 0.5
    assert result["task_a_relaxed_recall"] == 0.5


def test_relaxed_recall_officially_counts_predictions_and_corrected_gold_mentions(tmp_path: Path):
    gold = rows("C1 0 10", "C2 50 60")
    result = figures(tmp_path, gold, rows("C1 0 3", "C1 4 6", "C1 7 10"))
    assert result["task_a_relaxed_recall"] == pytest.approx(3 / 4)
    assert result["task_a_relaxed_recall_corrected"] == pytest.approx(1 / 2)


def test_repeated_lines_collapse_and_the_last_cui_counts(tmp_path: Path):
    result = figures(tmp_path, rows("C1 0 5"), rows("C1 0 5", "C2 0 5"))
    assert result["task_a_strict_precision"] == 1.0
    assert result["task_b_strict_accuracy"] == 0.0


def test_predictions_in_a_document_without_gold_are_wrong(tmp_path: Path):
    result = figures(tmp_path, rows("C1 0 5"), rows("C1 0 5") + rows("C1 0 5", document="b.txt"))
    assert (result["task_a_strict_precision"], result["task_a_strict_recall"]) == (0.5, 1.0)


def test_a_crlf_prediction_scores_nothing_officially_and_all_corrected(tmp_path: Path):
    result = figures(tmp_path, rows("C1 0 5"), rows("C1 0 5", end="\r\n"))
    assert (result["task_a_strict_f1"], result["task_a_relaxed_f1"]) == (0.0, 1.0)
    assert result["task_a_strict_f1_corrected"] == 1.0


def test_an_empty_prediction_scores_zero_everywhere(tmp_path: Path):
    assert set(figures(tmp_path, rows("C1 0 5"), "").values()) == {0.0}


@pytest.mark.parametrize("line", ["a.txt||D||C1||0", "a.txt||D||C1||0||5||7", "a.txt||D||C1||9||5", "a note"])
def test_what_the_script_refuses_is_named_by_file_and_line(tmp_path: Path, line: str):
    with pytest.raises(ScoreError, match=r"a\.pipe:2"):
        figures(tmp_path, rows("C1 0 5"), rows("C1 0 5") + line + "\n")


def test_a_note_beside_the_pipe_files_is_refused_but_hidden_and_backup_files_are_not(tmp_path: Path):
    figures(tmp_path, rows("C1 0 5"), rows("C1 0 5"))
    for name in (".hidden", "a.pipe~"):
        (tmp_path / "gold" / name).write_text("any text\n")
    assert score(tmp_path / "gold", tmp_path / "pred")["task_a_strict_f1"] == 1.0
    (tmp_path / "gold" / "a.text").write_text("any text\n")
    with pytest.raises(ScoreError, match=r"a\.text:1"):
        score(tmp_path / "gold", tmp_path / "pred")


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(ScoreError, match="no such folder"):
        score(tmp_path / "gold", tmp_path)


def test_a_folder_that_holds_the_files_of_none_but_sub_folders_is_refused(tmp_path: Path):
    """It scored 0, as if the gold standard were empty."""
    for side in ("gold", "pred"):
        (tmp_path / side / "batch").mkdir(parents=True)
        (tmp_path / side / "batch" / "a.pipe").write_text(rows("0||4"))
    with pytest.raises(ScoreError, match="folder"):
        score(tmp_path / "gold", tmp_path / "pred")
