"""Count the parameters that a strategy trains, in closed form, and find ranks that make strategies equal.

    base = Base.of(loaded.backbone, config.model.lora, heads={"ner": 20_739, "re": 55_310})
    variants = solve_ranks(strategies, base, target=26_000_000, parity="active")
    table = assert_parameter_parity(variants)

There are two ways to count, which differ once there are private adapters. `active` counts the parameters
that the tokens of one task pass through, task by task, since S3b's level-1 tasks pass one level of two.
`total` counts all that is trained to serve every task: the single-task strategy has one adapter per task.
With K tasks S3a has 16 + 8 active and 16 + 8K in total. Fusion, cross-level module and heads are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings, StrategyConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.heads import build_head
from kaggle_kit.models.adapters import SHARED, check_targets, private
from kaggle_kit.models.build import SINGLE, adapter_ranks, cut_layer
from kaggle_kit.models.fusion import fusion_parameters
from kaggle_kit.models.hierarchical import LEVEL, cross_level_parameters
from kaggle_kit.models.reading import layers_of

PARITIES = ("active", "total")
PAIRED = ("shared_private", "sequential", "hierarchical")
RANKS = ("rank", "private_rank", "level1_rank", "level2_rank")
MAX_DIFFERENCE = 0.05  # of the largest count from the smallest, relative
WIDEST = 4  # a shared adapter has at most so many times the rank of a private one, and at least once


@dataclass(frozen=True)
class Base:
    """What all variants have in common: the backbone's adapted layers, LoRA settings, each task's heads."""

    linears: tuple[tuple[int, int], ...]  # (in, out) of each layer of a block that gets an adapter
    layers: int
    width: int  # of the hidden states
    lora: LoraSettings
    heads: Mapping[str, int]  # task -> parameters of its heads
    first_level: frozenset[str] = frozenset()  # tasks with nothing on level 2: half the way of S3b

    @classmethod
    def of(
        cls,
        backbone: PreTrainedModel,
        lora: LoraSettings,
        heads: Mapping[str, int],
        first_level: frozenset[str] = frozenset(),
    ) -> Base:
        """Read the layers' shapes off a backbone, whose weights may be on the meta device."""
        check_targets(backbone, lora.targets)
        layers = layers_of(backbone)
        named = layers[0].named_modules()
        adapted = [module for name, module in named if name.rpartition(".")[2] in lora.targets]
        linears = tuple((module.in_features, module.out_features) for module in adapted)
        return cls(linears, len(layers), backbone.config.hidden_size, lora, heads, first_level)

    @property
    def per_rank(self) -> int:
        """Return the LoRA parameters of one block for each unit of rank: the sum of in + out."""
        return sum(map(sum, self.linears))

    @property
    def highest_rank(self) -> int:
        """Return the narrower side of the narrowest layer with an adapter; more rank adds nothing."""
        return min(map(min, self.linears))


@dataclass(frozen=True)
class Variant:
    """One strategy with its ranks and the numbers of parameters that it trains.

    `tasks`: the parameters that each task's tokens pass through, its heads included.
    """

    strategy: StrategyConfig
    tasks: Mapping[str, int]
    total: int

    @classmethod
    def of(cls, strategy: StrategyConfig, base: Base) -> Variant:
        """Count a strategy's parameters. Each task's tokens pass its `ways` before its heads."""
        ranks, tasks = adapter_ranks(strategy, base.lora, list(base.heads)), base.heads
        common = ranks.get(SHARED, 0) * base.per_rank * base.layers
        if strategy.kind == "hierarchical":
            above = base.per_rank * (base.layers - cut_layer(strategy, base.layers))
            cross = cross_level_parameters(strategy.cross_level, base.width, strategy.cross_level_rank)
            first = common + ranks[LEVEL[1]] * above
            all_adapters = first + ranks[LEVEL[2]] * above + cross
            ways = {task: first if task in base.first_level else all_adapters for task in tasks}
        else:
            rank = ranks.get(SINGLE) or ranks.get(private(next(iter(tasks))), 0)
            fusion = fusion_parameters(strategy.fusion, ranks.get(SHARED, 0), rank, strategy.fusion_rank)
            own = (rank * base.per_rank + fusion * len(base.linears)) * base.layers
            all_adapters = common + own * len(tasks)
            ways = dict.fromkeys(tasks, common + own)
        active = {task: ways[task] + heads for task, heads in tasks.items()}
        return cls(strategy, active, all_adapters + sum(tasks.values()))

    @property
    def active(self) -> int:
        """Return the parameters of the task with the longest way: both levels, the largest head."""
        return max(self.tasks.values())

    def count(self, parity: str) -> int:
        """Return the parameters counted by one of `PARITIES`."""
        if parity not in PARITIES:
            raise ConfigError(f"parity is {parity!r}; allowed: {', '.join(PARITIES)}")
        return self.active if parity == "active" else self.total


def head_parameters(specs: Iterable[TaskSpec], hidden_size: int, *, decoder: bool = True) -> dict[str, int]:
    """Count the parameters of each task's heads, without allocating any."""
    with torch.device("meta"):
        heads = {
            spec.name: [build_head(part, hidden_size, decoder=decoder) for part in spec.components]
            for spec in specs
        }
    return {task: sum(p.numel() for one in built for p in one.parameters()) for task, built in heads.items()}


