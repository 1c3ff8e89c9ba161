"""The search for a token budget, on devices whose memory and speed are known formulas."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from kaggle_kit.batches.plan import TaskRows
from kaggle_kit.training.autobatch import (
    AutoBatchError,
    Measured,
    Point,
    find_optimal_batch_size,
    layer_bytes,
    worst_plan,
)

GIB, MIB = 2**30, 2**20


@dataclass
class Device:
    """Bytes grow with tokens and kept layers (and with the square of the tokens, where attention is eager);
    recomputing a layer costs half as much again; small batches leave the device idle."""

    total: int = 15 * GIB
    base: int = 6 * GIB
    layers: int = 32
    kept: float = 0.14 * MIB  # per token and layer that is not checkpointed
    inputs: float = 0.01 * MIB  # per token and layer that is
    square: float = 0.0
    knee: float = 300.0  # tokens at which half the device's speed is reached
    asked: list[Point] = field(default_factory=list)

    def bytes_at(self, point: Point) -> float:
        tokens, recomputed = point.token_budget, point.checkpointed
        per_token = self.kept * (self.layers - recomputed) + self.inputs * recomputed
        return self.base + per_token * tokens + self.square * tokens**2

    def speed_at(self, point: Point) -> float:
        busy = point.token_budget / (point.token_budget + self.knee)
        return 1000 * busy / (1 + 0.5 * point.checkpointed / self.layers)

    def measure(self, point: Point) -> Measured:
        self.asked.append(point)
        return Measured(point, int(self.bytes_at(point)), int(self.base), self.speed_at(point))

    def find(self, **more):
        options = {"least": 512, "most": 8192, "layer_bytes": layer_bytes(4096), "layers": self.layers}
        return find_optimal_batch_size(self.measure, limit_bytes=int(0.85 * self.total), **options | more)

    def fastest(self, least: int = 512, most: int = 8192) -> float:
        """Over every feasible point there is."""
        points = (Point(t, n) for t in range(least, most + 1, 64) for n in range(self.layers + 1))
        return max(self.speed_at(p) for p in points if self.bytes_at(p) <= 0.85 * self.total)


DEVICES = {
    "eager attention and nothing else": Device(
        base=1 * GIB, square=2_000.0, kept=0.0, inputs=0.0, knee=3000.0
    ),
    "7B on a T4": Device(),
    "a small model that always fits": Device(base=1 * GIB, kept=0.01 * MIB),
    "a large model that must be checkpointed": Device(base=11 * GIB),
    "eager attention": Device(square=200.0, kept=0.05 * MIB),
    "mostly eager attention": Device(base=1 * GIB, square=900.0, kept=0.001 * MIB, inputs=0.0),
    "slow to fill": Device(knee=3000.0),
}


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_no_point_is_tried_that_does_not_fit_and_the_best_is_near_the_fastest_there_is(device):
    found = device.find()
    assert max(map(device.bytes_at, device.asked)) <= 0.85 * device.total
    assert found.best.tokens_per_second == max(m.tokens_per_second for m in found.measured)
    assert found.best.tokens_per_second >= 0.9 * device.fastest()
    assert len(device.asked) <= 25 and len(set(device.asked)) == len(device.asked)


def test_less_checkpointing_with_a_smaller_budget_wins_where_it_is_faster():
    best = DEVICES["7B on a T4"].find().best.point
    assert best.checkpointed < 32 and best.token_budget < 4096
    assert DEVICES["a large model that must be checkpointed"].find().best.point.checkpointed > 16
    assert DEVICES["a small model that always fits"].find().best.point.checkpointed == 0


def test_a_model_that_must_be_checkpointed_is_although_it_would_fit_without():
    asked = DEVICES["a small model that always fits"]
    found = asked.find(fewest=32)
    assert {measured.point.checkpointed for measured in found.measured} == {32}  # all layers, at every budget
    assert found.best.tokens_per_second == max(m.tokens_per_second for m in found.measured)


def test_nothing_that_fits_is_an_error_with_the_need_and_the_limit():
    with pytest.raises(AutoBatchError, match="need 14.2 GiB, and 12.8 GiB are allowed"):
        Device(base=14 * GIB).find()


def test_a_search_out_of_time_takes_the_best_so_far():
    device = Device()
    found = device.find(enough=lambda: True)
    assert {m.point.token_budget for m in found.measured} == {512}
    assert found.best.point.checkpointed == min(point.checkpointed for point in device.asked)


def test_a_point_that_turned_out_not_to_fit_is_never_the_best():
    device = Device()

    def measure(point: Point) -> Measured:
        measured = device.measure(point)
        wrong = point.token_budget > 700
        return Measured(point, 2**62, measured.resident_bytes, 10**6) if wrong else measured

    found = find_optimal_batch_size(
        measure, layers=32, limit_bytes=12 * GIB, least=512, most=8192, layer_bytes=layer_bytes(4096)
    )
    assert found.best.point.token_budget <= 700


def test_the_worst_plan_holds_the_longest_the_shortest_and_both_within_the_budget():
    lengths = np.array([10, 200, 20, 30, 190, 40, 50, 15])
    rows = {"ner": TaskRows(lengths, np.arange(8)), "qa": TaskRows(lengths * 2, np.arange(8))}
    plan = worst_plan(rows, 400, seed=1, halved=False)
    assert len(plan) >= 4
    longest, shortest, mixed = (
        [b for b in step.micro_batches if b.task == "ner"][0] for step in plan.steps[:3]
    )
    assert longest.rows == (1, 4) and longest.tokens == 390
    assert set(shortest.rows) == {0, 7, 2, 3, 5, 6, 4} and shortest.tokens == 355
    assert set(mixed.rows) == {1, 0, 4} and mixed.tokens == 400
    for step in plan.steps:
        assert {batch.task for batch in step.micro_batches} == {"ner", "qa"}
        assert all(batch.tokens <= 400 for batch in step.micro_batches)


def test_a_row_longer_than_the_budget_still_makes_a_batch():
    rows = {"ner": TaskRows(np.array([500, 20, 30]), np.arange(3))}
    assert worst_plan(rows, 400, seed=1, halved=False).steps[0].micro_batches[0].rows == (0,)


def test_the_last_worst_step_measures_conflicts_of_every_task_on_whole_batches():
    rows = {name: TaskRows(np.array([100, 90, 80, 70]), np.arange(4)) for name in ("ner", "qa")}
    whole = worst_plan(rows, 400, seed=1, halved=False).steps
    steps = worst_plan(rows, 400, seed=1, halved=True).steps
    assert steps[:-1] == whole[:-1]
    halves = [(batch.task, batch.half) for batch in steps[-1].micro_batches]
    assert halves == [("ner", 0), ("ner", 1), ("qa", 0), ("qa", 1)]
    assert [b.rows for b in steps[-1].micro_batches[::2]] == [b.rows for b in whole[-1].micro_batches]
