"""Parameter parity: what a strategy trains, in closed form, and ranks that make strategies equal.

    base = Base(SHAPES["gemma2b"], config.model.lora, heads={"ner": 20_739, "re": 55_310})
    variants = solve_ranks(strategies, base, target=26_000_000, parity="active")
    table = assert_parameter_parity(variants)

Two ways to count, which differ once there are private adapters. `active`: what the tokens of one task
pass through, taking the task with the longest way (both levels, the largest head). `total`: all that
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
from kaggle_kit.models.build import adapter_ranks, cut_layer
from kaggle_kit.models.cross_level import cross_level_parameters
from kaggle_kit.models.fusion import fusion_parameters
from kaggle_kit.models.heads import build_head
from kaggle_kit.models.shapes import Shape, linear_shapes

PARITIES = ("active", "total")
PAIRED = ("shared_private", "sequential", "hierarchical")
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
    """One strategy with its ranks, and what it trains."""

    strategy: StrategyConfig
    active: int
    total: int

    @classmethod
    def of(cls, strategy: StrategyConfig, base: Base) -> Variant:
        count = {"single": _single, "shared": _shared, "hierarchical": _hierarchical}
        return cls(strategy, *count.get(strategy.kind, _shared_private)(strategy, base))

    def count(self, parity: str) -> int:
        if parity not in PARITIES:
            raise ConfigError(f"parity is {parity!r}; allowed: {', '.join(PARITIES)}")
        return self.active if parity == "active" else self.total


def _ranks(strategy: StrategyConfig, base: Base) -> list[int]:
    return list(adapter_ranks(strategy, base.lora, list(base.heads)).values())


def _single(strategy: StrategyConfig, base: Base) -> tuple[int, int]:
    adapter = _ranks(strategy, base)[0] * base.per_rank * base.shape.num_hidden_layers
    heads = base.heads.values()
    return adapter + max(heads), adapter * len(heads) + sum(heads)


def _shared(strategy: StrategyConfig, base: Base) -> tuple[int, int]:
    adapter = _ranks(strategy, base)[0] * base.per_rank * base.shape.num_hidden_layers
    return adapter + max(base.heads.values()), adapter + sum(base.heads.values())


def _shared_private(strategy: StrategyConfig, base: Base) -> tuple[int, int]:
    layers = base.shape.num_hidden_layers
    shared, private = _ranks(strategy, base)[:2]
    fusion = fusion_parameters(strategy.fusion, shared, private, strategy.fusion_rank)
    own = (private * base.per_rank + fusion * len(base.lora.targets)) * layers
    common, heads = shared * base.per_rank * layers, base.heads.values()
    return common + own + max(heads), common + own * len(heads) + sum(heads)


def _hierarchical(strategy: StrategyConfig, base: Base) -> tuple[int, int]:
    layers = base.shape.num_hidden_layers
    shared, *levels = _ranks(strategy, base)
    top = layers - cut_layer(strategy, layers)
    cross = cross_level_parameters(strategy.cross_level, base.shape.hidden_size, strategy.cross_level_rank)
    first = base.per_rank * (shared * layers + levels[0] * top)
    whole = base.per_rank * (shared * layers + sum(levels) * top) + cross
    ways = [(first if task in base.first_level else whole) + size for task, size in base.heads.items()]
    return max(ways), whole + sum(base.heads.values())


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
    tolerance: float = 0.05,
) -> list[Variant]:
    """Each strategy with ranks such that all lie within `tolerance` of each other, near the target.

    Shared and private ranks stay as near to 2 : 1 as parity allows. Raises ConfigError where ranks,
    being whole numbers no larger than a layer is wide, cannot meet the target; it names the nearest
    target that they can.
    """
    _assert_in_reach(strategies, base, target, parity, tolerance)
    choices = [[Variant.of(filled, base) for filled in _fillings(s, base, target)] for s in strategies]
    anchors = sorted({v.count(parity) for some in choices for v in some}, key=lambda n: abs(n - target))
    for anchor in anchors:
        found = [_nearest(some, anchor, parity, tolerance / (2 + tolerance)) for some in choices]
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
    fullest = [replace(strategy, rank=most, private_rank=most) for strategy in strategies]
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
        owns = range(-(-rank // WIDEST), rank + 1) if strategy.kind in PAIRED else [strategy.private_rank]
        for own in owns:
            yield replace(strategy, rank=rank, private_rank=own)


def _nearest(some: Sequence[Variant], anchor: int, parity: str, tolerance: float) -> Variant | None:
    near = [v for v in some if abs(v.count(parity) - anchor) <= tolerance * anchor]
    return min(near, key=lambda v: (_skew(v.strategy), abs(v.count(parity) - anchor)), default=None)


def _skew(strategy: StrategyConfig) -> float:
    """How far shared and private rank are from 2 : 1."""
    return abs(strategy.rank / strategy.private_rank - 2) if strategy.kind in PAIRED else 0.0


def assert_parameter_parity(
    variants: Sequence[Variant], tolerance: float = 0.05, parity: str = "active"
) -> str:
    """The parity table; ConfigError with the table where largest and smallest differ by more."""
    counts = [variant.count(parity) for variant in variants]
    spread = max(counts) / min(counts) - 1
    table = parity_table(variants)
    if spread > tolerance:
        raise ConfigError(
            f"{parity} parameters differ by {spread:.1%}, more than {tolerance:.0%}; "
            f"take the ranks of solve_ranks\n{table}"
        )
    return table


def parity_table(variants: Sequence[Variant]) -> str:
    """One line per variant: ranks, active and total parameters, each against the first."""
    first = variants[0]
    lines = [f"{'strategy':18} {'kind':15} {'ranks':>8} {'active':>13} {'':>7} {'total':>13} {'':>7}"]
    for variant in variants:
        chosen = variant.strategy
        ranks = f"{chosen.rank}+{chosen.private_rank}" if chosen.kind in PAIRED else f"{chosen.rank}"
        lines.append(
            f"{chosen.name:18} {chosen.kind:15} {ranks:>8} "
            f"{variant.active:>13,} {variant.active / first.active - 1:>+7.1%} "
            f"{variant.total:>13,} {variant.total / first.total - 1:>+7.1%}"
        )
    return "\n".join(lines)
