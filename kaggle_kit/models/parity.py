"""Parameter parity: what a strategy trains, in closed form, and ranks that make strategies equal.

    base = Base(SHAPES["gemma2b"], config.model.lora, heads={"ner": 20_739, "re": 55_310})
    variants = solve_ranks(strategies, base, target=26_000_000, parity="active")
    table = assert_parameter_parity(variants)

Two ways to count, which differ once there are private adapters. `active`: what the tokens of one task
pass through, compared task by task, since S3b's level-1 tasks pass one level of two. `total`: all that
is trained to serve every task, so the single-task strategy counts one adapter per task. With K tasks
S3a has 16 + 8 active and 16 + 8K in total. Fusion, cross-level module and heads are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings, StrategyConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.heads import build_head
from kaggle_kit.models.adapters import SHARED, private
from kaggle_kit.models.build import SINGLE, adapter_ranks, cut_layer
from kaggle_kit.models.cross_level import cross_level_parameters
from kaggle_kit.models.fusion import fusion_parameters
from kaggle_kit.models.hierarchical import LEVEL
from kaggle_kit.models.shapes import Shape, linear_shapes

PARITIES = ("active", "total")
PAIRED = ("shared_private", "sequential", "hierarchical")
RANKS = ("rank", "private_rank", "level1_rank", "level2_rank")
MAX_DIFFERENCE = 0.05  # of the largest count from the smallest, relative
WIDEST = 4  # a shared adapter has at most so many times the rank of a private one, and at least once


@dataclass(frozen=True)
class Base:
    """What all variants have in common: the backbone's shape, its LoRA targets, each task's heads."""

    shape: Shape
    lora: LoraSettings
    heads: Mapping[str, int]  # task -> parameters of its heads
    first_level: frozenset[str] = frozenset()  # tasks with nothing on level 2: half the way of S3b

    @property
    def per_rank(self) -> int:
        """LoRA parameters of one block for each unit of rank: the sum of in + out."""
        return sum(map(sum, linear_shapes(self.shape, self.lora.targets)))

    @property
    def highest_rank(self) -> int:
        """The narrower side of the narrowest layer that gets an adapter: more rank than that says no more."""
        return min(map(min, linear_shapes(self.shape, self.lora.targets)))


@dataclass(frozen=True)
class Variant:
    """One strategy with its ranks, and what it trains.

    `tasks`: the parameters that each task's tokens pass through, its heads included.
    """

    strategy: StrategyConfig
    tasks: Mapping[str, int]
    total: int

    @classmethod
    def of(cls, strategy: StrategyConfig, base: Base) -> Variant:
        ways, total = _adapters(strategy, base)
        heads = base.heads
        return cls(strategy, {task: ways[task] + heads[task] for task in heads}, total + sum(heads.values()))

    @property
    def active(self) -> int:
        """The parameters of the task with the longest way: both levels, the largest head."""
        return max(self.tasks.values())

    def count(self, parity: str) -> int:
        if parity not in PARITIES:
            raise ConfigError(f"parity is {parity!r}; allowed: {', '.join(PARITIES)}")
        return self.active if parity == "active" else self.total


def _adapters(strategy: StrategyConfig, base: Base) -> tuple[dict[str, int], int]:
    """What each task's tokens pass through before its heads, and what all tasks train together."""
    layers, tasks = base.shape.num_hidden_layers, list(base.heads)
    found = adapter_ranks(strategy, base.lora, tasks)
    if strategy.kind == "hierarchical":
        return _hierarchical(strategy, base, found)
    common = found.get(SHARED, 0) * base.per_rank * layers
    own = found.get(SINGLE, found.get(private(tasks[0]), 0))
    fusion = fusion_parameters(strategy.fusion, found.get(SHARED, 0), own, strategy.fusion_rank)
    mine = (own * base.per_rank + fusion * len(base.lora.targets)) * layers
    return dict.fromkeys(tasks, common + mine), common + mine * len(tasks)


def _hierarchical(
    strategy: StrategyConfig, base: Base, found: Mapping[str, int]
) -> tuple[dict[str, int], int]:
    layers = base.shape.num_hidden_layers
    top = layers - cut_layer(strategy, layers)
    cross = cross_level_parameters(strategy.cross_level, base.shape.hidden_size, strategy.cross_level_rank)
    first = base.per_rank * (found[SHARED] * layers + found[LEVEL[1]] * top)
    whole = first + base.per_rank * found[LEVEL[2]] * top + cross
    return {task: first if task in base.first_level else whole for task in base.heads}, whole


def head_parameters(specs: Iterable[TaskSpec], hidden_size: int, *, decoder: bool = True) -> dict[str, int]:
    """Task -> parameters of its heads, without allocating any."""
    with torch.device("meta"):
        heads = {
            spec.name: [build_head(part, hidden_size, decoder=decoder) for part in spec.components]
            for spec in specs
        }
    return {
        task: sum(p.numel() for head in built for p in head.parameters()) for task, built in heads.items()
    }


