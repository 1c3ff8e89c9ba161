"""Predictions of the model as it stands, and what they score by the official rules.

    metrics = evaluate(exp, exp.run)          # the splits that the profile reports
    scores = quick_evaluation(exp, samples)   # called during training, to choose a step

F1 and MAP have no common scale, so what chooses a step or a strategy is the mean of each task's primary
score over its best published one. It chooses and is reported nowhere as a result.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.analysis.anchors import published_best
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import Access, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.candidates import with_gold_concepts
from kaggle_kit.data.corpus import limit
from kaggle_kit.data.normalise import with_concepts
from kaggle_kit.evaluation.documents import document_statistics
from kaggle_kit.evaluation.official import metrics_of, score_samples
from kaggle_kit.evaluation.predict import Predictor
from kaggle_kit.experiment.preparation import Samples, encode_samples

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

CONCEPTS = "concepts.json"
SELECTION = "selection"  # the figure by which a step is chosen
CHOOSING = "dev"  # the split on which steps, thresholds and strategies are chosen


def predictions(
    exp: "Experiment", task: TaskConfig, spec: TaskSpec, samples: Sequence[UnifiedSample]
) -> list[UnifiedSample]:
    """Predict samples of any corpus by the heads of `spec`, concepts as learnt from the run's own training.

    `task` says how the corpus's documents are cut into passages.
    """
    predicted = predictor(exp).predict(encode_samples(exp, task, spec, samples), samples)
    return with_concepts(exp.concept_names[spec.name], predicted)


def quick_evaluation(exp: "Experiment", samples: Samples | None = None) -> Callable[[], dict[str, float]]:
    """Return a function that scores the model as it stands: each primary metric, and `SELECTION`.

    `samples` are development samples of each scored task; by default a few, as the configuration says.
    """
    settings, seed = exp.config.training, exp.config.seed
    if samples is None:
        dev = exp.samples(CHOOSING)
        samples = {name: limit(dev[name], settings.quick_samples, seed) for name in exp.scored_config.tasks}
    encoded = exp.encode(samples)

    def evaluate_now() -> dict[str, float]:
        figures, primary = {}, {}
        for name, gold in samples.items():
            task, predicted = exp.config.tasks[name], predictor(exp).predict(encoded[name], gold)
            if any(part.concepts for part in relation_parts(encoded[name].spec)):
                predicted = list(map(with_gold_concepts, gold, predicted))
            with tempfile.TemporaryDirectory() as folder:
                scored = score_samples(task, gold, predicted, Path(folder))
            primary[name] = scored.get(task.primary_metric, 0.0)
            figures[f"{name}.{task.primary_metric}"] = primary[name]
        return {**figures, SELECTION: selection_score(exp.scored_config, primary)}

    return evaluate_now


def selection_score(config: RunConfig, primary: Mapping[str, float]) -> float:
    """Return the mean of each task's primary score over its best published one, or over 1."""
    best = {name: published_best(asdict(task)) or 1.0 for name, task in config.tasks.items()}
    return sum(primary.get(name, 0.0) / best[name] for name in best) / len(best)


def evaluate(exp: "Experiment", run: RunFolder) -> list[Metric]:
    """Write predictions and scores of every split of `profile.report` into a run folder.

    First the thresholds of relations are chosen, on dev; what is reported of dev itself is cross-fitted.
    """
    relating = [name for name in exp.scored_config.tasks if relation_parts(exp.specs[name])]
    dev = {name: exp.samples(CHOOSING)[name] for name in relating}
    for name, encoded in exp.encode(dev).items():
        predictor(exp).fit_thresholds(encoded, dev[name])
    metrics = [metric for split in exp.config.profile.report for metric in evaluate_split(exp, run, split)]
    run.write_metrics(metrics)
    return metrics


def evaluate_split(exp: "Experiment", run: RunFolder, split: str) -> list[Metric]:
    """Predict a split of every scored task, write the predictions, and score them as the organisers do."""
    metrics: list[Metric] = []
    for name, task in exp.scored_config.tasks.items():
        gold = exp.samples(split)[name]
        metrics += record_split(run, task, gold, predictions(exp, task, exp.specs[name], gold), split)
    return metrics


def record_split(
    run: RunFolder,
    task: TaskConfig,
    gold: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
    split: str,
) -> list[Metric]:
    """Write the predictions of a task's split, its official files and its documents; return the figures."""
    run.write_predictions(task.name, split, predicted)
    figures = score_samples(task, gold, predicted, run.official(task.name))
    run.write_documents(task.name, split, document_statistics(task, gold, run.official(task.name)))
    return metrics_of(task, figures, gold, split)


def save_concepts(exp: "Experiment") -> None:
    """Write `concept_names` of every task beside its adapters; null where the names are restricted text."""
    restricted = {name for name, spec in exp.specs.items() if spec.access is Access.RESTRICTED}
    names = exp.concept_names.items()
    named = {name: None if known and name in restricted else known for name, known in names}
    write_atomically(exp.run.adapters / CONCEPTS, to_json(named) + "\n")


def predictor(exp: "Experiment") -> Predictor:
    """Return the model as it stands, with how it is read: micro-batches, device, precision."""
    decisions, budget = exp.backbone.decisions, exp.scored_config.training.token_budget
    float16 = decisions["dtype"].value == "float16"
    return Predictor(exp.model, budget, decisions["device"].value, float16)
