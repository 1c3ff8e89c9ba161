"""What a comparison of two runs holds fixed and only the run itself can tell, for its manifest.

more = held_fixed(config, network, trainer, corpora)      # rounds.record writes it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_kit.batches.plan import COUNTS
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.experiment.model_selection import SELECTION
from kaggle_kit.models.adapter_files import saved_ranks
from kaggle_kit.models.build import with_ranks
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks import QuickEvaluationCallback
from kaggle_kit.training.trainer import MultiTaskTrainer

PLACEBO = "placebo"
UNTUNED = {"trials": 0, "split": None, "study": None, "target_tokens": None}


def held_fixed(
    config: RunConfig, network: MultiTaskModel, trainer: MultiTaskTrainer, corpora: Mapping[str, Corpus]
) -> dict[str, Any]:
    """The manifest's fields for judging: parameters, selection, tuning, and whose control this is.

    `active_parameters`: those that a token of each task passes. `selection`: how the scored weights
    were chosen, and on which split. `tuning`: the trials behind the configuration. `left_out`: the training
    documents of each task that another one is scored on. `choice`, only in S5: which strategy it took, and
    on which split it chose. `twin`, only in a token-controlled run: of which run, for which task, and
    which of that run's tokens it has.
    """
    facts: dict[str, Any] = {
        "parameter_groups": group_sizes(network),
        "active_parameters": active_parameters(network),
        "selection": _selection(trainer),
        "tuning": UNTUNED | dict(config.experiment.get("tuning") or {}),
        "left_out": {name: list(corpus.left_out) for name, corpus in corpora.items()},
    }
    if choice := config.experiment.get("choice"):
        facts["choice"] = dict(choice)
    if of := config.experiment.get("twin"):
        facts["twin"] = {
            "of": of,
            "of_config": config.experiment["twin_config"],
            "control": control_kind(config),
            "task": next(iter(scored(config).tasks)),
            "target_tokens": config.training.target_tokens or _counted(config, trainer),
            "match": config.experiment.get("match", COUNTS[0]),
        }
    return facts


def control_kind(config: RunConfig) -> str:
    """Of a control: `total`, `share`, or `placebo`."""
    return PLACEBO if config.experiment.get("placebo") else config.experiment["control"]


def scored(config: RunConfig) -> RunConfig:
    """The configuration with the tasks that are scored: all, but in a placebo the one that is controlled."""
    named = config.experiment.get("scored")
    return replace(config, tasks={named: config.tasks[named]}) if named else config


def scores_best_development(config: RunConfig) -> bool:
    """Whether a run is scored at its best development point, too: a baseline of the total tokens is."""
    return bool(config.experiment.get("twin")) and control_kind(config) == "total"


def group_sizes(network: MultiTaskModel) -> dict[str, int]:
    """Trainable parameters by group."""
    groups = network.parameter_groups()
    return {name: sum(p.numel() for p in group.parameters) for name, group in groups.items()}


def active_parameters(network: MultiTaskModel) -> dict[str, int]:
    """Task -> trainable parameters of the groups that its tokens touch."""
    return {task: sum(groups.values()) for task, groups in active_groups(network).items()}


def active_groups(network: MultiTaskModel) -> dict[str, dict[str, int]]:
    """Task -> group that its tokens touch -> trainable parameters of that group."""
    groups, sizes = network.parameter_groups(), group_sizes(network)
    return {
        task: {name: sizes[name] for name, group in groups.items() if task in group.tasks}
        for task in network.specs
    }


def as_saved(strategy: StrategyConfig, adapters: Path) -> StrategyConfig:
    """The strategy with the ranks of the saved adapters, which an ablation solves after composing."""
    return with_ranks(strategy, saved_ranks(adapters))


def _counted(config: RunConfig, trainer: MultiTaskTrainer) -> int:
    """Tokens of all tasks, as the comparison counts them."""
    computed = config.experiment.get("match") == COUNTS[1]
    return sum((trainer.tokens.computed if computed else trainer.tokens.total).values())


def _selection(trainer: MultiTaskTrainer) -> dict[str, str | None]:
    """A quick evaluation that puts its best weights back has chosen a step, on development data."""
    quick = [c for c in trainer.callback_handler.callbacks if isinstance(c, QuickEvaluationCallback)]
    if any(callback.keeps_best for callback in quick):
        return {"rule": "best", "split": "dev", "metric": SELECTION}
    return {"rule": "last", "split": None, "metric": None}