def solve_ranks(
    strategies: Sequence[StrategyConfig],
    base: Base,
    *,
    target: int = 26_000_000,
    parity: str = "active",
    tolerance: float = MAX_DIFFERENCE,
) -> list[Variant]:
    """Each strategy with ranks such that all lie within `tolerance` of each other, near the target.

    Shared and private ranks stay as near to 2 : 1 as parity allows, both levels of S3b alike. Raises
    ConfigError where ranks, being whole numbers no larger than a layer is wide, cannot meet the target;
    it names the nearest target that they can.
    """
    _assert_in_reach(strategies, base, target, parity, tolerance)
    # a difference weighs most for the task with the smallest heads
    slack = max(base.heads.values()) - min(base.heads.values()) if parity == "active" else 0
    choices = [[Variant.of(filled, base) for filled in _fillings(s, base, target)] for s in strategies]
    anchors = sorted({v.count(parity) for some in choices for v in some}, key=lambda n: abs(n - target))
    for anchor in anchors:
        found = [
            _nearest(some, anchor, parity, (anchor - slack) * tolerance / (2 + tolerance)) for some in choices
        ]
        if all(found):
            break
    else:
        raise ConfigError(f"no ranks make these strategies equal anywhere near {target:,} parameters")
    if abs(anchor - target) > tolerance * target:
        raise ConfigError(
            f"no ranks bring all within {tolerance:.0%} of {target:,} {parity} parameters: one unit "
            f"of rank is {base.per_rank * base.shape.num_hidden_layers:,}; the nearest target is {anchor:,}"
        )
    return found


def _assert_in_reach(
    strategies: Sequence[StrategyConfig], base: Base, target: int, parity: str, tolerance: float
) -> None:
    most = base.highest_rank
    fullest = [_filled(strategy, most, most) for strategy in strategies]
    reached = min(Variant.of(strategy, base).count(parity) for strategy in fullest)
    if reached < (1 - tolerance) * target:
        raise ConfigError(
            f"no ranks bring all within {tolerance:.0%} of {target:,} {parity} parameters: the narrowest "
            f"layer with an adapter has a side of {most}, and with that rank the largest count that all "
            f"reach is {reached:,}; set the target to no more"
        )


def _fillings(strategy: StrategyConfig, base: Base, target: int) -> Iterator[StrategyConfig]:
    """The strategy with every pair of ranks of up to twice the target, or as wide as the narrowest layer."""
    most = max(2, 2 * target // (base.per_rank * base.shape.num_hidden_layers))
    most = min(most, base.highest_rank)
    for rank in range(1, most + 1):
        owns = range(-(-rank // WIDEST), rank + 1) if strategy.kind in PAIRED else [None]
        for own in owns:
            yield _filled(strategy, rank, own)


def _filled(strategy: StrategyConfig, rank: int, own: int | None) -> StrategyConfig:
    """The strategy with these ranks in the keys that its kind reads."""
    if strategy.kind == "hierarchical":
        return replace(strategy, rank=rank, level1_rank=own, level2_rank=own)
    if strategy.kind == "private":
        return replace(strategy, private_rank=rank)
    return replace(strategy, rank=rank, private_rank=own if strategy.kind in PAIRED else None)


def _nearest(some: Sequence[Variant], anchor: int, parity: str, margin: float) -> Variant | None:
    near = [v for v in some if abs(v.count(parity) - anchor) <= margin]
    return min(near, key=lambda v: (_skew(v.strategy), abs(v.count(parity) - anchor)), default=None)


def _skew(strategy: StrategyConfig) -> float:
    """How far shared and private rank are from 2 : 1."""
    return abs(strategy.rank / _own(strategy) - 2) if strategy.kind in PAIRED else 0.0


def _own(strategy: StrategyConfig) -> int:
    return strategy.level1_rank if strategy.kind == "hierarchical" else strategy.private_rank


def assert_parameter_parity(
    variants: Sequence[Variant], tolerance: float = MAX_DIFFERENCE, parity: str = "active"
) -> str:
    """The parity table. ConfigError with it where the largest and the smallest count differ by more.

    Active parameters are compared for each task by itself, total ones for all tasks together.
    """
    rows = {f"{parity} parameters": [variant.count(parity) for variant in variants]}
    if parity == "active":
        rows |= {f"active parameters of {task}": _of_task(variants, task) for task in _tasks(variants)}
    table = parity_table(variants)
    for what, counts in rows.items():
        if (gap := spread(counts)) > tolerance:
            raise ConfigError(
                f"{what} differ by {gap:.1%}, more than {tolerance:.0%}; "
                f"take the ranks of solve_ranks (experiment.target solves them)\n{table}"
            )
    return table


def parity_table(variants: Sequence[Variant]) -> str:
    """One line per variant: ranks, active and total parameters against the first; then one per task."""
    first = variants[0]
    lines = [f"{'strategy':18} {'kind':15} {'ranks':>8} {'active':>13} {'':>7} {'total':>13} {'':>7}"]
    for variant in variants:
        lines.append(
            f"{variant.strategy.name:18} {variant.strategy.kind:15} {_said(variant.strategy):>8} "
            f"{variant.active:>13,} {variant.active / first.active - 1:>+7.1%} "
            f"{variant.total:>13,} {variant.total / first.total - 1:>+7.1%}"
        )
    lines.append(
        f"active parameters by task: {', '.join(v.strategy.name for v in variants)}, widest difference"
    )
    for task in _tasks(variants):
        counts = _of_task(variants, task)
        lines.append(f"  {task:32} {' '.join(f'{n:>13,}' for n in counts)} {spread(counts):>7.1%}")
    return "\n".join(lines)


def _said(strategy: StrategyConfig) -> str:
    """The ranks in words of the parity table, such as 24 or 16+8+8."""
    return "+".join(str(rank) for key in RANKS if (rank := getattr(strategy, key)) is not None)


def _tasks(variants: Sequence[Variant]) -> list[str]:
    return [task for task in variants[0].tasks if all(task in variant.tasks for variant in variants)]


def _of_task(variants: Sequence[Variant], task: str) -> list[int]:
    return [variant.tasks[task] for variant in variants]


def spread(counts: Sequence[int]) -> float:
    """How far the largest count is above the smallest, relative."""
    return max(counts) / min(counts) - 1
