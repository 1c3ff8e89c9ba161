"""The architectures A1–A4 at equal parameters: ranks solved, parity asserted, the table to print.

    strategy, table = matched_strategy(config, loaded, specs)      # before anything trains

`experiment.variants` names the strategies to equal, `experiment.parity` what is counted (active per
token, or total) and `experiment.target` how many; without a target, as many as the first variant has.
"""

from __future__ import annotations

from collections.abc import Mapping

from kaggle_kit.core.config import strategy_entry
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.parity import Base, Variant, assert_parameter_parity, head_parameters, solve_ranks
from kaggle_kit.models.shapes import shape_of


def matched_strategy(
    config: RunConfig, loaded: Loaded, specs: Mapping[str, TaskSpec]
) -> tuple[StrategyConfig, str]:
    """The run's strategy with the ranks that make all variants equal, and the parity table.

    Raises ConfigError where no ranks bring them within 5 %, or the strategy is none of the variants.
    """
    names = config.experiment.get("variants", [])
    if config.strategy.name not in names:
        raise ConfigError(f"strategy {config.strategy.name!r} is none of experiment.variants: {names}")
    backbone = loaded.backbone.config
    heads = head_parameters(specs.values(), backbone.hidden_size, causal=loaded.causal)
    base = Base(shape_of(backbone), config.model.lora, heads)
    strategies = [strategy_entry(name) for name in names]
    parity = config.experiment.get("parity", "active")
    target = config.experiment.get("target") or Variant.of(strategies[0], base).count(parity)
    variants = solve_ranks(strategies, base, target=target, parity=parity)
    table = assert_parameter_parity(variants, parity=parity)
    return next(v.strategy for v in variants if v.strategy.name == config.strategy.name), table
