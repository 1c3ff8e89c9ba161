"""The token counters, worked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.training.tokens import TokenTracker


def batch(task: str, tokens: int, overlap: int = 0, lengths: tuple[int, ...] = (), prefixes=()):
    lengths = lengths or (tokens,)
    return SimpleNamespace(
        task=task, tokens=tokens, overlap_tokens=overlap, lengths=lengths, prefixes=prefixes
    )


def test_tokens_are_counted_per_task_and_step_and_overlap_apart():
    tracker = TokenTracker(["ner", "ranking"])
    tracker.count([[batch("ner", 100, 8), batch("ranking", 30)], [batch("ner", 50)]])
    tracker.count([[batch("ranking", 20)]])
    line = tracker.record()
    assert (line["step"], line["tokens"], line["total"], line["overlap"]) == (
        2,
        {"ranking": 20},
        {"ner": 150, "ranking": 50},
        {"ner": 8, "ranking": 0},
    )


def test_packed_tokens_and_the_padding_of_attention_are_counted_apart():
    tracker = TokenTracker(["ner"])
    tracker.count([[batch("ner", 40, lengths=(20, 15, 5))], [batch("ner", 9)]])  # groups (20, 15) and (5,)
    line = tracker.record()
    assert line["total"] == {"ner": 49}
    assert (line["packed"], line["padding"]) == ({"ner": 40}, {"ner": 5})


def test_batches_that_are_read_together_share_groups_and_each_is_charged_its_own_padding():
    tracker = TokenTracker(["ner", "re", "qa"], sharing=["qa"])
    ner, re = batch("ner", 30, lengths=(20, 10)), batch("re", 15, lengths=(15,))
    tracker.count([[ner, re]])  # groups (20, 15) and (10,): the shorter one pays
    assert tracker.record()["padding"] == {"ner": 0, "re": 5, "qa": 0}
    asked = batch("qa", 39, lengths=(20, 19), prefixes=(WHOLE, Prefix(0, 12)))
    tracker.count([[ner, re, asked]])  # where some share, each batch makes its own groups: none has padding
    assert tracker.record()["padding"] == {"ner": 0, "re": 5, "qa": 0}


def test_a_question_counts_for_each_candidate_and_what_was_read_once_apart():
    asked = batch("qa", 57, lengths=(20, 19, 18), prefixes=(WHOLE, Prefix(0, 12), Prefix(0, 8)))
    both = {causal: TokenTracker(["qa"], sharing=["qa"] if causal else []) for causal in (True, False)}
    lines = {}
    for causal, tracker in both.items():
        tracker.count([[asked]])
        lines[causal] = tracker.record()
    assert lines[True]["total"] == lines[False]["total"] == {"qa": 57}
    assert lines[True]["shared"] == {"qa": 20} and lines[False]["shared"] == {"qa": 0}
    assert lines[True]["tokens"] == lines[False]["tokens"] == {"qa": 57}
    assert lines[True]["computed"] == both[True].computed == {"qa": 37}
    assert lines[False]["computed"] == both[False].computed == {"qa": 57}
    # causal: the row holds 20, 10 and 7 tokens, in groups (20,) and (10, 7)
    assert lines[True]["padding"] == lines[False]["padding"] == {"qa": 3}


def test_only_tasks_with_causal_attention_share_beginnings():
    tracker = TokenTracker(["ner", "qa"], sharing=["qa"])
    tracker.count(
        [[batch(task, 20, lengths=(10, 10), prefixes=(WHOLE, Prefix(0, 6))) for task in ("ner", "qa")]]
    )
    assert tracker.record()["shared"] == {"ner": 0, "qa": 6}


def test_a_task_that_has_not_come_yet_stands_at_zero():
    assert TokenTracker(["ner", "ranking"]).record()["total"] == {"ner": 0, "ranking": 0}


def test_a_task_that_is_none_of_the_runs_is_refused():
    with pytest.raises(KeyError):
        TokenTracker(["ner"]).count([[batch("ranking", 1)]])


def test_a_resumed_count_goes_on_where_it_stood_and_counts_nothing_twice():
    whole, before = TokenTracker(["ner"]), TokenTracker(["ner"])
    steps = [[[batch("ner", 10 * n, n)]] for n in range(1, 7)]
    for step in steps:
        whole.count(step)
    for step in steps[:4]:
        before.count(step)
    after = TokenTracker(["ner"])
    after.load_state_dict(before.state_dict())
    for step in steps[4:]:
        after.count(step)
    assert after.record() == whole.record()
    assert after.total == {"ner": 210}


def test_a_task_that_an_earlier_phase_did_not_have_is_counted_from_nought():
    first, second = TokenTracker(["qa"]), TokenTracker(["ner"])
    first.count([[batch("qa", 30, 2)]])
    second.load_state_dict(first.state_dict())
    second.count([[batch("ner", 7, 1)]])
    assert second.total == {"ner": 7, "qa": 30} and second.record()["overlap"] == {"ner": 1, "qa": 2}
    assert second.record()["step"] == 2


def test_the_state_is_a_copy():
    tracker = TokenTracker(["ner"])
    state = tracker.state_dict()
    tracker.count([[batch("ner", 7)]])
    assert state["total"] == {"ner": 0}


def test_padding_is_never_among_the_tokens_of_a_micro_batch(study):
    plan = study.plan("semeval2014t7", epochs=2.0)
    rows = [row for step in plan.steps for b in step.micro_batches for row in b.rows]
    lengths = study.encoded["semeval2014t7"].lengths
    assert plan.tokens["semeval2014t7"] == int(lengths[rows].sum())
    assert sorted(rows) == sorted([*range(len(lengths))] * 2)
