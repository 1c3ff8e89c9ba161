"""One-factor ablations at equal parameters, over one step plan.

    strategy, variants = matched_strategy(config, loaded, specs)      # before anything trains

An experiment declares its `factor`, the `levels` of it, and the `level` of this run, which
`params/experiment/ablation_<factor>.yaml` writes into the strategy. The factor `architecture` compares
whole entries of params/strategy (A1–A4); any other is one key of the strategy, and all else is the same
in every level. All levels train the same tasks by the same steps and are scored as the last step leaves
them, so their tokens and their steps are equal by construction; a manifest's `steps_sha256` shows it.

`parity` names which parameters are counted (active per token, task by task, or total). Ranks are those
that are declared; with a `target`, a number of parameters, they are solved for it instead.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.config import changed_strategy, strategy_entry
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.experiment import preparation
from kaggle_kit.models import parity
from kaggle_kit.models.loading import Loaded

ARCHITECTURE = "architecture"
NAMES = ("name", "title")  # of a strategy; they change nothing


def check(config: RunConfig) -> RunConfig:
    """Return the configuration of one level. Raises what `levels` raises."""
    levels(config)
    return config


def changes(strategies: Mapping[str, StrategyConfig]) -> list[dict[str, object]]:
    """One row per key of a strategy in which levels differ: `key`, then each level's value."""
    keys = [field.name for field in fields(StrategyConfig) if field.name not in NAMES]
    rows = [
        {"key": key, **{level: getattr(strategy, key) for level, strategy in strategies.items()}}
        for key in keys
    ]
    return [row for row in rows if len({str(value) for value in list(row.values())[1:]}) > 1]


def plans(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> dict[str, StepPlan]:
    """Level -> the plan that its run follows on these token files."""
    return {
        level: preparation.plan_training(replace(config, strategy=strategy), encoded)
        for level, strategy in levels(config).items()
    }


def levels(config: RunConfig) -> dict[str, StrategyConfig]:
    """Level -> strategy, in the declared order; all but the factor is the run's own strategy.

    Raises ConfigError where the experiment is no ablation, its factor is no key of the strategy, the run's
    strategy is not what the reference becomes at the run's level, a level would follow another step plan,
    or a run would not be scored at its last step.
    """
    experiment = config.experiment
    if missing := [key for key in ("factor", "levels", "level") if key not in experiment]:
        then = "choose an ablation, such as experiment=ablation_pcgrad"
        raise ConfigError(f"experiment has no {', '.join(missing)}; {then}")
    found = _declared(config)
    if found.get(experiment["level"]) != config.strategy:
        declared = f"experiment {experiment['name']!r} declares for level {experiment['level']!r}"
        unlike = f"strategy {config.strategy.name!r} is not what {declared} of {experiment['factor']}"
        raise ConfigError(f"{unlike}; leave the strategy to its file")
    if config.training.selection != "last":
        chosen = f"training.selection={config.training.selection} would let each level choose its own step"
        raise ConfigError(f"{chosen} and tokens; leave it to the experiment, which sets last")
    # A plan follows from rows, settings and seed alone.
    plans = {key: preparation.plan_settings(replace(config, strategy=s)).drawing for key, s in found.items()}
    (first, plan), *others = plans.items()
    if different := [(level, other) for level, other in others if other != plan]:
        level, other = different[0]
        both = f"levels {first} and {level} would follow two step plans, {plan} and {other}"
        raise ConfigError(f"{both}: their tokens would differ; give all levels the same sampling")
    return found


def matched_strategy(
    config: RunConfig, loaded: Loaded, specs: Mapping[str, TaskSpec]
) -> tuple[StrategyConfig, list[parity.Variant]]:
    """The run's strategy with the ranks that make all levels equal, and every level with its parameters.

    Raises ConfigError where the levels are more than 5 % apart, where no ranks meet `experiment.target`,
    where ranks are given beside a target, which solves them, and what `levels` raises.
    """
    strategies, own = list(levels(config).values()), config.strategy
    width = loaded.backbone.config.hidden_size
    heads = parity.head_parameters(specs.values(), width, decoder=loaded.decoder)
    low = frozenset(name for name, spec in specs.items() if all(p.level == 1 for p in spec.components))
    base = parity.Base.of(loaded.backbone, config.model.lora, heads, low)
    counted = config.experiment.get("parity", "active")
    variants = [parity.Variant.of(strategy, base) for strategy in strategies]
    if (target := config.experiment.get("target")) is not None:
        reference = strategy_entry(config.experiment.get("reference") or own.name)
        if given := [key for key in parity.RANKS if getattr(own, key) != getattr(reference, key)]:
            beside = f"strategy.{given[0]}={getattr(own, given[0])} beside experiment.target={target}"
            raise ConfigError(f"{beside}, for which ranks are solved; leave one of them out")
        variants = parity.solve_ranks(strategies, base, target=target, parity=counted)
    parity.assert_parameter_parity(variants, parity=counted)
    return next(v.strategy for v in variants if v.strategy.name == own.name), variants


def _declared(config: RunConfig) -> dict[str, StrategyConfig]:
    factor, declared = config.experiment["factor"], config.experiment["levels"]
    if factor == ARCHITECTURE:
        return {level: strategy_entry(level) for level in declared}
    allowed = [field.name for field in fields(StrategyConfig)]
    if factor not in allowed:
        raise ConfigError(f"experiment.factor={factor} is no key of a strategy{nearest(factor, allowed)}")
    names = {level: f"{config.experiment['reference']}_{factor}_{level}" for level in declared}
    return {
        level: changed_strategy(config.strategy, name=name, **{factor: level})
        for level, name in names.items()
    }
