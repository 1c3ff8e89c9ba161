"""Errors of mentions and relations by hand: every item in one category, and F1 recounted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaggle_kit.analysis.error_comparison import ALL, compared, sign_flip_p
from kaggle_kit.analysis.error_types import Errors, mention_errors, relation_errors
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, RunFolderError
from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, UnifiedSample

LABELS = ("Drug", "Sign")
TEXT = "x" * 100
LINKS = ComponentSpec("links", Kind.RELATIONS, 2, ("treats", "causes"))


def note(*mentions: tuple, relations=(), name: str = "d", text: str | None = TEXT) -> UnifiedSample:
    """A mention is (label, start, end, …) with further fragments, a score as a float at the end."""
    made = []
    for number, (label, *rest) in enumerate(mentions, start=1):
        score = rest.pop() if isinstance(rest[-1], float) else None
        fragments = tuple(zip(rest[::2], rest[1::2], strict=True))
        made.append(Mention(f"T{number}", fragments, label, score=score))
    links = [Relation(f"R{n}", kind, *ends, score=0.5) for n, (kind, *ends) in enumerate(relations)]
    return UnifiedSample(name, text, "dev", Access.PUBLIC, tuple(made), tuple(links))


def categories(errors: Errors) -> dict[str, int]:
    counts = errors.counts.sum()
    return {name: n for name, n in counts.items() if n}


GOLD = note(("Drug", 0, 5), ("Drug", 10, 15), ("Sign", 20, 30), ("Sign", 40, 50), ("Drug", 60, 65))
TOLD = note(
    ("Drug", 0, 5, 0.9),  # correct
    ("Sign", 10, 15, 0.8),  # type
    ("Sign", 20, 28, 0.7),  # boundary
    ("Drug", 42, 50, 0.6),  # both
    ("Drug", 1, 4, 0.5),  # a duplicate of the first
    ("Sign", 80, 90, 0.4),  # spurious
)  # and the last one is missed


def test_every_mention_of_either_side_has_exactly_one_category():
    found = mention_errors(LABELS, [GOLD], [TOLD])
    every = ("correct", "type", "boundary", "both", "duplicate", "spurious", "missed")
    assert categories(found) == dict.fromkeys(every, 1)
    table = found.table
    assert table["gold"].notna().sum() == 5 and table["predicted"].notna().sum() == 6
    assert table["predicted"].dropna().nunique() == 6


def test_f1_by_hand_and_what_it_would_be_without_each_category():
    """1 right of 6 predicted and 5 gold: 2/11. A mended pair adds a hit: 4/11; a false alarm goes: 2/10."""
    found = mention_errors(LABELS, [GOLD], [TOLD])
    total = found.counts.to_numpy().sum(axis=0)
    assert found.f1(total) == pytest.approx(2 / 11)
    gains = found.gains(np.random.default_rng(0)).set_index("category")
    expected = {"type": 4 / 11, "boundary": 4 / 11, "both": 4 / 11, "duplicate": 2 / 10, "spurious": 2 / 10}
    for name, f1 in (expected | {"missed": 4 / 12}).items():
        assert gains.loc[name, "ΔF1"] == pytest.approx(f1 - 2 / 11), name
    assert gains["share"].sum() == pytest.approx(1.0)
    mended = replace(TOLD, mentions=(*TOLD.mentions, GOLD.mentions[4]))  # the missed one, predicted after all
    again = mention_errors(LABELS, [GOLD], [mended])
    assert again.f1(again.counts.to_numpy().sum(axis=0)) == pytest.approx(4 / 12)


def test_of_two_equal_predictions_the_surer_is_right_and_the_other_a_duplicate():
    found = mention_errors(LABELS, [note(("Drug", 0, 5))], [note(("Drug", 0, 5, 0.4), ("Drug", 0, 5, 0.9))])
    assert found.table.set_index("category")["score"].to_dict() == {"correct": 0.9, "duplicate": 0.4}


def test_one_prediction_over_two_gold_mentions_is_one_boundary_error_and_one_miss():
    found = mention_errors(LABELS, [note(("Drug", 0, 5), ("Drug", 6, 20))], [note(("Drug", 0, 20))])
    assert categories(found) == {"boundary": 1, "missed": 1}
    assert found.table.set_index("category").loc["boundary", "gold"].fragments == (
        (6, 20),
    )  # the larger share


def test_an_exact_match_is_not_taken_by_a_partial_one():
    """A known fault of nervaluate: an exact pair whose gold a partial prediction before it had taken."""
    gold, told = note(("Drug", 0, 10), ("Drug", 12, 20)), note(("Drug", 0, 20), ("Drug", 0, 10))
    assert categories(mention_errors(LABELS, [gold], [told])) == {"correct": 1, "boundary": 1}


def test_subsets_count_discontiguous_and_nested_mentions_and_offsets_beyond_the_text():
    gold = note(("Drug", 0, 30), ("Sign", 5, 10), ("Sign", 40, 45, 50, 55), ("Drug", 70, 75))
    told = note(("Sign", 5, 10), ("Sign", 40, 45), ("Drug", 70, 75), ("Drug", 99, 101), ("Sign", -3, 2))
    found = mention_errors(LABELS, [gold], [told])
    rows = found.subsets().set_index("subset")
    assert rows["gold"].to_dict() == {
        "all": 4, "in one piece": 3, "discontiguous": 1, "nested": 2, "not in the text": 1
    }  # fmt: skip
    assert rows.loc["nested", ["correct", "both"]].tolist() == [1, 1]  # -3 to 2 meets the outer one
    assert rows.loc["discontiguous", "boundary"] == 1 and rows.loc["nested", "recall"] == 0.5
    assert rows.loc["not in the text", ["both", "spurious"]].tolist() == [1, 1]
    unknown = mention_errors(LABELS, [replace(gold, text=None)], [told])
    assert unknown.table["outside"].sum() == 1  # no text has -3


def test_types_that_the_task_does_not_predict_do_not_count():
    found = mention_errors(("Drug",), [note(("Drug", 0, 5), ("Date", 7, 9))], [note(("Drug", 0, 5))])
    assert categories(found) == {"correct": 1}


def test_confusion_counts_labels_of_pairs_and_of_cases_with_one_side():
    table = mention_errors(LABELS, [GOLD], [TOLD]).confusion()
    assert table.loc["Drug"].to_dict() == {"Drug": 1, "Sign": 1, "(none)": 1}
    assert table.loc["Sign"].to_dict() == {"Drug": 1, "Sign": 1, "(none)": 0}
    assert table.loc["(none)"].to_dict() == {"Drug": 1, "Sign": 1, "(none)": 0}


def test_a_document_without_anything_still_counts_as_one():
    found = mention_errors(
        LABELS, [note(name="a"), note(("Drug", 0, 5), name="b")], [note(name="a"), note(name="b")]
    )
    assert found.counts["missed"].to_dict() == {"a": 0, "b": 1}
    empty = mention_errors(LABELS, [note()], [note()])
    assert categories(empty) == {} and empty.subsets()["gold"].sum() == 0
    assert empty.gains(np.random.default_rng(0))["ΔF1"].sum() == 0


def test_sides_with_other_documents_are_refused():
    with pytest.raises(RunFolderError, match="1 documents were predicted and 2 are gold"):
        mention_errors(LABELS, [note(name="a"), note(name="b")], [note(name="a")])


ENDS = (("Drug", 0, 5), ("Sign", 10, 15), ("Drug", 20, 25), ("Sign", 30, 35))


def test_relations_by_hand():
    gold = note(*ENDS, relations=[("treats", "T1", "T2"), ("treats", "T1", "T4"), ("causes", "T3", "T2"),
                                  ("causes", "T3", "T4"), ("treats", "T4", "T2")])  # fmt: skip
    told = note(*ENDS, ("Drug", 50, 55), relations=[
        ("treats", "T1", "T2"),  # correct
        ("causes", "T1", "T4"),  # wrong type
        ("causes", "T2", "T3"),  # wrong direction
        ("treats", "T4", "T3"),  # both
        ("causes", "T2", "T1"),  # a duplicate of the first pair
        ("treats", "T5", "T2"),  # an end is no mention
        ("treats", "T1", "T3"),  # nothing relates the two
        ("unknown", "T1", "T3"),  # not this component's
    ])  # fmt: skip
    found = relation_errors(LINKS, [gold], [told])
    assert categories(found) == dict.fromkeys(
        ("correct", "type", "direction", "both", "duplicate", "loose end", "spurious", "missed"), 1
    )
    assert found.f1(found.counts.to_numpy().sum(axis=0)) == pytest.approx(2 / (5 + 7))


def test_a_relation_of_mentions_that_were_found_under_other_ids_is_right():
    gold = note(("Drug", 0, 5), ("Sign", 10, 15), relations=[("treats", "T1", "T2")])
    told = note(("Sign", 10, 15), ("Drug", 0, 5), relations=[("treats", "T2", "T1")])
    assert categories(relation_errors(LINKS, [gold], [told])) == {"correct": 1}


@pytest.mark.parametrize("other", [{"concepts": True}, {"attribute": "DocTimeRel"}])
def test_relations_that_are_not_between_mentions_are_refused(other):
    with pytest.raises(ConfigError, match="only relations between mentions"):
        relation_errors(replace(LINKS, **other), [note()], [note()])


def of(*told: UnifiedSample) -> Errors:
    gold = [note(("Drug", 0, 5), ("Sign", 10, 15), name=str(n)) for n in range(len(told))]
    return mention_errors(LABELS, gold, [replace(one, document_id=str(n)) for n, one in enumerate(told)])


def test_errors_removed_and_added_are_counted_by_what_they_are_errors_of():
    before = of(note(), note(("Drug", 0, 5)), note(("Drug", 0, 5), ("Sign", 50, 55)))
    after = of(note(("Drug", 0, 5)), note(("Drug", 0, 4)), note(("Sign", 10, 15), ("Sign", 50, 55)))
    rows = compared(before, after, np.random.default_rng(0)).set_index("category")
    assert rows.loc["missed", ["before", "removed", "added", "change"]].tolist() == [4, 2, 1, -1]
    assert rows.loc["boundary", ["before", "removed", "added", "change"]].tolist() == [0, 0, 1, 1]
    assert rows.loc["spurious", ["before", "removed", "added", "change"]].tolist() == [1, 0, 0, 0]
    assert rows.loc[ALL, ["before", "removed", "added", "change"]].tolist() == [5, 2, 2, 0]


def test_a_planted_improvement_is_found_and_none_is_made_up():
    right, wrong = note(("Drug", 0, 5), ("Sign", 10, 15)), note(("Drug", 0, 5))
    rows = compared(of(*[wrong] * 12), of(*[right] * 12), np.random.default_rng(0)).set_index("category")
    assert rows.loc["missed", "p"] == pytest.approx(2 / 2**12)  # exact: all signs alike
    assert rows.loc["missed", "p, Holm"] == pytest.approx(6 * 2 / 2**12)
    rng = np.random.default_rng(0)
    alarms = [sign_flip_p(rng.integers(-2, 3, size=40), rng) <= 0.05 for _ in range(100)]
    assert np.mean(alarms) <= 0.1


def test_runs_on_other_gold_are_not_compared():
    with pytest.raises(IncomparableRuns, match="1 documents with 2 gold items and 2"):
        compared(of(note()), of(note(), note()), np.random.default_rng(0))