def solve_ranks(
    strategies: Sequence[StrategyConfig], base: Base, *, target: int = 26_000_000, parity: str = "active"
) -> list[Variant]:
    """Give each strategy ranks such that all lie within `MAX_DIFFERENCE` of each other, near the target.

    Shared and private ranks stay as near to 2 : 1 as parity allows, both levels of S3b alike. Raises
    ConfigError where ranks, being whole numbers no larger than a layer is wide, cannot meet the target;
    it names the nearest target that they can.
    """
    most = base.highest_rank
    reached = min(Variant.of(_filled(one, most, most), base).count(parity) for one in strategies)
    failed = f"no ranks bring all within {MAX_DIFFERENCE:.0%} of {target:,} {parity} parameters"
    if reached < (1 - MAX_DIFFERENCE) * target:
        raise ConfigError(
            f"{failed}: the narrowest layer with an adapter has a side of {most}, and with that rank the "
            f"largest count that all reach is {reached:,}; set the target to no more"
        )
    # a difference weighs most for the task with the smallest heads
    slack = max(base.heads.values()) - min(base.heads.values()) if parity == "active" else 0
    choices = [[Variant.of(filled, base) for filled in _fillings(one, base, target)] for one in strategies]
    counts = {variant.count(parity) for some in choices for variant in some}
    for anchor in sorted(counts, key=lambda count: abs(count - target)):
        margin = (anchor - slack) * MAX_DIFFERENCE / (2 + MAX_DIFFERENCE)
        nearest = (_nearest(some, anchor, parity, margin) for some in choices)
        variants = [variant for variant in nearest if variant is not None]
        if len(variants) < len(choices):
            continue
        if abs(anchor - target) > MAX_DIFFERENCE * target:
            unit = base.per_rank * base.layers
            raise ConfigError(f"{failed}: one unit of rank is {unit:,}; the nearest target is {anchor:,}")
        return variants
    raise ConfigError(f"{failed}: no ranks make these strategies equal anywhere near it")


def _fillings(strategy: StrategyConfig, base: Base, target: int) -> Iterator[StrategyConfig]:
    """The strategy with every pair of ranks of up to twice the target, or as wide as the narrowest layer."""
    most = min(max(2, 2 * target // (base.per_rank * base.layers)), base.highest_rank)
    for rank in range(1, most + 1):
        for own in range(-(-rank // WIDEST), rank + 1) if strategy.kind in PAIRED else [rank]:
            yield _filled(strategy, rank, own)


def _filled(strategy: StrategyConfig, rank: int, own: int) -> StrategyConfig:
    """The strategy with these ranks in the keys that its kind reads."""
    if strategy.kind == "hierarchical":
        return replace(strategy, rank=rank, level1_rank=own, level2_rank=own)
    if strategy.kind == "private":
        return replace(strategy, private_rank=own)
    return replace(strategy, rank=rank, private_rank=own if strategy.kind in PAIRED else None)


def _nearest(some: Sequence[Variant], anchor: int, parity: str, margin: float) -> Variant | None:
    """The variant within the margin whose shared and private rank are nearest to 2 : 1, then the anchor."""
    near = [variant for variant in some if abs(variant.count(parity) - anchor) <= margin]

    def distance(variant: Variant) -> tuple[float, int]:
        shared, own = variant.strategy.rank, variant.strategy.level1_rank or variant.strategy.private_rank
        skew = abs(shared / own - 2) if variant.strategy.kind in PAIRED and shared and own else 0.0
        return skew, abs(variant.count(parity) - anchor)

    return min(near, key=distance, default=None)


def assert_parameter_parity(
    variants: Sequence[Variant], tolerance: float = MAX_DIFFERENCE, parity: str = "active"
) -> str:
    """Return the parity table; raise ConfigError with it where counts differ by more than the tolerance.

    Active parameters are compared for each task by itself, total ones for all tasks together.
    """
    table = pd.DataFrame(parity_rows(variants)).to_string(index=False, float_format="{:.1%}".format)
    counts = {f"{parity} parameters": [variant.count(parity) for variant in variants]}
    if parity == "active":
        counts |= {f"active parameters of {task}": some for task, some in _by_task(variants).items()}
    for what, some in counts.items():
        if (gap := spread(some)) > tolerance:
            raise ConfigError(
                f"{what} differ by {gap:.1%}, more than {tolerance:.0%}; "
                f"take the ranks of solve_ranks (experiment.target solves them)\n{table}"
            )
    return table


def parity_rows(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """List active parameters, by task and of the longest way, and total ones; a column per strategy."""
    strategies = [(v.strategy.name, [getattr(v.strategy, key) for key in RANKS]) for v in variants]
    names = [f"{name} ({'+'.join(str(rank) for rank in ranks if rank)})" for name, ranks in strategies]
    counts = {f"active, {task}": some for task, some in _by_task(variants).items()}
    counts |= {"active": [v.active for v in variants], "total": [v.total for v in variants]}
    return [
        {"parameters": what, **dict(zip(names, some, strict=True)), "widest difference": spread(some)}
        for what, some in counts.items()
    ]


def _by_task(variants: Sequence[Variant]) -> dict[str, list[int]]:
    """Task -> its active parameters under each variant, for the tasks that all of them serve."""
    tasks = [task for task in variants[0].tasks if all(task in variant.tasks for variant in variants)]
    return {task: [variant.tasks[task] for variant in variants] for task in tasks}


def spread(counts: Sequence[int]) -> float:
    """Return how far the largest count is above the smallest, relative."""
    return max(counts) / min(counts) - 1
