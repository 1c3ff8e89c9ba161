"""How far a run was optimised, for its manifest: steps, passes over its data, final loss, development.

    facts = optimisation(run, session.trainers)        # rounds.record writes it

Equal tokens do not make equal optimisation; these figures let a reader see both arms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from statistics import fmean
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.training.callbacks.development import DevelopmentCallback, best_point
from kaggle_kit.training.trainer import MultiTaskTrainer

FINAL = 0.05  # share of the steps, the last ones, over which the final loss is a mean


def optimisation(run: RunFolder, trainers: Sequence[MultiTaskTrainer]) -> dict[str, Any]:
    """`trainers` are all that trained the run's model, phase by phase.

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
    """The development curves of a run's phases, in order."""
    for trainer in trainers:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, DevelopmentCallback):
                yield callback


def final_loss(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Task -> mean loss (before weighting) over the last 5 % of the steps, at least one."""
    last = max(1, math.ceil(FINAL * len(events)))
    ends: dict[str, list[float]] = {}
    latest: dict[str, float] = {}
    for number, event in enumerate(events):
        for task, loss in event["losses"].items():
            latest[task] = loss
            if number >= len(events) - last:
                ends.setdefault(task, []).append(loss)
    return {task: fmean(ends.get(task, [loss])) for task, loss in latest.items()}


def side_by_side(runs: Mapping[str, RunFolder]) -> list[dict[str, Any]]:
    """One row per run and task: how far finished runs were optimised, from their manifests.

    `runs`: what a run is called -> its folder. `dev` are scores of a few development samples, NaN where
    no curve was kept; `at` is the share of the run's tokens after which the task's best point lies.
    """
    rows = []
    for name, run in runs.items():
        facts = run.manifest()
        for task, epochs in facts["epochs_over_own_data"].items():
            curve = [(p["scores"][task], p["share"]) for p in facts["development"] if task in p["scores"]]
            best, share = max(curve, key=itemgetter(0), default=(math.nan, math.nan))
            row = {"run": name, "task": task, "tokens": facts["totals"]["tokens"][task]}
            row |= {"steps": facts["optimiser_steps"], "epochs over its data": epochs}
            row |= {"final training loss": facts["final_training_loss"][task]}
            row |= {"dev, last point": curve[-1][0] if curve else math.nan}
            rows.append(row | {"dev, best point": best, "at": share})
    return rows
