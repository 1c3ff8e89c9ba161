"""A trained run's manifest, written last: what it cost, what was trained, and how far it was optimised.

    record_run(exp, exp.session.trainers)

Equal tokens do not make equal optimisation; steps, passes over the data, final loss and development scores
let a reader see both arms of a comparison.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.types import relation_parts
from kaggle_kit.experiment.controlled_variables import controlled_variables
from kaggle_kit.experiment.tracking import close_tracking
from kaggle_kit.experiment.training_session import training_seconds
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks import summary
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.callbacks.development import DevelopmentCallback, best_point
from kaggle_kit.training.trainer import MultiTaskTrainer, TokenControlledTrainer

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

FINAL_SHARE = 0.05  # of the steps, the last ones, over which the final loss is a mean
HALVES = ["chosen on all of dev", "half 0 of dev (chosen on half 1)", "half 1 of dev (chosen on half 0)"]


def record_run(exp: "Experiment", trainers: Sequence[MultiTaskTrainer]) -> Path:
    """Write the manifest. `trainers` are all that trained this model, phase by phase."""
    run, last = exp.run, trainers[-1]
    trained = {id(p): p.numel() for t in trainers for g in t.optimizer.param_groups for p in g["params"]}
    close_tracking(run)
    more = controlled_variables(exp, last) | optimisation(run, trainers)
    more["relation_thresholds"] = {"order": HALVES, "values": relation_thresholds(exp.model)}
    if isinstance(last, TokenControlledTrainer):
        more["token_parity_error"] = last.parity_error
    if any(corpus.practice for corpus in exp.corpora.values()):  # found like a real corpus, and synthetic
        more["flags"] = run.facts["flags"] | {"practice": True}
    cost = (last.tokens.total, sum(trained.values()), training_seconds(run), last.tokens.computed)
    plans = [trainer.train_dataset.plan for trainer in trainers]
    return run.finish(
        totals=Totals(*cost),
        device=exp.backbone.decisions["device"].value,
        data_hashes=exp.data_hashes,
        plans=[plan.sha256 for plan in plans],
        steps_sha256=[plan.steps_sha256 for plan in plans],
        decisions={name: [made.value, made.reason] for name, made in exp.backbone.decisions.items()},
        callbacks=[summary(_callbacks(trainer, StudyCallback)) for trainer in trainers],
        **more,
    )


def relation_thresholds(model: MultiTaskModel) -> dict[str, dict[str, list[float]]]:
    """Return task -> relation component -> the three P(no relation) below which there is one."""
    thresholds_of = {
        task: {
            part.name: [round(value, 4) for value in model.heads[task][part.name].thresholds.tolist()]
            for part in relation_parts(spec)
        }
        for task, spec in model.specs.items()
    }
    return {task: thresholds for task, thresholds in thresholds_of.items() if thresholds}


def optimisation(run: RunFolder, trainers: Sequence[MultiTaskTrainer]) -> dict[str, Any]:
    """Return how far a run was optimised. `trainers` are all that trained the model, phase by phase.

    `optimiser_steps`; `epochs_over_own_data`: task -> tokens seen over those of one pass;
    `final_training_loss`: task -> mean over the last 5 % of the steps, of a task that none of them holds
    its last one; `development`: the curve, empty where none was kept; `best_development`: its best point.
    """
    tokens = trainers[-1].tokens
    encoded = {name: task for t in trainers for name, task in t.train_dataset.encoded.items()}
    curve = [point for callback in curves(trainers) for point in callback.curve]
    return {
        "optimiser_steps": tokens.step,
        "epochs_over_own_data": {
            name: count / int(encoded[name].lengths.sum()) for name, count in tokens.total.items()
        },
        "final_training_loss": final_loss(run.events()),
        "development": curve,
        "best_development": best_point(curve),
    }


def curves(trainers: Sequence[MultiTaskTrainer]) -> Iterator[DevelopmentCallback]:
    """Yield the development curves of a run's phases, in order."""
    return (callback for trainer in trainers for callback in _callbacks(trainer, DevelopmentCallback))


def final_loss(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return task -> mean loss (before weighting) over the last 5 % of the steps, at least one."""
    end = len(events) - max(1, math.ceil(FINAL_SHARE * len(events)))
    losses: dict[str, list[float]] = {}
    for event in events[end:]:
        for task, loss in event["losses"].items():
            losses.setdefault(task, []).append(loss)
    latest = {task: loss for event in events[:end] for task, loss in event["losses"].items()}
    return latest | {task: fmean(values) for task, values in losses.items()}


def _callbacks(trainer: MultiTaskTrainer, kind: type[Any]) -> list[Any]:
    return [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, kind)]
