"""The figures of 2017 Task 3 by hand, the program's refusals, and the organisers' published baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.semeval2017t3 import score

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "semeval2017t3" / "random_baseline"


def _files(tmp_path, gold, pred):
    """Rows of (query, item, score, label) as a gold and a prediction folder."""
    for folder, name, rows in (("gold", "g.relevancy", gold), ("pred", "p.pred", pred)):
        (tmp_path / folder).mkdir(exist_ok=True)
        lines = (f"{query}\t{item}\t0\t{value}\t{label}\n" for query, item, value, label in rows)
        (tmp_path / folder / name).write_text("".join(lines))
    return tmp_path / "gold", tmp_path / "pred"


def _query(name, relevant, scores, labels=None):
    def rows(values, labels):
        pairs = enumerate(zip(values, labels, strict=True))
        return [
            (name, f"{name}{number}", value, str(bool(label)).lower()) for number, (value, label) in pairs
        ]

    return rows([1] * len(relevant), relevant), rows(scores, labels or relevant)


def _score(tmp_path, *queries):
    gold, pred = ([row for rows in side for row in rows] for side in zip(*queries, strict=True))
    return score(*_files(tmp_path, gold, pred))


def test_a_hand_worked_ranking(tmp_path):
    # ranked by score: irrelevant, relevant, irrelevant, relevant
    one = _query("q", [1, 0, 1, 0], [0.3, 0.9, 0.1, 0.2], labels=[1, 1, 0, 0])
    barren = _query("r", [0, 0], [2, 1], labels=[1, 0])
    figures = _score(tmp_path, one, barren)
    assert figures["map"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 0) / 2)
    assert figures["mrr_percent"] == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert figures["avgrec"] == pytest.approx((0 / 1 + 1 / 2 + 1 / 2 + 7 * 2 / 2) / 10)
    assert figures["accuracy"] == pytest.approx(3 / 6)
    assert (figures["precision"], figures["recall"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert figures["f1"] == pytest.approx(0.4)


def test_ties_keep_the_order_of_the_file_and_negative_scores_are_nothing_special(tmp_path):
    tied = _query("q", [0, 1, 0], [-1, -1, -2])
    assert _score(tmp_path, tied)["map"] == pytest.approx(1 / 2)
    better = _query("q", [0, 1, 0], [-1, "-5e-1", -2])
    assert _score(tmp_path, better)["map"] == pytest.approx(1)


def test_official_map_ignores_relevant_items_below_ten_and_the_corrected_one_does_not(tmp_path):
    relevant = [1] + [0] * 10 + [1]
    figures = _score(tmp_path, _query("q", relevant, range(12, 0, -1)))
    assert figures["map"] == pytest.approx(1)
    assert figures["map_all_relevant"] == pytest.approx((1 + 2 / 12) / 2)
    assert figures["mrr_percent"] == pytest.approx(100)
    assert figures["avgrec"] == pytest.approx((1 + 9 * 1 / 2) / 10)


def test_all_relevant_items_below_ten_score_nothing(tmp_path):
    figures = _score(tmp_path, _query("q", [0] * 10 + [1], range(11, 0, -1)))
    assert (figures["map"], figures["mrr_percent"], figures["avgrec"]) == (0, 0, 0)
    assert figures["map_all_relevant"] == pytest.approx(1 / 11)


def test_the_lines_of_a_query_may_be_apart(tmp_path):
    gold, pred = _query("q", [1, 0], [1, 2])
    other_gold, other_pred = _query("r", [1, 0], [2, 1])
    mixed = [gold[0], *other_gold, gold[1]], [pred[0], *other_pred, pred[1]]
    assert score(*_files(tmp_path, *mixed))["map"] == pytest.approx((1 / 2 + 1) / 2)


def test_gold_lines_beyond_the_prediction_are_ignored(tmp_path):
    gold, pred = _query("q", [1, 0, 1], [3, 2, 1])
    figures = score(*_files(tmp_path, gold, pred[:2]))
    assert (figures["map"], figures["recall"], figures["avgrec"]) == (1, 1, 1)


def test_nothing_labelled_true_leaves_precision_recall_and_f1_at_zero(tmp_path):
    figures = _score(tmp_path, _query("q", [1, 0], [1, 2], labels=[0, 0]))
    assert [figures[name] for name in ("accuracy", "precision", "recall", "f1")] == [0.5, 0, 0, 0]


def test_ids_that_differ_stop_the_program_at_their_line(tmp_path):
    gold, pred = _query("q", [1, 0], [1, 2])
    with pytest.raises(ScoreError, match=r"p\.pred:1: found q q1; the gold file has q q0"):
        score(*_files(tmp_path, gold, pred[::-1]))


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1, "True"),
        (1, "1"),
        ("high", "true"),
        (1, ""),
        ("nan", "true"),
        ("-inf", "false"),
        ("1e999", "true"),
        ("1_0", "true"),
    ],
)
def test_a_malformed_line_stops_the_program(tmp_path, value, label):
    gold, _ = _query("q", [1], [1])
    with pytest.raises(ScoreError, match=r"p\.pred:1: .*true or false"):
        score(*_files(tmp_path, gold, [("q", "q0", value, label)]))


def test_no_line_and_no_relevant_item_stop_the_program(tmp_path):
    with pytest.raises(ScoreError, match="none of the 0 lines"):
        score(*_files(tmp_path, [], []))
    with pytest.raises(ScoreError, match="none of the 2 lines"):
        _score(tmp_path, _query("q", [0, 0], [1, 2]))


def test_a_folder_must_hold_exactly_one_file(tmp_path):
    gold, pred = _files(tmp_path, *_query("q", [1], [1]))
    (pred / "second.pred").write_text("")
    with pytest.raises(ScoreError, match=r"found 2 files \*\.pred; expected exactly one"):
        score(gold, pred)
    assert score(gold / "g.relevancy", pred / "p.pred")["map"] == 1


PUBLISHED = {  # SYS column of the organisers' random_baselines_MAP.txt
    "QL-dev-subtaskA.xml.subtaskA": (0.4556, 0.6542, 53.50, 0.4332, 0.3444, 0.7641, 0.4747),
    "QL-dev.xml.subtaskB": (0.5595, 0.7323, 62.23, 0.4880, 0.4432, 0.7664, 0.5616),
    "QL-dev.xml.subtaskC": (0.1383, 0.0956, 16.00, 0.2844, 0.0697, 0.7594, 0.1277),
    "MD-dev-subtaskD.xml": (0.3109, 0.3138, 35.86, 0.6742, 0.2033, 0.2012, 0.2023),
}


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_random_baseline_is_reproduced(name):
    figures = score(
        REAL / f"SemEval2016-Task3-CQA-{name}.relevancy", REAL / f"SemEval2016-Task3-CQA-{name}.pred"
    )
    names = ("map", "avgrec", "mrr_percent", "accuracy", "precision", "recall", "f1")
    for metric, published in zip(names, PUBLISHED[name], strict=True):
        half_a_unit = 0.005 if metric == "mrr_percent" else 0.00005
        assert figures[metric] == pytest.approx(published, rel=0, abs=half_a_unit * 1.000001), metric


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
@pytest.mark.parametrize(
    ("name", "published"), list(zip(PUBLISHED, (0.5384, 0.7135, 0.3065, 0.2855), strict=True))
)
def test_the_published_search_engine_baseline_is_the_gold_file_scored_as_a_prediction(name, published):
    gold = REAL / f"SemEval2016-Task3-CQA-{name}.relevancy"
    assert score(gold, gold)["map"] == pytest.approx(published, rel=0, abs=0.00005)
