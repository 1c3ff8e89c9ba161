"""Choosing: the best step of a run, and the better of two finished strategies, on development data.

    quick = quick_evaluation(config, network, loaded, encoded_quick, quick_dev)
    config, because = better_candidate(config, runs_dir)

F1 and MAP have no common scale, so what chooses is the mean of each task's primary score over its best
published one. It chooses and is reported nowhere as a result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from kaggle_kit.analysis.overview import published_best
from kaggle_kit.core.artifacts import Metric, find_runs
from kaggle_kit.core.config import strategy_entry
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.encode import EncodedTask
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.evaluation.predict import predict
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel

SELECTION = "selection"  # the figure by which a step is chosen


def better_candidate(config: RunConfig, runs_dir: Path | str) -> tuple[RunConfig, str]:
    """The configuration with the strategy kind of the better finished candidate, and the reason.

    Candidates are the finished runs of `strategy.candidates` on the same tasks, model and profile; where
    `experiment.candidates` lists run ids, as a study does, only those. A paper profile refuses to go on
    unless each strategy has one; others fall back on the strategy as declared.
    """
    finished: dict[str, list[float]] = {}
    wanted = (list(config.tasks), config.model.name, config.profile.name)
    named = config.experiment.get("candidates")
    for run in find_runs(in_workspace(runs_dir)):
        if named and run.run_id not in named:
            continue
        same = (run.facts["tasks"], run.facts["model"], run.facts["profile"]) == wanted
        if same and run.facts["strategy"] in config.strategy.candidates:
            primary = {metric.task: metric.value for metric in run.metrics() if _is_primary(config, metric)}
            if len(primary) == len(config.tasks):  # a search or an affinity run scores nothing
                finished.setdefault(run.facts["strategy"], []).append(selection_score(config, primary))
    found = {name: fmean(scores) for name, scores in finished.items()}  # over the seeds
    missing = [name for name in config.strategy.candidates if name not in found]
    if missing and config.profile.paper:
        raise ConfigError(f"no finished run of {', '.join(missing)} for these tasks; run its page first")
    if not found:
        return config, f"no finished run of {', '.join(missing)}: {config.strategy.kind} as declared"
    best = max(found, key=found.__getitem__)
    chosen = strategy_entry(best)
    kept = {"name": config.strategy.name, "title": config.strategy.title}
    quantised = {"quantization": config.strategy.quantization, "candidates": config.strategy.candidates}
    scores = ", ".join(f"{name} {score:.3f}" for name, score in found.items())
    return replace(config, strategy=replace(chosen, **kept, **quantised)), f"{best} is the better of {scores}"


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
    return predict(
        network,
        encoded,
        gold,
        token_budget=config.training.token_budget,
        device=loaded.decisions["device"].value,
        float16=loaded.decisions["dtype"].value == "float16",
    )


def selection_score(config: RunConfig, primary: Mapping[str, float]) -> float:
    """The mean of each task's primary score over its best published one (over 1 where none is known)."""
    best = {name: published_best(asdict(task)) or 1.0 for name, task in config.tasks.items()}
    return sum(primary.get(name, 0.0) / best[name] for name in best) / len(best)


def _is_primary(config: RunConfig, metric: Metric) -> bool:
    return metric.task in config.tasks and metric.name == config.tasks[metric.task].primary_metric
