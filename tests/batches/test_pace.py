"""Plans that follow the steps of another run: exact steps, exact tokens, no drift, hand-worked cases."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.batches.pace import FEWEST_TOKENS, Draw, StepTargets, follow
from kaggle_kit.batches.plan import PlanSettings, StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.errors import ConfigError


def rows_of(lengths, per_group: int = 1, beginning: int = 0) -> TaskRows:
    lengths = np.asarray(lengths)
    return TaskRows(lengths, np.arange(len(lengths)) // per_group, np.full(len(lengths), beginning))


def planned(rows: TaskRows, targets: StepTargets, seed: int = 1, **more) -> StepPlan:
    chosen = PlanSettings(targets=targets, **{"token_budget": 4096} | more)
    return MultiTaskBatchSampler({"a": rows}, chosen, seed).plan()


def passed(draws, targets: StepTargets) -> list[list[tuple[tuple[int, ...], int]]]:
    """(rows, cut) of each draw, step by step."""
    return [[(draw.rows, draw.cut) for draw in step] for step in follow(iter(draws), targets)]


def drift(plan: StepPlan, targets: StepTargets) -> np.ndarray:
    """(steps,) tokens by which the plan is ahead of its targets after each step."""
    return np.cumsum([step.tokens["a"] for step in plan.steps]) - targets.ends


def passages(*lengths: int) -> list[Draw]:
    return [Draw("a", (number,), (length,)) for number, length in enumerate(lengths)]


# --- hand-worked -----------------------------------------------------------------------------------


def test_each_step_ends_where_whole_passages_come_nearest_to_its_target_and_the_last_on_it():
    # targets 100, 200, 290: 40 + 40 = 80 is nearer to 100 than 140; 80 + 60 + 50 = 190 nearer to 200 than 250
    steps = passed(passages(40, 40, 60, 50, 60, 70), StepTargets((100, 200, 290)))
    assert steps == [[((0,), 0), ((1,), 0)], [((2,), 0), ((3,), 0)], [((4,), 0), ((5,), 30)]]


def test_what_one_step_lacks_or_has_too_many_the_next_one_makes_up_for():
    steps = passed(passages(70, 70, 70, 70, 70), StepTargets((100, 200, 300)))
    # after 100: 70 (140 is further); after 200: 210; the last step takes what is left of 300
    assert [[rows for rows, _ in step] for step in steps] == [[(0,)], [(1,), (2,)], [(3,), (4,)]]
    assert steps[-1][-1] == ((4,), 50)


def test_a_passage_longer_than_its_steps_is_cut_only_where_a_step_would_be_empty_otherwise():
    # steps of 40 and passages of 50: 50, 100 (20 ahead), then 20 are left of 120, less than half a passage
    steps = passed(passages(50, 50, 50, 50), StepTargets((40, 80, 120, 160)))
    assert steps == [[((0,), 0)], [((1,), 0)], [((2,), 30)], [((3,), 10)]]


def test_a_question_is_divided_only_where_a_step_would_be_empty_otherwise():
    """Ten candidates of 100 tokens against steps of 900."""
    questions = [Draw("q", tuple(range(n * 10, n * 10 + 10)), (100,) * 10) for n in range(9)]
    steps = passed(questions, StepTargets.of([900] * 10))
    sizes = [[len(rows) for rows, _ in step] for step in steps]
    # 100 ahead after each question, until 400 are left for the sixth step: less than half a question
    assert sizes == [[10], [10], [10], [10], [10], [4], [6], [10], [10], [10]]
    assert steps[5][0][0] + steps[6][0][0] == tuple(range(50, 60))  # and no candidate is lost
    assert all(cut == 0 for step in steps for _, cut in step)


@pytest.mark.parametrize(("tokens", "sizes"), [(150, [2, 8]), (950, [10]), (870, [10]), (450, [4, 6])])
def test_both_parts_of_a_divided_question_have_two_candidates_at_least(tokens, sizes):
    question = Draw("q", tuple(range(10)), (100,) * 10)
    step, *rest = follow(iter([question, *passages(5000)]), StepTargets((tokens, 5000)))
    found = [len(draw.rows) for draw in (*step, *(rest[0] if rest else ())) if draw.task == "q"]
    assert found == sizes


def test_computed_tokens_count_the_beginning_of_a_question_once_in_each_part():
    question = Draw("q", (0, 1, 2, 3), (30, 28, 26, 24), beginning=20)
    assert question.ends.tolist() == [30, 38, 44, 48]
    first, rest = question.divided(left=40, room=100)
    assert (first.rows, first.tokens, rest.rows, rest.tokens) == ((0, 1), 38, (2, 3), 30)
    assert question.trimmed(41).rows == (0, 1, 2) and question.trimmed(41).cut == 3


def test_a_scaled_pace_keeps_the_course_and_the_size_of_a_step():
    targets = StepTargets.of([100, 300, 100, 100])
    assert targets.scaled(300).ends == (200, 300)
    assert targets.scaled(150).ends == (150,) and targets.scaled(1).ends == (1,)
    assert targets.scaled(600) == targets
    assert StepTargets.of([5, 1, 1, 1, 1, 1]).scaled(5).ends == (3, 4, 5)


# --- real-like lengths -------------------------------------------------------------------------------

REAL = {
    "questions of ten candidates": (rows_of(np.random.default_rng(0).integers(60, 140, 2000), 10), 900),
    "sentences": (rows_of(np.random.default_rng(1).integers(5, 60, 3000)), 900),
    "notes": (rows_of(np.full(200, 512)), 900),
    "notes longer than a step": (rows_of(np.full(200, 512)), 400),
}


@pytest.mark.parametrize("kind", REAL)
def test_a_baseline_of_real_lengths_has_the_steps_and_tokens_of_its_run_and_never_drifts(kind):
    rows, usual = REAL[kind]
    theirs = np.random.default_rng(3).normal(usual, usual / 5, 400).round().astype(int).clip(1)
    targets = StepTargets.of(theirs.tolist())
    plan = planned(rows, targets)
    assert len(plan) == 400 and plan.tokens == {"a": int(theirs.sum())}
    largest = rows.longest_group
    assert abs(drift(plan, targets)).max() <= largest  # and not the sum of 400 roundings
    read = Counter(row for step in plan.steps for batch in step.micro_batches for row in batch.rows)
    # a cut or divided unit still leaves every row read about equally often
    assert max(read.values()) - min((read[row] for row in range(len(rows.lengths))), default=0) <= 1
    if kind != "notes longer than a step":
        cuts = [batch.cut for step in plan.steps for batch in step.micro_batches]
        assert not any(cuts[:-1])


def test_an_equal_number_of_sequences_would_have_taken_another_number_of_steps():
    """The old rule: steps of 16 sequences, whatever they hold."""
    targets = StepTargets.of([900] * 400)
    for kind, old in (("sentences", 700), ("questions of ten candidates", 180)):
        rows, _ = REAL[kind]
        by_sequences = PlanSettings(target_tokens=targets.total, effective_batch=16)
        plan = MultiTaskBatchSampler({"a": rows}, by_sequences, 1).plan()
        assert len(plan) == pytest.approx(old, rel=0.05)
        assert len(planned(rows, targets)) == 400


# --- over many random corpora --------------------------------------------------------------------------

lengths = st.lists(st.integers(1, 80), min_size=1, max_size=30)
paces = st.lists(st.integers(1, 400), min_size=1, max_size=25)


@settings(max_examples=300, deadline=None)
@given(lengths, st.sampled_from([1, 3, 10]), paces, st.integers(0, 3), st.sampled_from([40, 4096]))
def test_steps_and_tokens_are_exact_for_any_corpus_and_no_step_is_empty(found, group, pace, seed, budget):
    targets, rows = StepTargets.of(pace), rows_of(found, group)
    plan = planned(rows, targets, seed, token_budget=budget)
    assert len(plan) == len(pace) and plan.tokens == {"a": sum(pace)}
    ahead = drift(plan, targets)
    for step, (one, following) in enumerate(pairwise(pace), start=0):
        assert -rows.longest_group <= ahead[step] <= max(0, following - FEWEST_TOKENS), (one, following)
    for step in plan.steps:
        assert step.tokens["a"] > 0
        for batch in step.micro_batches:
            assert batch.tokens == sum(found[row] for row in batch.rows) - batch.cut > 0
            assert 0 <= batch.cut < found[batch.rows[-1]]


@settings(max_examples=150, deadline=None)
@given(st.integers(9, 30), st.lists(st.integers(1, 40), min_size=4, max_size=30), paces, st.integers(0, 3))
def test_computed_tokens_are_exact_too(question, answers, pace, seed):
    targets = StepTargets.of(pace)
    rows = rows_of([question + answer for answer in answers], 4, beginning=question)
    plan = planned(rows, targets, seed, count="computed", reads_once=True)
    assert len(plan) == len(pace) and plan.counted("computed") == {"a": sum(pace)}
    assert plan.counted("presented") == plan.tokens and plan.tokens["a"] >= sum(pace)


@settings(max_examples=200, deadline=None)
@given(paces, st.integers(1, 3000))
def test_a_scaled_pace_ends_on_its_total_in_steps_scaled_alike(pace, total):
    targets = StepTargets.of(pace)
    scaled = targets.scaled(total)
    assert scaled.total == total
    assert len(scaled) == min(total, max(1, round(len(pace) * total / targets.total)))
    assert all(one < other for one, other in pairwise((0, *scaled.ends)))


# --- as part of a plan -----------------------------------------------------------------------------------


def test_a_plan_of_targets_depends_on_rows_targets_and_seed_alone():
    targets, rows = StepTargets.of([90] * 20), rows_of(range(5, 60))
    one, again = planned(rows, targets), planned(rows, targets)
    assert one == again and one.sha256 == again.sha256
    others = (planned(rows, targets, seed=2), planned(rows, StepTargets.of([90] * 19 + [91])))
    assert len({one.sha256, *(other.sha256 for other in others)}) == 3
    # neither the epochs nor the effective batch make a difference, nor does the budget to what a step reads
    for more in ({"epochs": 1.0}, {"effective_batch": 3}, {"token_budget": 64}):
        other = planned(rows, targets, **more)
        assert [step.tokens for step in other.steps] == [step.tokens for step in one.steps]


def test_a_part_of_a_paced_plan_is_that_part_of_the_whole():
    targets, rows = StepTargets.of([90] * 20), rows_of(range(5, 60))
    halves = [planned(rows, targets, part=part) for part in ((0.0, 0.5), (0.5, 1.0))]
    assert halves[0].steps + halves[1].steps == planned(rows, targets).steps


@pytest.mark.parametrize("ends", [(), (0, 5), (5, 5), (5, 4)])
def test_targets_that_do_not_rise_are_refused(ends):
    with pytest.raises(ConfigError, match="must rise"):
        StepTargets(ends)


@pytest.mark.parametrize("more", [{"max_steps": 3}, {"target_tokens": 20}])
def test_targets_beside_another_end_of_the_run_are_refused(more):
    with pytest.raises(ConfigError, match=r"targets fix 2 steps and 20 tokens, but max_steps is .*; leave"):
        PlanSettings(targets=StepTargets((10, 20)), **more)
