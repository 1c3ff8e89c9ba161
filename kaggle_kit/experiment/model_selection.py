"""Choosing: the best step of a run, and the better of two finished strategies, on development data.

    quick = quick_evaluation(config, network, loaded, encoded_quick, quick_dev)
    config, because = better_candidate(config, runs_dir, run_dir)

F1 and MAP have no common scale, so what chooses is the mean of each task's primary score over its best
published one. It chooses and is reported nowhere as a result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from kaggle_kit.analysis.comparability import assert_fixed
from kaggle_kit.analysis.overview import published_best
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.config import config_hash, read_config, strategy_entry
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.core.schema import NF4_ABOVE_PARAMETERS, RunConfig, StrategyConfig, quantization_for
from kaggle_kit.core.types import UnifiedSample, relation_parts
from kaggle_kit.data.concepts import with_gold_concepts
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.evaluation.predict import Predictor
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel

SELECTION = "selection"  # the figure by which a step is chosen
CHOOSING = "dev"  # the split on which steps and strategies are chosen
OWN = ("name", "title", "quantization", "candidates")  # of S5's strategy; the rest is the candidate's


def better_candidate(
    config: RunConfig, runs_dir: Path | str, run_dir: Path | str = ""
) -> tuple[RunConfig, str]:
    """The configuration, its strategy that of the better finished candidate as trained, and the reason.

    Candidates are the finished runs of `strategy.candidates` on the same tasks, model and profile; where
    `experiment.candidates` lists run ids, as a study does, only those. What they score on dev chooses, and
    `experiment.choice` keeps that. A run that has begun in `run_dir` goes on with what it began with.

    Raises IncomparableRuns for candidates of one strategy that differ in more than the seed, and ConfigError
    for those on an NF4 base; for a strategy that was asked for otherwise than the better one was trained;
    and on a paper profile unless each strategy has one that is scored on dev. Other profiles fall back on
    the strategy as declared.
    """
    if begun := _begun(config, run_dir):
        return begun, f"{begun.strategy.kind}, as this run began"
    finished = _candidates(config, runs_dir)
    _assert_unquantised(config, finished)
    for name, runs in finished.items():  # over seeds is averaged, and over nothing else
        assert_fixed("s5", {name: [Entry.of(run) for run, _ in runs]}, list(config.tasks), CHOOSING)
    found = {name: fmean(score for _, score in runs) for name, runs in finished.items()}  # over the seeds
    missing = [name for name in config.strategy.candidates if name not in found]
    if missing and config.profile.paper:
        raise ConfigError(
            f"no finished run of {', '.join(missing)} for these tasks is scored on {CHOOSING}, where S5 "
            f"chooses; run its page first, after a search with profile.report=[{CHOOSING},test]"
        )
    if not found:
        return config, f"no finished run of {', '.join(missing)}: {config.strategy.kind} as declared"
    best = max(found, key=found.__getitem__)
    winner, _ = finished[best][0]
    strategy = replace(
        read_config(winner.config_yaml).strategy, **{key: getattr(config.strategy, key) for key in OWN}
    )
    _assert_not_asked_otherwise(config, strategy, winner)
    scores = ", ".join(f"{name} {score:.3f}" for name, score in found.items())
    because = f"{best} is the better of {scores} on {CHOOSING}"
    choice = {"choice": {"of": best, "split": CHOOSING}}
    return replace(config, strategy=strategy, experiment=config.experiment | choice), because


def _begun(config: RunConfig, run_dir: Path | str) -> RunConfig | None:
    """What a run was settled on that was asked for this very configuration and is to go on."""
    if not run_dir or not (Path(run_dir) / "config.yaml").is_file():
        return None
    run = RunFolder.open(Path(run_dir), finished=False)
    if run.facts.get("asked_hash") != config_hash(config):
        return None
    settled = read_config(run.config_yaml)
    return replace(config, strategy=settled.strategy, experiment=settled.experiment)


def _candidates(config: RunConfig, runs_dir: Path | str) -> dict[str, list[tuple[RunFolder, float]]]:
    """Strategy -> its finished runs, each with its figure on dev; runs that score nothing there are none."""
    finished: dict[str, list[tuple[RunFolder, float]]] = {}
    wanted = (set(config.tasks), config.model.name, config.profile.name)
    named = config.experiment.get("candidates")
    for run in find_runs(in_workspace(runs_dir)):
        same = (set(run.facts["tasks"]), run.facts["model"], run.facts["profile"]) == wanted
        if (named and run.run_id not in named) or not same:
            continue
        if run.facts["strategy"] in config.strategy.candidates:
            primary = {metric.task: metric.value for metric in run.metrics() if _chooses(config, metric)}
            if len(primary) == len(config.tasks):  # a search or an affinity run scores nothing
                score = selection_score(config, primary)
                finished.setdefault(run.facts["strategy"], []).append((run, score))
    return finished


def _assert_not_asked_otherwise(config: RunConfig, strategy: StrategyConfig, winner: RunFolder) -> None:
    """The candidate says how S5 trains, so what was set on S5's own command must not say otherwise."""
    declared = strategy_entry(config.strategy.name)
    for key, value in asdict(config.strategy).items():
        if key not in OWN and value not in (getattr(declared, key), getattr(strategy, key)):
            raise ConfigError(
                f"strategy.{key} is {value} here and {getattr(strategy, key)} in {winner.run_id}, which S5 "
                f"trains on an NF4 base; leave it out here and set it on the runs of "
                f"{', '.join(config.strategy.candidates)} instead"
            )


