"""One-factor ablations at equal parameters: ranks solved, parity asserted, the table to print.

    strategy, table = matched_strategy(config, loaded, specs)      # before anything trains

An experiment declares its `factor`, the `levels` of it, and the `level` of this run, which
`params/experiment/ablation_<factor>.yaml` writes into the strategy. The factor `architecture` compares
whole entries of params/strategy (A1–A4); any other is one key of the strategy, and all else is the same
in every level. `parity` names what is counted (active per token, or total) and `target` how many;
without a target, as many as the first level has.

Runs are comparable where all count over the same tasks. `tasks` names those of the comparison, the run's own
where it is empty; A1 trains one of them at a time, so under the factor `architecture` it must be told the
others. Heads are then counted as params/task declares them, so that every run prints the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from kaggle_kit.core.config import changed_strategy, strategy_entry, task_entry
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.parity import Base, Variant, assert_parameter_parity, head_parameters, solve_ranks
from kaggle_kit.models.shapes import shape_of
from kaggle_kit.ops import wiring

ARCHITECTURE = "architecture"


def levels(config: RunConfig) -> dict[str, StrategyConfig]:
    """Level -> strategy, in the declared order; all but the factor is the run's own strategy.

    Raises ConfigError where the experiment is no ablation, its factor is no key of the strategy, the run's
    strategy is not what the reference becomes at the run's level, and what `compared` raises.
    """
    experiment, own = config.experiment, config.strategy
    if missing := [key for key in ("factor", "levels", "level") if key not in experiment]:
        raise ConfigError(
            f"experiment has no {', '.join(missing)}; choose an ablation, such as experiment=ablation_pcgrad"
        )
    factor, declared = experiment["factor"], experiment["levels"]
    compared(config, list(config.tasks))
    if factor == ARCHITECTURE:
        found = {level: strategy_entry(level) for level in declared}
    else:
        allowed = [field.name for field in fields(StrategyConfig)]
        if factor not in allowed:
            raise ConfigError(f"experiment.factor={factor} is no key of a strategy{nearest(factor, allowed)}")
        reference = strategy_entry(experiment.get("reference", own.name))
        if own.title != reference.title:
            raise ConfigError(
                f"the strategy is {own.title!r}, but experiment.reference is {reference.name!r}; "
                "name the same one in both"
            )
        found = {
            level: changed_strategy(own, name=f"{reference.name}_{factor}_{level}", **{factor: level})
            for level in declared
        }
    if experiment["level"] not in found or found[experiment["level"]] != own:
        raise ConfigError(
            f"strategy {own.name!r} is not what experiment {experiment['name']!r} declares for level "
            f"{experiment['level']!r} of {factor}; leave the strategy to the experiment's file"
        )
    return found


def compared(config: RunConfig, own: Sequence[str]) -> list[str]:
    """The tasks that every run of the comparison counts. ConfigError if the `own` are not among them."""
    named = config.experiment.get("tasks")
    if named is not None and not isinstance(named, list):
        raise ConfigError(f"experiment.tasks={named} is no list; write experiment.tasks=[{named}]")
    tasks = list(dict.fromkeys(named or own))
    if stray := [task for task in own if task not in tasks]:
        raise ConfigError(
            f"experiment.tasks=[{','.join(tasks)}] leaves out {', '.join(stray)}, which this run trains; "
            "name all tasks of the comparison, the same in every run of it"
        )
    if config.experiment["factor"] == ARCHITECTURE and len(tasks) < 2:
        raise ConfigError(
            f"the architectures are compared over several tasks, and {config.strategy.name!r} is told of "
            f"{', '.join(tasks)} alone, so its ranks would not be those of the other levels; give "
            f"experiment.tasks=[{','.join(tasks)},…] with all tasks that A2 to A4 train"
        )
    return tasks


def matched_strategy(
    config: RunConfig, loaded: Loaded, specs: Mapping[str, TaskSpec]
) -> tuple[StrategyConfig, str]:
    """The run's strategy with the ranks that make all levels equal, and the parity table.

    Ranks are solved for every level, so a level that changes no count keeps them. Raises ConfigError
    where no ranks bring the levels within 5 %, what `levels` raises, and CorpusMissing where the labels of
    another task of the comparison are known from its corpus alone.
    """
    strategies = levels(config)
    backbone = loaded.backbone.config
    specs = counted_specs(config, specs)
    heads = head_parameters(specs.values(), backbone.hidden_size, decoder=loaded.decoder)
    low = frozenset(name for name, spec in specs.items() if all(p.level == 1 for p in spec.components))
    base = Base(shape_of(backbone), config.model.lora, heads, first_level=low)
    parity = config.experiment.get("parity", "active")
    first = next(iter(strategies.values()))
    target = config.experiment.get("target") or Variant.of(first, base).count(parity)
    variants = solve_ranks(list(strategies.values()), base, target=target, parity=parity)
    table = assert_parameter_parity(variants, parity=parity)
    return next(v.strategy for v in variants if v.strategy.name == config.strategy.name), table


def counted_specs(config: RunConfig, own: Mapping[str, TaskSpec]) -> dict[str, TaskSpec]:
    """The tasks whose heads count: the run's `own`, or those of the comparison, alike in all its runs.

    What only a training split tells, the pairs of types between which relations lie, is left out of those:
    16 parameters for each type.
    """
    if not config.experiment.get("tasks"):
        return dict(own)
    return {
        name: wiring.without_candidates(own[name])
        if name in own
        else wiring.declared_spec(config, task_entry(name))
        for name in compared(config, list(own))
    }
