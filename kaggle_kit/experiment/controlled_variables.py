"""The variables that a comparison of two runs holds fixed and only the run itself can tell, for its manifest.

facts = controlled_variables(exp, trainer)      # manifest.record_run writes them
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.batches.plan import COUNTS
from kaggle_kit.core.checks import UNTUNED
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.experiment.scoring import CHOOSING, SELECTION
from kaggle_kit.models.adapter_files import saved_ranks
from kaggle_kit.models.build import with_ranks
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks.development import QuickEvaluationCallback
from kaggle_kit.training.trainer import MultiTaskTrainer

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

PLACEBO = "placebo"


def controlled_variables(exp: "Experiment", trainer: MultiTaskTrainer) -> dict[str, Any]:
    """Return the manifest's fields for judging: parameters, selection, tuning, and whose control this is.

    `active_parameters`: those that a token of each task passes. `selection`: how the scored weights
    were chosen, and on which split. `tuning`: the trials behind the configuration. `left_out`: the training
    documents of each task that another one is scored on. `choice`, only in S5: which strategy it took, and
    on which split it chose. `twin`, only in a token-controlled run: of which run, for which task, and
    which of that run's tokens it has.
    """
    config, experiment = exp.config, exp.config.experiment
    callbacks = trainer.callback_handler.callbacks
    best = any(isinstance(c, QuickEvaluationCallback) and c.keeps_best for c in callbacks)
    chosen = {"rule": "best", "split": CHOOSING, "metric": SELECTION}  # its best weights were put back
    facts: dict[str, Any] = {
        "parameter_groups": group_sizes(exp.model),
        "active_parameters": active_parameters(exp.model),
        "selection": chosen if best else {"rule": "last", "split": None, "metric": None},
        "tuning": UNTUNED | dict(experiment.get("tuning") or {}),
        "left_out": {name: list(corpus.left_out) for name, corpus in exp.corpora.items()},
    }
    if choice := experiment.get("choice"):
        facts["choice"] = dict(choice)
    if of := experiment.get("twin"):
        match = experiment.get("match", COUNTS[0])
        tokens = trainer.tokens.computed if match == COUNTS[1] else trainer.tokens.total
        facts["twin"] = {
            "of": of,
            "of_config": experiment["twin_config"],
            "control": control_kind(config),
            "task": next(iter(scored_config(config).tasks)),
            "target_tokens": config.training.target_tokens or sum(tokens.values()),
            "match": match,
        }
    return facts


def control_kind(config: RunConfig) -> str:
    """Return the kind of a control: `total`, `share`, or `placebo`."""
    return PLACEBO if config.experiment.get("placebo") else config.experiment["control"]


def scored_config(config: RunConfig) -> RunConfig:
    """Return the configuration of the tasks that are scored: in a placebo the controlled one, else all."""
    named = config.experiment.get("scored")
    return replace(config, tasks={named: config.tasks[named]}) if named else config


def scores_best_development(config: RunConfig) -> bool:
    """Return whether a run is scored at its best development point, too: a total control is."""
    return bool(config.experiment.get("twin")) and control_kind(config) == "total"


def group_sizes(model: MultiTaskModel) -> dict[str, int]:
    """Return the trainable parameters of each group."""
    groups = model.parameter_groups()
    return {name: sum(p.numel() for p in group.parameters) for name, group in groups.items()}


def active_groups(model: MultiTaskModel) -> dict[str, dict[str, int]]:
    """Return task -> group that its tokens pass -> trainable parameters of that group."""
    groups, sizes = model.parameter_groups(), group_sizes(model)
    return {
        task: {name: sizes[name] for name, group in groups.items() if task in group.tasks}
        for task in model.specs
    }


def active_parameters(model: MultiTaskModel) -> dict[str, int]:
    """Return task -> trainable parameters of the groups that its tokens pass."""
    return {task: sum(groups.values()) for task, groups in active_groups(model).items()}


def with_saved_ranks(strategy: StrategyConfig, adapters: Path) -> StrategyConfig:
    """Return the strategy with the ranks of the saved adapters, which an ablation solves after composing."""
    return with_ranks(strategy, saved_ranks(adapters))
