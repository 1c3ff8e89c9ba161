"""Layer 1 of the contamination report: shares of n-grams, by hand and by plain sets of words."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.core.types import Access, RankedPair, UnifiedSample
from kaggle_kit.data.overlap import hashed_grams, overlap_summary, overlap_table, overlaps, whole_text

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def note(name: str, text: str, split: str = "test") -> UnifiedSample:
    return UnifiedSample(name, text, split, Access.PUBLIC)


def test_shares_of_8_grams_are_those_counted_by_hand():
    """Ten words have three 8-grams; nine of them in a row have two."""
    table = overlap_table([note("a", " ".join(WORDS))], [note("b", "and " + " ".join(WORDS[:9]), "train")])
    (row,) = table.to_dict("records")
    assert row["8-grams"] == pytest.approx(2 / 3)
    assert np.isnan(row["13-grams"]) and not row["exact"] and not row["same id"] and not row["flagged"]


def test_a_text_that_stands_there_whole_is_flagged_whatever_its_case_blanks_and_length():
    table = overlap_table([note("a", "No fever.\n")], [note("a", "NO  fever.", "train")])
    assert table[["exact", "same id", "flagged"]].all(axis=None)


@pytest.mark.parametrize(("kept", "flagged"), [(21, True), (20, False)])
def test_a_document_is_flagged_from_70_per_cent_of_its_8_grams_on(kept, flagged):
    """Of 27 words with 20 8-grams, the first `kept` words hold kept - 7 of them: 14 are 70 %."""
    words = [f"w{number}" for number in range(27)]
    table = overlap_table([note("a", " ".join(words))], [note("b", " ".join(words[:kept]), "train")])
    assert table["8-grams"][0] == (kept - 7) / 20
    assert bool(table["flagged"][0]) is flagged


def test_hashed_n_grams_agree_with_plain_tuples_of_words():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcd"), size=200)) for _ in range(2)]
    plain = [{tuple(t.split()[n : n + 3]) for n in range(198)} for t in texts]
    hashed = [set(hashed_grams(text, 3).tolist()) for text in texts]
    assert [len(one) for one in hashed] == [len(one) for one in plain]
    assert len(hashed[0] & hashed[1]) == len(plain[0] & plain[1])
    assert hashed_grams("x y z", 3) != hashed_grams("z y x", 3)


def test_a_question_counts_with_its_candidates_and_a_document_without_text_not_at_all():
    pair = RankedPair("q", "q1", " ".join(WORDS), 1)
    question = UnifiedSample("q", "Which?", "test", Access.PUBLIC, pairs=(pair,))
    empty = UnifiedSample("e", None, "test", Access.PUBLIC)
    assert whole_text(question) == "Which?\n" + " ".join(WORDS)
    assert list(overlap_table([question, empty], [])["document"]) == ["q"]
    assert overlap_table([empty], []).empty


def test_a_question_asked_again_with_other_answers_is_no_exact_match():
    """Short questions recur: one in four draws of practice threads was flagged for nothing else."""

    def thread(name: str, answer: str) -> UnifiedSample:
        pairs = (RankedPair(name, f"{name}1", answer, 1),)
        return UnifiedSample(name, "Which medicine helps?", "test", Access.PUBLIC, pairs=pairs)

    asked = [thread("a", "A walk."), thread("b", "Some  TEA.")]
    table = overlap_table(asked, [thread("c", "Some tea.")])
    assert table["exact"].tolist() == [False, True]


class Read:
    def __init__(self, *train: UnifiedSample) -> None:
        self.splits = {"train": train}


def test_every_scored_task_is_compared_with_every_training_split():
    scored = {"mine": [note("a", " ".join(WORDS)), note("b", "other words")]}
    found = overlaps(scored, {"mine": Read(), "theirs": Read(note("t", " ".join(WORDS), "train"))})
    table = overlap_summary(found).set_index("training")
    assert table.loc["mine", ["n", "exact", "flagged"]].tolist() == [2, 0, 0]
    assert table.loc["theirs", ["n", "exact", "flagged"]].tolist() == [2, 1, 1]
    assert "one two" not in found.to_string(), "no word of a text"
