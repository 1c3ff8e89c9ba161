"""Mentions as sets: strict, relaxed with the largest pairing, and the discontiguous ones alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.evaluation.metrics.pubtator import mention_figures, score

Pieces = tuple[tuple[int, int], ...]


def _sample(name: str, *spans: tuple[str, Pieces]) -> UnifiedSample:
    mentions = tuple(Mention(f"T{place}", pieces, kind) for place, (kind, pieces) in enumerate(spans))
    return UnifiedSample(name, None, "dev", "public", mentions)


def test_strict_wants_document_type_and_every_piece_equal():
    gold = [
        _sample("a", ("X", ((0, 4),)), ("X", ((5, 9),)), ("Y", ((10, 12),))),
        _sample("b", ("X", ((0, 4),))),
    ]
    found = [
        _sample("a", ("X", ((0, 4),)), ("X", ((5, 8),)), ("X", ((10, 12),))),
        _sample("c", ("X", ((0, 4),))),
    ]
    figures = mention_figures(gold, found)
    assert figures["strict_precision"] == figures["strict_recall"] == 1 / 4
    assert figures["relaxed_precision"] == figures["relaxed_recall"] == 2 / 4


def test_spans_that_only_touch_do_not_meet():
    figures = mention_figures([_sample("a", ("X", ((0, 4),)))], [_sample("a", ("X", ((4, 9),)))])
    assert figures["relaxed_f1"] == 0.0


def test_the_relaxed_pairing_is_the_largest_one_and_not_greedy():
    # 0-9 meets both predictions, 0-3 only the first: taking the first for 0-9 would lose a pair.
    gold = [_sample("a", ("X", ((0, 9),)), ("X", ((0, 3),)))]
    found = [_sample("a", ("X", ((1, 3),)), ("X", ((5, 8),)))]
    assert mention_figures(gold, found)["relaxed_f1"] == 1.0


def test_one_long_prediction_cannot_find_two_mentions():
    gold = [_sample("a", ("X", ((0, 3),)), ("X", ((5, 8),)))]
    figures = mention_figures(gold, [_sample("a", ("X", ((0, 8),)))])
    assert (figures["relaxed_precision"], figures["relaxed_recall"]) == (1.0, 0.5)


def test_repeated_mentions_count_once_and_pieces_have_no_order():
    gold = [_sample("a", ("X", ((0, 3), (5, 8))))]
    found = [_sample("a", ("X", ((5, 8), (0, 3))), ("X", ((0, 3), (5, 8))))]
    assert mention_figures(gold, found)["strict_f1"] == 1.0


def test_discontiguous_mentions_have_figures_of_their_own_where_there_are_any():
    gold = [_sample("a", ("X", ((0, 3), (5, 8))), ("X", ((9, 11),)), ("X", ((0, 1), (2, 3))))]
    found = [_sample("a", ("X", ((0, 3), (5, 8))), ("X", ((20, 22),)))]
    figures = mention_figures(gold, found)
    assert figures["discontiguous_strict_precision"] == 1.0
    assert figures["discontiguous_strict_recall"] == 0.5
    assert "discontiguous_strict_f1" not in mention_figures([_sample("a", ("X", ((0, 3),)))], [])


def test_pubtator_files_are_scored_with_texts_on_one_side_only(tmp_path):
    gold, pred = tmp_path / "gold.PubTator", tmp_path / "pred"
    gold.write_text(
        "1|t|Colon cancer\n1|a|\n1\t0\t12\tColon cancer\tD\tD1\n\n2|t|Pain\n2|a|\n2\t0\t4\tPain\tD\tD2\n"
    )
    pred.mkdir()
    (pred / "out.PubTator.txt").write_text("1\t6\t12\tcancer\tD\t-1\n\n2\t0\t4\tPain\tD\t-1\n")
    figures = score(gold, pred)
    assert (figures["strict_f1"], figures["relaxed_f1"]) == (0.5, 1.0)


def test_a_malformed_file_is_a_score_error(tmp_path):
    path = Path(tmp_path / "gold.txt")
    path.write_text("1\t0\tx\n")
    with pytest.raises(ScoreError, match=r"gold\.txt:1"):
        score(path, path)
