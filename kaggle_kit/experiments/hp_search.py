"""One trial of a search: train a configuration as its page would, report on the way, score it on dev.

    search.run(lambda attempt: trial_score(ready, run, corpora, attempt), told=keep_table)
    finish_search(run, corpora, search)

A trial's folder lies inside the search's own, so it counts as no run of the study: configuration, events
and tokens stay, checkpoints go when it ends.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.config import from_yaml
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.experiment import preparation, rounds
from kaggle_kit.experiment.model_selection import SELECTION, quick_evaluation
from kaggle_kit.experiment.token_budget import settle_batch
from kaggle_kit.experiment.tracking import close_tracking
from kaggle_kit.experiment.training_session import Phase, assert_everything_learns, pass_gate
from kaggle_kit.experiments.hp_search_journal import SPLIT, Attempt, Pruned, Search, overrides
from kaggle_kit.models.build import build_model
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks import StudyCallback, TrainingAlarm
from kaggle_kit.training.trainer import MultiTaskTrainer

PAGE = "hp_search"
Samples = Mapping[str, Sequence[UnifiedSample]]


class TrialPaused(KitError):
    """The session is over in the middle of a trial; its checkpoint holds everything to go on from."""


@dataclass(frozen=True)
class Prepared:
    """A configuration up to its trainer: what stands on a training page before `rounds.open_trainer`."""

    config: RunConfig
    train: Samples
    dev: Samples
    loaded: Loaded
    encoded: Mapping[str, EncodedTask]
    encoded_dev: Mapping[str, EncodedTask]
    network: MultiTaskModel
    targets: StepTargets | None = None  # of a baseline: the steps and tokens of every trial

    @classmethod
    def of(
        cls, config: RunConfig, corpora: Mapping[str, Corpus], targets: StepTargets | None = None
    ) -> Prepared:
        specs = preparation.task_specs(config, corpora)
        train, dev = (preparation.split_samples(config, corpora, split) for split in ("train", SPLIT))
        torch.manual_seed(config.seed)
        loaded = preparation.open_backbone(config)
        encoded, encoded_dev = (
            preparation.encode_split(config, split, specs, loaded) for split in (train, dev)
        )
        network = build_model(loaded, specs.values(), config.strategy)
        return cls(config, train, dev, loaded, encoded, encoded_dev, network, targets)

    def score(self) -> float:
        """The figure that chooses, over the whole development split."""
        quick = quick_evaluation(self.config, self.network, self.loaded, self.encoded_dev, self.dev)
        return quick()[SELECTION]


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with some of its keys set, checked again. Raises ConfigError."""
    node = OmegaConf.structured(config)
    for key, value in values.items():
        OmegaConf.update(node, key, value)
    return from_yaml(OmegaConf.to_yaml(node))


def run_search(
    config: RunConfig,
    run: RunFolder,
    corpora: Mapping[str, Corpus],
    search: Search,
    targets: StepTargets | None = None,
) -> str:
    """The batch and the smoke gate once, then trials until the budget is used up or the session is over.

    `targets` are the steps and tokens of a baseline, which each of its trials has.
    Returns what happened. In the second case the run is marked `paused`, and its page goes on another
    time with the trial that it was in.
    """
    run.go_on()
    ready = Prepared.of(config, corpora, targets)
    settled, batch = settle_batch(config, run, ready.network, ready.loaded, ready.encoded)
    gate = pass_gate(settled, run, ready.network, ready.loaded, ready.encoded)
    try:
        search.run(partial(trial_score, ready, run, corpora), told=partial(keep_table, run))
    except TrialPaused as paused:
        run.pause(trial=len(search.counted()), trials=search.settings.trials, message=str(paused))
        return f"{batch}\n{gate}\n{paused}"
    return f"{batch}\n{gate}\n{len(search.counted())} trials done"


def trial_score(base: Prepared, run: RunFolder, corpora: Mapping[str, Corpus], attempt: Attempt) -> float:
    """Train with the attempt's values and score on dev. Raises Pruned where it is given up or diverges.

    An interrupted trial goes on from its checkpoint. Reports are made `experiment.reports_per_epoch`
    times an epoch, so that trials are compared where they have seen the same data.
    """
    chosen = with_values(base.config, attempt.values)
    trial = start_run(chosen, page=PAGE, run_dir=trial_folder(run, attempt.number))
    shutil.copy(run.batch_json, trial.batch_json)  # found once for the search
    ready = Prepared.of(chosen, corpora, base.targets)
    chosen, _ = settle_batch(chosen, trial, ready.network, ready.loaded, ready.encoded)
    ready = replace(ready, config=chosen)
    groups = ready.network.parameter_groups().values()
    attempt.note(
        trainable_parameters=sum(p.numel() for group in groups for p in group.parameters),
        device=ready.loaded.decisions["device"].value,
    )
    try:
        for trainer, phase in _phases(ready, trial, attempt):
            end = rounds.train(chosen, trial, trainer, corpora, phase=phase)
            if end.paused:
                raise TrialPaused(f"trial {attempt.number}: {end.message}")
        score = ready.score()
    except Pruned:
        _close(trial, attempt)
        raise
    except TrainingAlarm as alarm:
        _close(trial, attempt)
        raise Pruned(f"trial {attempt.number} diverged: {alarm}") from alarm
    _close(trial, attempt)
    return score