def _assert_unquantised(config: RunConfig, finished: Mapping[str, list[tuple[RunFolder, float]]]) -> None:
    """S5 asks what NF4 costs; a candidate that has paid it already cannot tell."""
    declared = {name: strategy_entry(name).quantization for name in config.strategy.candidates}
    asked = {
        name: [run.config()["strategy"]["quantization"] for run, _ in finished.get(name, ())]
        for name in declared
    }
    for name, ways in asked.items():
        if "nf4" in {way or quantization_for(config.model.parameters) for way in ways or [declared[name]]}:
            size = f"{config.model.parameters / 1e9:.2f}B parameters"
            raise ConfigError(
                f"{name} on {config.model.name} ({size}) is loaded in NF4 already, so S5 would repeat it; "
                f"allowed: models of at most {NF4_ABOVE_PARAMETERS / 1e9:g}B, or candidates "
                "trained with strategy.quantization=none"
            )


def quick_evaluation(
    config: RunConfig,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
    gold: Mapping[str, Sequence[UnifiedSample]],
) -> Callable[[], dict[str, float]]:
    """Scores the model as it stands: each task's primary metric, and the figure that chooses a step."""

    def evaluate_now() -> dict[str, float]:
        figures, primary = {}, {}
        for name, task in config.tasks.items():
            predicted = predictions_of(config, network, loaded, encoded[name], gold[name])
            if any(part.concepts for part in relation_parts(encoded[name].spec)):
                predicted = list(map(with_gold_concepts, gold[name], predicted))
            with tempfile.TemporaryDirectory() as folder:
                score = score_samples(task, gold[name], predicted, Path(folder)).get(task.primary_metric, 0.0)
            figures[f"{name}.{task.primary_metric}"] = primary[name] = score
        return {**figures, SELECTION: selection_score(config, primary)}

    return evaluate_now


def predictions_of(
    config: RunConfig,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: EncodedTask,
    gold: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    """What the model predicts for one task's encoded samples."""
    return Predictor(network, **reading(config, loaded)).predict(encoded, gold)


def reading(config: RunConfig, loaded: Loaded) -> dict[str, Any]:
    """How a model is read in prediction: micro-batches, device, precision."""
    return {
        "token_budget": config.training.token_budget,
        "device": loaded.decisions["device"].value,
        "float16": loaded.decisions["dtype"].value == "float16",
    }


def selection_score(config: RunConfig, primary: Mapping[str, float]) -> float:
    """The mean of each task's primary score over its best published one (over 1 where none is known)."""
    best = {name: published_best(asdict(task)) or 1.0 for name, task in config.tasks.items()}
    return sum(primary.get(name, 0.0) / best[name] for name in best) / len(best)


def _chooses(config: RunConfig, metric: Metric) -> bool:
    primary = metric.task in config.tasks and metric.name == config.tasks[metric.task].primary_metric
    return primary and metric.split == CHOOSING
