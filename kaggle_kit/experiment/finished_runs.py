"""Finished runs as the instruments of phase 5 take them: gold and stored predictions, side by side.

run = opened(practice_run("runs"))               # no model is loaded
sides = judged(run, "semeval2014t7", "dev")
errors_of(run, "semeval2014t7", *sides), scores_of(run, "semeval2014t7", *sides)
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kaggle_kit.analysis.calibration import Scores, cross_fitted, pair_scores, temperature
from kaggle_kit.analysis.error_types import CORRECT, Errors, mention_errors, relation_errors
from kaggle_kit.core.artifacts import RunFolder, find_run, find_runs, read_predictions
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import in_workspace, logger
from kaggle_kit.core.types import Kind, relation_parts
from kaggle_kit.data.corpus import task_spec
from kaggle_kit.evaluation.predict import ENTITY_KINDS, Samples
from kaggle_kit.experiment.load_trained_run import TrainedRun
from kaggle_kit.experiment.page_run import run_page
from kaggle_kit.experiment.scoring import CHOOSING, predictor
from kaggle_kit.heads.thresholds import half_of

FIRST = "s2_shared"  # the page that trains a run where there is none, on these tasks: of every kind but spans
TASKS = "semeval2021t6,semeval2017t3"


def practice_run(
    runs_dir: Path | str,
    named: str = "",
    tasks: str = TASKS,
    fits: Callable[[RunFolder], bool] = lambda run: True,
) -> RunFolder:
    """Return the run of this id or folder; without one the newest practice run with predictions that `fits`.

    Where there is none a tiny one is trained on `tasks`, in minutes. Raises RunFolderError for a name of no
    such run.
    """
    folder = in_workspace(runs_dir)
    if named:
        return find_run(folder, named)
    runs = [run for run in find_runs(folder, damaged=[]) if run.facts["flags"].get("practice")]
    trained = [run for run in runs if run.manifest()["totals"]["trainable_parameters"]]  # no zero-shot run
    if kept := [run for run in trained if any(run.predictions.glob("*.jsonl")) and fits(run)]:
        return max(kept, key=lambda run: run.manifest()["finished"])
    logger.info("%s holds no such practice run with predictions: the page %s trains one first", folder, FIRST)
    return RunFolder.open(run_page(FIRST, model="tiny", task=tasks, profile="smoke", runs_dir=folder))


def opened(run: RunFolder) -> TrainedRun:
    """Return a finished run; its corpora are opened, and its model loaded, where they are first asked for."""
    return TrainedRun(read_config(run.config_yaml), run)


def judged(run: TrainedRun, task: str, split: str) -> tuple[Samples, Samples]:
    """Return gold and predicted samples of a split; those of dev are predicted anew where none were kept.

    Raises RunFolderError for a split of which the run kept nothing, ConfigError for a changed corpus.
    """
    gold = run.samples(split)[task]
    if split == CHOOSING and not (run.run.predictions / f"{task}.{split}.jsonl").is_file():
        return gold, run.predict_samples(task, gold)
    return gold, read_predictions(run.run, task, split)


def errors_of(run: TrainedRun, task: str, gold: Samples, predicted: Samples) -> dict[str, Errors]:
    """Return the errors of `mentions`, unless they are given, and of each relation component by its name.

    A component whose relations have no such errors is left out, and the log says so.
    """
    spec, found = task_spec(run.config.tasks[task], run.corpora[task]), {}
    labels = {label for part in spec.components if part.kind in ENTITY_KINDS for label in part.labels}
    if labels and not spec.gold_entities:
        found["mentions"] = mention_errors(labels, gold, predicted)
    for part in relation_parts(spec):
        try:
            found[part.name] = relation_errors(part, gold, predicted)
        except ConfigError as error:
            logger.info("%s: %s", task, error)
    return found


def scores_of(run: TrainedRun, task: str, gold: Samples, predicted: Samples) -> dict[str, Scores]:
    """Return the probabilities of all scored predictions, by what is predicted: as above, and `ranking`."""
    found = {
        name: Scores.of(
            (case.score, case.category == CORRECT, case.document)
            for case in errors.cases
            if case.score is not None
        )
        for name, errors in errors_of(run, task, gold, predicted).items()
    }
    found["ranking"] = pair_scores(gold, predicted)
    return {name: scores for name, scores in found.items() if len(scores)}


def word_scores(run: TrainedRun, task: str, split: str) -> dict[str, Scores]:
    """Return the probability of the likeliest tag of every word, before tags are decoded together.

    By component; empty for a task without tags. The model is loaded and reads the split.
    """
    samples = run.samples(split)[task]
    parts = [part for part in run.specs[task].components if part.kind is Kind.TOKENS]
    if not parts:
        return {}
    encoded = run.encode({task: samples})[task]
    outputs, rows = predictor(run).outputs(encoded), encoded.rows(range(len(encoded)))
    owned = [np.asarray(words, bool) for words in rows["owned"]]
    ids = np.array([sample.document_id for sample in samples])[np.asarray(rows["document"])]
    documents: np.ndarray = np.repeat(ids, [mine.sum() for mine in owned])
    found: dict[str, Scores] = {}
    for part in parts:
        tags = zip(rows[f"tags:{part.name}"], owned, strict=True)
        right = np.concatenate([np.asarray(row)[mine] for row, mine in tags])
        logits = np.concatenate([output.numpy() for output in outputs[part.name]]).astype(float)
        found[part.name] = Scores(logits, logits.argmax(axis=1), right, documents)
    return found


def temperatures(split: str, scores: Scores, dev: Scores) -> np.ndarray:
    """Return a temperature for each of the `scores` of a split, (n,), fitted on dev.

    Of dev itself each half of the documents has that of the other half, so that none decides on itself.
    """
    if split == CHOOSING:
        return cross_fitted(scores, np.array([half_of(document) for document in scores.documents]))
    return np.full(len(scores), temperature(dev))