def trial_folder(run: RunFolder, number: int) -> Path:
    return run.path / "trials" / f"{number:03d}"


def keep_table(run: RunFolder, search: Search) -> None:
    """Write `trials.jsonl` anew: one line per trial so far."""
    lines = "".join(to_json(record) + "\n" for record in search.records())
    write_atomically(run.path / "trials.jsonl", lines)


def finish_search(run: RunFolder, corpora: Mapping[str, Corpus], search: Search) -> list[str]:
    """Write `best.yaml` and the manifest; returns the best trial's overrides, for every later run.

    They name the budget that they were found with, so that the run which takes them records it.
    """
    records, best = search.records(), search.best()
    tuning = {"trials": len(records), "split": SPLIT, "study": run.run_id}
    if target := run.config()["training"]["target_tokens"]:
        tuning["target_tokens"] = target  # the baseline that takes the result has as many
    words = overrides(best["values"], tuning)
    write_atomically(run.path / "best.yaml", OmegaConf.to_yaml(OmegaConf.create(words)))
    tokens: Counter[str] = Counter()
    for record in records:
        tokens.update(record["tokens"])
    run.finish(
        totals=Totals(dict(tokens), best["trainable_parameters"], sum(r["seconds"] for r in records)),
        device=best["device"],
        data_hashes={name: corpus.sha256 for name, corpus in corpora.items()},
        search={
            **tuning,
            "pruned": sum(record["state"] == "pruned" for record in records),
            "best_trial": best["trial"],
            "score": best["score"],
            "values": best["values"],
        },
    )
    return words


class ReportCallback(StudyCallback):
    """Hands every quick evaluation of a trial on to its search."""

    def __init__(self, attempt: Attempt, every: int) -> None:
        self.attempt = attempt
        self.every = every

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if figures := self.trainer.record.get("quick_evaluation"):
            self.attempt.report(math.ceil(state.global_step / self.every), figures[SELECTION])


def _phases(ready: Prepared, trial: RunFolder, attempt: Attempt) -> Iterator[tuple[MultiTaskTrainer, str]]:
    """The trainers of a trial, one by one: S4 has two phases, each with half of the steps, the others one."""
    config, network = ready.config, ready.network
    if config.strategy.kind != "sequential":
        yield _trainer(ready, trial, attempt), "training"
        return
    half, other = preparation.HALVES
    network.pretrain_shared()
    plan = preparation.plan_training(config, ready.encoded, half)
    first = rounds.open_trainer(config, trial, network, ready.loaded, plan, ready.encoded)
    yield first, "shared"
    network.adapt(config.strategy.adapt_shared)
    yield _trainer(ready, trial, attempt, other, after=first), "own"


def _trainer(
    ready: Prepared,
    trial: RunFolder,
    attempt: Attempt,
    part: tuple[float, float] = (0.0, 1.0),
    after: MultiTaskTrainer | None = None,
) -> MultiTaskTrainer:
    """A trainer that reports at equal shares of an epoch, and stops by the search alone."""
    config = ready.config
    plan = preparation.plan_training(config, ready.encoded, part, ready.targets)
    if part == (0.0, 1.0):
        assert_everything_learns(ready.network, [Phase(plan)])
    points = math.ceil(config.training.epochs * (part[1] - part[0])) * config.experiment["reports_per_epoch"]
    every = math.ceil(len(plan) / points)
    quick_dev = preparation.quick_samples(config, ready.dev)
    specs = {name: task.spec for name, task in ready.encoded.items()}
    encoded_quick = preparation.encode_split(config, quick_dev, specs, ready.loaded)
    quick = quick_evaluation(config, ready.network, ready.loaded, encoded_quick, quick_dev)
    paced = replace(config, training=replace(config.training, quick_every=every, patience=0))
    trainer = rounds.open_trainer(
        paced, trial, ready.network, ready.loaded, plan, ready.encoded, quick, after=after
    )
    report = ReportCallback(attempt, every)
    report.bind(trainer)
    trainer.add_callback(report)
    return trainer


def _close(trial: RunFolder, attempt: Attempt) -> None:
    """What the trial cost goes into its record; its checkpoints go."""
    tokens = trial.tokens()
    attempt.note(
        tokens=tokens[-1]["total"] if tokens else {}, seconds=round(rounds.training_seconds(trial), 1)
    )
    shutil.rmtree(trial.checkpoints, ignore_errors=True)
    close_tracking()
