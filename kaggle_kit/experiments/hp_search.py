"""One trial of a search: train a configuration as its page would, report on the way, score it on dev.

    run_search(exp, search)
    finish_search(exp, search)

A trial's folder lies inside the search's own, so it counts as no run of the study: configuration, events
and tokens stay, checkpoints go when it ends.
"""

import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers import TrainerState

from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.config import from_yaml
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import training_session
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.preparation import HALVES, plan_training
from kaggle_kit.experiment.scoring import SELECTION, quick_evaluation
from kaggle_kit.experiment.token_budget import find_token_budget
from kaggle_kit.experiment.tracking import close_tracking
from kaggle_kit.experiment.training_session import Phase, training_seconds
from kaggle_kit.experiments.hp_search_journal import SPLIT, Attempt, Pruned, Search, overrides
from kaggle_kit.training.callbacks.alarms import TrainingAlarm
from kaggle_kit.training.callbacks.base import StudyCallback

PAGE = "hp_search"


class TrialPaused(KitError):
    """The session is over in the middle of a trial; its checkpoint holds everything to go on from."""


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with some of its keys set, checked again. Raises ConfigError."""
    node = OmegaConf.structured(config)
    for key, value in values.items():
        OmegaConf.update(node, key, value)
    return from_yaml(OmegaConf.to_yaml(node))


def run_search(exp: Experiment, search: Search, targets: StepTargets | None = None) -> str:
    """The batch and the smoke gate once, then trials until the budget is used up or the session is over.

    `targets` are the steps and tokens of a baseline, which each of its trials has.
    Returns what happened. In the second case the run is marked `paused`, and its page goes on another
    time with the trial that it was in.
    """
    exp.run.go_on()
    batch = find_token_budget(exp)
    gate = training_session.pass_gate(exp, list(exp.encoded))
    try:
        search.run(partial(trial_score, exp, targets), told=partial(keep_table, exp.run))
    except TrialPaused as paused:
        exp.run.pause(trial=len(search.counted()), trials=search.settings.trials, message=str(paused))
        return f"{batch}\n{gate}\n{paused}"
    return f"{batch}\n{gate}\n{len(search.counted())} trials done"


def trial_score(exp: Experiment, targets: StepTargets | None, attempt: Attempt) -> float:
    """Train with the attempt's values and score on dev. Raises Pruned where it is given up or diverges.

    An interrupted trial goes on from its checkpoint. Reports are made `experiment.reports_per_epoch`
    times an epoch, so that trials are compared where they have seen the same data.
    """
    trial = _opened(exp, attempt)
    trial.phases = _phases(trial, attempt, targets)
    groups = trial.model.parameter_groups().values()
    parameters = sum(p.numel() for group in groups for p in group.parameters)
    attempt.note(trainable_parameters=parameters, device=trial.backbone.decisions["device"].value)
    try:
        session = training_session.run_session(trial)
        if not session.finished:
            raise TrialPaused(f"trial {attempt.number}: {session.end.message}")
        score = quick_evaluation(trial, trial.samples(SPLIT))()[SELECTION]  # over the whole split
    except (Pruned, TrainingAlarm) as ended:
        _close(trial.run, attempt)
        if isinstance(ended, Pruned):
            raise
        raise Pruned(f"trial {attempt.number} diverged: {ended}") from ended
    _close(trial.run, attempt)
    return score


def trial_folder(run: RunFolder, number: int) -> Path:
    """Return the folder of a trial below the search's own."""
    return run.path / "trials" / f"{number:03d}"


def keep_table(run: RunFolder, search: Search) -> None:
    """Write `trials.jsonl` anew: one line per trial so far."""
    lines = "".join(to_json(record) + "\n" for record in search.records())
    write_atomically(run.path / "trials.jsonl", lines)


def finish_search(exp: Experiment, search: Search) -> list[str]:
    """Write `best.yaml` and the manifest; returns the best trial's overrides, for every later run.

    They name the budget that they were found with, so that the run which takes them records it.
    """
    run, records, best = exp.run, search.records(), search.best()
    tuning = {"trials": len(records), "split": SPLIT, "study": run.run_id}
    if target := run.config()["training"]["target_tokens"]:
        tuning["target_tokens"] = target  # the baseline that takes the result has as many
    words = overrides(best["values"], tuning)
    write_atomically(run.path / "best.yaml", OmegaConf.to_yaml(OmegaConf.create(words)))
    tokens = sum((Counter(record["tokens"]) for record in records), Counter())
    pruned = sum(record["state"] == "pruned" for record in records)
    found = {**tuning, "pruned": pruned, "best_trial": best["trial"], "score": best["score"]}
    found["values"] = best["values"]
    totals = Totals(dict(tokens), best["trainable_parameters"], sum(r["seconds"] for r in records))
    run.finish(totals=totals, device=best["device"], data_hashes=exp.data_hashes, search=found)
    return words


class ReportCallback(StudyCallback):
    """Hands every quick evaluation of a trial on to its search."""

    def __init__(self, attempt: Attempt, every: int) -> None:
        self.attempt = attempt
        self.every = every

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Report the score of a quick evaluation, if this step made one."""
        if figures := self.trainer.record.get("quick_evaluation"):
            self.attempt.report(math.ceil(state.global_step / self.every), figures[SELECTION])


def _opened(exp: Experiment, attempt: Attempt) -> Experiment:
    """The trial's own experiment, on the search's corpora and with the batch that was found for it."""
    chosen = with_values(exp.config, attempt.values)
    trial = Experiment(chosen, start_run(chosen, page=PAGE, run_dir=trial_folder(exp.run, attempt.number)))
    trial.corpora = exp.corpora
    for found in filter(Path.is_file, (exp.run.batch_json, exp.run.gate_json)):
        shutil.copy(found, trial.run.path)
    return trial


def _phases(trial: Experiment, attempt: Attempt, targets: StepTargets | None) -> list[Phase]:
    """What a trial trains: S4 in two phases, each with half of the steps, any other strategy in one.

    The last one reports at equal shares of an epoch, and is stopped by the search alone.
    """
    config, model, first = trial.config, trial.model, []
    plan = partial(plan_training, config, trial.encoded, targets=targets)
    if config.strategy.kind == "sequential":
        shared, own = map(plan, HALVES)
        first = [Phase(shared, name="shared", prepare=model.pretrain_shared)]
        last = Phase(own, trial.quick, "own", prepare=lambda: model.adapt(config.strategy.adapt_shared))
    else:
        last = Phase(plan(), trial.quick)
    epochs = math.ceil(config.training.epochs / (1 + len(first)))
    every = math.ceil(len(last.plan) / (epochs * config.experiment["reports_per_epoch"]))
    trial.config = replace(config, training=replace(config.training, quick_every=every, patience=0))
    return [*first, replace(last, watches=[ReportCallback(attempt, every)], curve=False)]


def _close(trial: RunFolder, attempt: Attempt) -> None:
    """What the trial cost goes into its record; its checkpoints go."""
    tokens = trial.tokens()
    attempt.note(tokens=tokens[-1]["total"] if tokens else {}, seconds=round(training_seconds(trial), 1))
    shutil.rmtree(trial.checkpoints, ignore_errors=True)
    close_tracking()
