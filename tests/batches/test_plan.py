"""The step plan: exact shares, exact tokens, whole groups, and the same plan for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.batches.plan import PlanSettings, TaskRows, steps_per_epoch
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.errors import ConfigError


def rows_of(lengths, groups=None) -> TaskRows:
    lengths = np.asarray(lengths)
    return TaskRows(lengths, np.arange(len(lengths)) if groups is None else np.asarray(groups))


def tasks(sizes=(80, 20)) -> dict[str, TaskRows]:
    rng = np.random.default_rng(0)
    return {name: rows_of(rng.integers(5, 60, size)) for name, size in zip("abcde", sizes, strict=False)}


def drawn(plan) -> Counter:
    return Counter(batch.task for step in plan.steps for batch in step.micro_batches for _ in batch.rows)


@pytest.mark.parametrize(
    ("sampling", "temperature", "shares", "draws"),
    [
        ("proportional", 1.0, {"a": 0.8, "b": 0.2}, {"a": 80, "b": 20}),
        ("uniform", 1.0, {"a": 0.5, "b": 0.5}, {"a": 50, "b": 50}),
        ("temperature", 1.0, {"a": 0.8, "b": 0.2}, {"a": 80, "b": 20}),
        # square roots: 8.944 and 4.472, two to one
        ("temperature", 2.0, {"a": 2 / 3, "b": 1 / 3}, {"a": 67, "b": 33}),
    ],
)
def test_each_sampling_draws_exactly_its_share(sampling, temperature, shares, draws):
    chosen = PlanSettings(epochs=1, sampling=sampling, temperature=temperature)
    sampler = MultiTaskBatchSampler(tasks(), chosen, seed=1)
    assert sampler.shares() == pytest.approx(shares)
    assert drawn(sampler.plan()) == draws


def test_a_temperature_of_five_lies_between_two_and_uniform():
    shares = [
        MultiTaskBatchSampler(tasks(), PlanSettings(sampling="temperature", temperature=t), 0).shares()["a"]
        for t in (1, 2, 5, 1000)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.5, abs=1e-3)
    assert shares[2] == pytest.approx(80**0.2 / (80**0.2 + 20**0.2))


@pytest.mark.parametrize("epochs", [1, 3])
def test_whole_epochs_read_every_row_equally_often(epochs):
    plan = MultiTaskBatchSampler(tasks(), PlanSettings(epochs=epochs, effective_batch=7), seed=3).plan()
    times = Counter((b.task, row) for step in plan.steps for b in step.micro_batches for row in b.rows)
    assert set(times.values()) == {epochs} and len(times) == 100
    assert plan.tokens == {name: epochs * int(rows.lengths.sum()) for name, rows in tasks().items()}


def test_half_an_epoch_reads_half_of_the_rows_and_none_twice():
    plan = MultiTaskBatchSampler({"a": tasks()["a"]}, PlanSettings(epochs=0.5), seed=3).plan()
    rows = [row for step in plan.steps for batch in step.micro_batches for row in batch.rows]
    assert len(rows) == len(set(rows)) == 40


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    budget=st.integers(50, 200),
    effective=st.integers(1, 9),
    null=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 5),
)
def test_budgets_hold_and_tokens_are_the_sum_of_lengths(lengths, budget, effective, null, seed):
    chosen = PlanSettings(epochs=2, effective_batch=effective, token_budget=budget, null_every=null)
    plan = MultiTaskBatchSampler({"a": rows_of(lengths)}, chosen, seed).plan()
    for step in plan.steps:
        assert sum(len(batch.rows) for batch in step.micro_batches) <= effective
        for batch in step.micro_batches:
            assert batch.tokens == sum(lengths[row] for row in batch.rows) <= budget
            assert [lengths[row] for row in batch.rows] == sorted(
                (lengths[r] for r in batch.rows), reverse=True
            )
    assert plan.tokens == {"a": 2 * sum(lengths)}


def test_the_effective_batch_does_not_depend_on_the_token_budget():
    sizes = []
    for budget in (64, 4096):
        chosen = PlanSettings(epochs=1, effective_batch=10, token_budget=budget)
        plan = MultiTaskBatchSampler(tasks(), chosen, seed=5).plan()
        sizes.append([sorted((b.task, r) for b in s.micro_batches for r in b.rows) for s in plan.steps])
    assert sizes[0] == sizes[1]
    assert [len(step) for step in sizes[0]] == [10] * 10


def test_a_row_longer_than_the_budget_passes_alone():
    plan = MultiTaskBatchSampler(
        {"a": rows_of([9, 300, 9])}, PlanSettings(epochs=1, token_budget=20), 0
    ).plan()
    assert [(b.rows, b.tokens) for b in plan.steps[0].micro_batches] == [((1,), 300), ((0, 2), 18)]


def test_the_rows_of_a_group_stay_in_one_step():
    groups = np.repeat(np.arange(12), 5)
    rows = rows_of(np.full(60, 10), groups)
    plan = MultiTaskBatchSampler(
        {"q": rows}, PlanSettings(epochs=2, effective_batch=12, token_budget=70), 2
    ).plan()
    for step in plan.steps:
        seen = Counter(int(groups[row]) for batch in step.micro_batches for row in batch.rows)
        assert set(seen.values()) == {5}
        assert sum(seen.values()) == 15  # the first multiple of a group that fills the step


def test_a_group_that_fits_the_budget_is_never_split_over_micro_batches():
    groups = np.repeat(np.arange(12), 5)
    rows = rows_of(np.random.default_rng(1).integers(5, 14, 60), groups)  # at most 65 tokens a group
    plan = MultiTaskBatchSampler({"q": rows}, PlanSettings(effective_batch=20, token_budget=70), 2).plan()
    for batch in (batch for step in plan.steps for batch in step.micro_batches):
        assert set(Counter(int(groups[row]) for row in batch.rows).values()) == {5}


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    first, again, other = (MultiTaskBatchSampler(tasks(), PlanSettings(), seed).plan() for seed in (4, 4, 5))
    assert first == again and first.sha256 == again.sha256
    assert first.sha256 != other.sha256


def test_the_hash_changes_with_any_setting_and_any_length():
    base = MultiTaskBatchSampler(tasks(), PlanSettings(), 4).plan().sha256
    longer = tasks()
    longer["a"].lengths[3] += 1
    others = [
        MultiTaskBatchSampler(tasks(), PlanSettings(token_budget=2049), 4).plan().sha256,
        MultiTaskBatchSampler(tasks(), PlanSettings(sampling="uniform"), 4).plan().sha256,
        MultiTaskBatchSampler(tasks(), PlanSettings(max_steps=2), 4).plan().sha256,
        MultiTaskBatchSampler(longer, PlanSettings(), 4).plan().sha256,
    ]
    assert len({base, *others}) == 5


def test_the_hash_of_the_steps_changes_with_the_rows_of_a_step_and_not_with_its_micro_batches():
    base = MultiTaskBatchSampler(tasks(), PlanSettings(), 4).plan().steps_sha256
    alike = (PlanSettings(token_budget=300), PlanSettings(null_every=2))
    assert {MultiTaskBatchSampler(tasks(), one, 4).plan().steps_sha256 for one in alike} == {base}
    longer = tasks()
    longer["a"].lengths[3] += 1
    others = [
        MultiTaskBatchSampler(tasks(), PlanSettings(), 5).plan().steps_sha256,
        MultiTaskBatchSampler(tasks(), PlanSettings(sampling="uniform"), 4).plan().steps_sha256,
        MultiTaskBatchSampler(tasks(), PlanSettings(effective_batch=8), 4).plan().steps_sha256,
        MultiTaskBatchSampler(longer, PlanSettings(), 4).plan().steps_sha256,
    ]
    assert len({base, *others}) == 5


def test_a_limit_of_steps_gives_the_first_steps_of_the_whole_run():
    whole = MultiTaskBatchSampler(tasks(), PlanSettings(effective_batch=8), 4).plan()
    short = MultiTaskBatchSampler(tasks(), PlanSettings(effective_batch=8, max_steps=5), 4).plan()
    assert short.steps == whole.steps[:5]


@pytest.mark.parametrize(
    "more",
    [{"epochs": 1}, {"epochs": 3, "null_every": 2}, {"target_tokens": 2000}, {"max_steps": 5}],
    ids=lambda more: "+".join(more),
)
@pytest.mark.parametrize("budget", [64, 2048])
def test_two_halves_are_together_the_whole_plan(more, budget):
    chosen = {"effective_batch": 8, "token_budget": budget, **more}
    whole = MultiTaskBatchSampler(tasks(), PlanSettings(**chosen), seed=4).plan()
    halves = [
        MultiTaskBatchSampler(tasks(), PlanSettings(**chosen, part=part), seed=4).plan()
        for part in ((0.0, 0.5), (0.5, 1.0))
    ]
    assert halves[0].steps + halves[1].steps == whole.steps
    assert 0 <= len(halves[0]) - len(halves[1]) <= 1
    assert len({whole.sha256, *(half.sha256 for half in halves)}) == 3
    together = {name: sum(half.tokens[name] for half in halves) for name in tasks()}
    assert together == whole.tokens
    if "target_tokens" in more:
        assert sum(together.values()) == 2000


def test_two_halves_of_one_epoch_read_every_row_once():
    read = Counter()
    for part in ((0.0, 0.5), (0.5, 1.0)):
        plan = MultiTaskBatchSampler(tasks(), PlanSettings(epochs=1, part=part), seed=4).plan()
        read.update((b.task, row) for step in plan.steps for b in step.micro_batches for row in b.rows)
    assert set(read.values()) == {1} and len(read) == 100


def test_a_part_without_a_step_is_refused():
    sampler = MultiTaskBatchSampler(tasks(), PlanSettings(max_steps=1, part=(0.5, 1.0)), 4)
    with pytest.raises(ConfigError, match=r"from 0\.5 to 1 of a plan of 1 steps has none; raise training"):
        sampler.plan()


@pytest.mark.parametrize("target", [1, 37, 500, 5000])
def test_a_token_controlled_plan_ends_on_its_target_to_the_token(target):
    chosen = PlanSettings(target_tokens=target, effective_batch=8, token_budget=128)
    plan = MultiTaskBatchSampler({"a": tasks()["a"]}, chosen, seed=6).plan()
    assert plan.tokens == {"a": target}
    cuts = [batch.cut for step in plan.steps for batch in step.micro_batches]
    assert not any(cuts[:-1])


@pytest.mark.parametrize("target", [1, 37, 500, 5000])
def test_several_tasks_together_end_on_their_target_and_keep_their_shares(target):
    chosen = PlanSettings(target_tokens=target, epochs=0.5, effective_batch=8, token_budget=128)
    sampler = MultiTaskBatchSampler(tasks(), chosen, seed=6)
    plan = sampler.plan()
    assert sum(plan.tokens.values()) == target
    batches = [batch for step in plan.steps for batch in step.micro_batches]
    lengths = {name: rows.lengths for name, rows in tasks().items()}
    assert [b.tokens for b in batches] == [int(lengths[b.task][list(b.rows)].sum()) - b.cut for b in batches]
    assert sum(batch.cut > 0 for batch in batches) <= 1
    if target == 5000:
        counted = drawn(plan)
        for name, share in sampler.shares().items():
            assert counted[name] / counted.total() == pytest.approx(share, abs=0.05)


def test_up_to_its_end_a_targeted_plan_is_the_plan_of_the_epochs():
    whole = MultiTaskBatchSampler(tasks(), PlanSettings(epochs=2, effective_batch=8), seed=6).plan()
    target = sum(sum(step.tokens.values()) for step in whole.steps[:5])
    chosen = PlanSettings(epochs=2, effective_batch=8, target_tokens=target)
    assert MultiTaskBatchSampler(tasks(), chosen, seed=6).plan().steps == whole.steps[:5]


def test_every_task_of_a_halved_step_is_split_in_two_random_halves_of_the_same_rows():
    chosen = PlanSettings(epochs=1, effective_batch=20, null_every=2)
    plan = MultiTaskBatchSampler(tasks(), chosen, seed=7).plan()
    plain = MultiTaskBatchSampler(tasks(), PlanSettings(epochs=1, effective_batch=20), seed=7).plan()
    for number, (with_null, without) in enumerate(zip(plan.steps, plain.steps, strict=True)):
        read = [
            sorted((b.task, r) for b in step.micro_batches for r in b.rows) for step in (with_null, without)
        ]
        assert read[0] == read[1]
        for task in without.tokens:
            rows = sum(len(b.rows) for b in without.micro_batches if b.task == task)
            halves = [b.half for b in with_null.micro_batches if b.task == task]
            assert halves == sorted(halves, key=lambda half: half or 0)
            assert set(halves) == ({0, 1} if number % 2 == 0 and rows > 1 else {None})


def test_the_groups_of_a_halved_task_stay_whole():
    questions = TaskRows(np.full(40, 30), np.repeat(np.arange(4), 10))  # four questions of ten candidates
    chosen = PlanSettings(epochs=1, effective_batch=60, null_every=1, token_budget=100, sampling="uniform")
    plan = MultiTaskBatchSampler({"a": rows_of([5] * 40), "q": questions}, chosen, seed=1).plan()
    batches = [batch for step in plan.steps for batch in step.micro_batches if batch.task == "q"]
    assert any(batch.half is not None for batch in batches)
    for batch in batches:
        assert {row % 10 for row in batch.rows} == set(range(10))


def test_a_single_question_is_not_halved():
    one = TaskRows(np.full(10, 30), np.zeros(10, dtype=int))
    chosen = PlanSettings(epochs=1, effective_batch=10, null_every=1)
    (step,) = MultiTaskBatchSampler({"q": one}, chosen, seed=1).plan().steps
    assert [batch.half for batch in step.micro_batches] == [None]


def test_a_plan_needs_a_task():
    with pytest.raises(ConfigError, match="at least one task"):
        MultiTaskBatchSampler({}, PlanSettings(), 0)


@pytest.mark.parametrize(
    ("sampling", "more", "expected"),
    [
        ("proportional", {"epochs": 4}, 10),  # 100 rows by 10
        ("temperature", {"epochs": 4}, 10),  # other tasks, as many rows
        ("proportional", {"epochs": 4, "max_steps": 7}, 10),  # less than an epoch is planned
        ("proportional", {"epochs": 1, "target_tokens": 9_000}, 10),
    ],
)
def test_an_epoch_of_several_tasks_is_as_many_groups_as_they_hold_together(sampling, more, expected):
    rows = tasks()
    chosen = PlanSettings(effective_batch=10, sampling=sampling, temperature=2.0, **more)
    plan = MultiTaskBatchSampler(rows, chosen, seed=1).plan()
    found = steps_per_epoch(plan, {name: task.groups for name, task in rows.items()})
    assert found == pytest.approx(expected, rel=0.01)


def test_an_epoch_counts_questions_and_not_their_candidates():
    rows = {"ranking": rows_of([5] * 40, np.repeat(np.arange(10), 4)), "ner": rows_of([5] * 20)}
    plan = MultiTaskBatchSampler(rows, PlanSettings(epochs=3, effective_batch=4), seed=1).plan()
    found = steps_per_epoch(plan, {name: task.groups for name, task in rows.items()})
    assert found == pytest.approx(len(plan) / 3, rel=0.05)  # a group twice in a micro-batch counts once
