"""The token budget and the number of checkpointed layers that train fastest within 85 % of the memory.

    found = find_optimal_batch_size(measure, layers=32, limit_bytes=limit, least=512, most=8192,
                                    layer_bytes=layer_bytes(config.hidden_size))
    found.best.point                  # Point(token_budget=1024, checkpointed=8)

`measure(point)` takes at least three optimiser steps of worst-case batches and says what they needed
(`experiment/memory_probe.py` does it on a GPU, in a process of its own). The search is separate from it, so
that it can be tried on a device whose memory is known. It never runs out of memory on purpose: a point is
measured only if what was measured before says that it fits, even if memory grew with the square of the
budget.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from kaggle_kit.batches.plan import PlannedBatch, PlannedStep, PlanSettings, StepPlan, TaskRows
from kaggle_kit.core.errors import KitError

SHARE = 0.85  # of the device's memory
FLAT = 1.02  # less gain than this from a larger budget: the device is busy
GRAIN = 64  # budgets are multiples of it
STEPS = 4  # the first makes the optimiser's state, and is the slowest; at least three follow


class AutoBatchError(KitError):
    """No budget was found: not even the least one fits, or the measuring process failed."""


@dataclass(frozen=True, order=True)
class Point:
    """`token_budget`: tokens per micro-batch. `checkpointed`: the first so many layers are recomputed."""

    token_budget: int
    checkpointed: int


@dataclass(frozen=True)
class Measured:
    """What a point's steps needed: the device's whole memory at the peak, before them, and their speed."""

    point: Point
    peak_bytes: int
    resident_bytes: int
    tokens_per_second: float


@dataclass(frozen=True)
class Found:
    """The fastest feasible point, and all that was measured on the way to it."""

    best: Measured
    measured: tuple[Measured, ...]


@dataclass
class _Search:
    measure: Callable[[Point], Measured]
    limit_bytes: int
    layer_bytes: int
    most: int
    enough: Callable[[], bool]
    seen: list[Measured] = field(default_factory=list)

    @property
    def feasible(self) -> list[Measured]:
        return [measured for measured in self.seen if measured.peak_bytes <= self.limit_bytes]

    def look(self, point: Point) -> Measured | None:
        """Measure a point unless it might not fit; None then, or where it turned out not to."""
        if self.bound(point) > self.limit_bytes:
            return None
        self.seen.append(self.measure(point))
        return self.seen[-1] if self.seen[-1].peak_bytes <= self.limit_bytes else None

    def bound(self, point: Point) -> float:
        """Return more bytes than the point can need, as far as the measurements can tell.

        With the same layers checkpointed: on from the largest measured budget, at twice the growth
        between the last two (three times that from nothing to the first), which is what the square of
        the budget reaches when it doubles. Otherwise: on from the measured point with the next more
        layers checkpointed, `layer_bytes` for each token and layer that is now kept.
        """
        same = sorted((m for m in self.seen if m.point.checkpointed == point.checkpointed), key=_budget)
        if same:
            last = same[-1]
            before, bytes_before, faster = 0, last.resident_bytes, 3
            if len(same) > 1:
                before, bytes_before, faster = _budget(same[-2]), same[-2].peak_bytes, 2
            growth = max(0.0, last.peak_bytes - bytes_before) / (_budget(last) - before)
            return last.peak_bytes + faster * growth * (point.token_budget - _budget(last))
        more = [m for m in self.seen if m.point.checkpointed > point.checkpointed]
        if not more:
            return 0.0  # the least that any run needs: all layers checkpointed, the least budget
        nearest = min(more, key=lambda m: m.point)
        kept = nearest.point.checkpointed - point.checkpointed
        return nearest.peak_bytes + kept * point.token_budget * self.layer_bytes

    def grow(self, last: Measured) -> bool:
        """Raise the budget as far as it pays, at most twofold and only if it is sure to fit.

        True where no further checkpointing can bring more speed.
        """
        while (budget := last.point.token_budget) < self.most:
            larger = (
                replace(last.point, token_budget=tokens)
                for tokens in range(min(2 * budget, self.most), budget, -GRAIN)
            )
            point = next((point for point in larger if self.bound(point) <= self.limit_bytes), last.point)
            if self.enough():
                return True
            if point.token_budget < 1.05 * budget or (found := self.look(point)) is None:
                return False
            gained = found.tokens_per_second >= FLAT * last.tokens_per_second
            if not gained and point.token_budget >= 1.3 * budget:
                return True
            last = found
        return True


def find_optimal_batch_size(
    measure: Callable[[Point], Measured],
    *,
    layers: int,
    limit_bytes: int,
    least: int,
    most: int,
    layer_bytes: int,
    fewest: int = 0,
    enough: Callable[[], bool] = lambda: False,
) -> Found:
    """Return the fastest point, in tokens/s, among those whose peak stays within `limit_bytes`.

    `least` is the longest group of rows, which every budget must hold; `most` what a whole optimiser step
    can fill. `layer_bytes` bounds what one layer keeps per token when it is not checkpointed; at least
    `fewest` layers are. `enough` ends the search early, with the best point so far. Raises AutoBatchError
    where nothing fits.

    The least budget is tried first with all layers checkpointed and then with ever fewer. From there
    budgets grow, fewest layers first, until memory or speed ends it: once a larger budget brings no more
    speed, or more checkpointing has brought less, the search is over, for recomputing only adds work.
    """
    search = _Search(measure, limit_bytes, layer_bytes, most, enough)
    starts: list[Measured] = []
    quarters = {round(layers * quarter / 4) for quarter in range(5)}
    for checkpointed in sorted((count for count in quarters if count >= fewest), reverse=True):
        start = search.look(Point(least, checkpointed))
        if start is None:
            break
        starts.append(start)
    before = 0.0
    for start in reversed(starts):
        done, checkpointed = search.grow(start), start.point.checkpointed
        reached = max(m.tokens_per_second for m in search.feasible if m.point.checkpointed == checkpointed)
        if done or reached < before:
            break
        before = reached
    if not starts:
        needed = f"{search.seen[0].peak_bytes / 2**30:.1f} GiB" if search.seen else "more"
        raise AutoBatchError(
            f"{least} tokens with all {layers} layers checkpointed need {needed}, and "
            f"{limit_bytes / 2**30:.1f} GiB are allowed; shorten training.max_length or take a smaller model"
        )
    best = max(search.feasible, key=lambda m: (m.tokens_per_second, -m.point.token_budget))
    return Found(best, tuple(search.seen))


def worst_plan(
    rows: Mapping[str, TaskRows], token_budget: int, *, seed: int, halved: bool, steps: int = STEPS
) -> StepPlan:
    """Return a plan whose every step is the worst that a budget can hold, for every task and head.

    The batches of a step's tasks are its longest rows (most attention, no padding), its shortest ones
    (most rows for the heads) or both ends mixed (most padding inside attention groups), in turn. With
    `halved` the last step measures conflicts: a second half of one row follows each batch.
    """
    made = []
    for number in range(steps):
        batches: list[PlannedBatch] = []
        for task, of in rows.items():
            batch = _worst_batch(task, of, token_budget, shape=number % 3)
            batches += _halves(batch, of) if halved and number == steps - 1 else [batch]
        made.append(PlannedStep(tuple(batches)))
    settings = PlanSettings(token_budget=token_budget, max_steps=steps)
    return StepPlan(tuple(made), settings, seed, tuple(rows))


def layer_bytes(hidden_size: int) -> int:
    """Return an upper bound of a layer's bytes per token that the backward pass needs in float16.

    34 bytes per hidden unit are kept without adapters (Korthikanti et al. 2022, without the attention
    matrix); adapters keep their inputs once more in float32.
    """
    return 128 * hidden_size


def _worst_batch(task: str, rows: TaskRows, budget: int, shape: int) -> PlannedBatch:
    """Rows up to the budget (at least one): the longest, the shortest, or the longest of each in turn."""
    by_length = np.argsort(-rows.lengths, kind="stable")
    ends = np.ravel(np.column_stack([by_length, by_length[::-1]]))[: len(by_length)]
    order = (by_length, by_length[::-1], ends)[shape]
    fits = int(np.searchsorted(np.cumsum(rows.lengths[order]), budget, side="right"))
    return _batch(task, order[: max(1, fits)], rows)


def _halves(batch: PlannedBatch, rows: TaskRows) -> list[PlannedBatch]:
    """Return the whole batch as first half, for a real one may fill the budget too, and one row as second."""
    one = _batch(batch.task, np.array(batch.rows[-1:]), rows)
    return [replace(batch, half=0), replace(one, half=1)]


def _batch(task: str, chosen: Iterable[int], rows: TaskRows) -> PlannedBatch:
    ordered = sorted((int(row) for row in chosen), key=lambda row: (-rows.lengths[row], row))
    return PlannedBatch(task, tuple(ordered), int(rows.lengths[ordered].sum()) if ordered else 0)


def _budget(measured: Measured) -> int:
    return measured.point.token_budget
