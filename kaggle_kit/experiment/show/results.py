"""What a page shows after training: the session, scores, errors, differences between runs, the record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape

import pandas as pd

from kaggle_kit.analysis.anchors import published_best, trivial_baseline
from kaggle_kit.analysis.contrasts import contrast_table, in_words
from kaggle_kit.analysis.contrasts import shown as contrasts_of
from kaggle_kit.analysis.figures import loss_curves
from kaggle_kit.core.artifacts import Metric
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.types import Access, UnifiedSample
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.model_selection import predictions_of
from kaggle_kit.experiment.preparation import encode_split
from kaggle_kit.experiment.show.marked import GOLD, MISSED, WITHHELD, WRONG, marked_text
from kaggle_kit.experiment.show.views import figure, show_html, table

LOOKED_AT = 30  # samples among which errors are looked for
SINGLE = "s1_single"
SCORES = dict.fromkeys(("score", "without a model", "best published", "S1, same seed"), "{:.4f}")
TOY = "SMOKE OR PRACTICE: not a result"


def training(exp: Experiment) -> None:
    """Show what the session came to, and the training loss of every task."""
    lines = str(exp.session).splitlines()
    show_html("Training", "".join(f"<div>{escape(line)}</div>" for line in lines), "\n".join(lines))
    learning_curve(exp)


def learning_curve(exp: Experiment) -> None:
    """Show the training loss over optimiser steps, by task."""
    figure(loss_curves([exp.run]))


def scores(exp: Experiment) -> None:
    """Show each task's primary and secondary figures beside what is known of the same metric.

    `S1, same seed`: a finished single-task run of the same model and profile that lies in the same folder.
    """
    single = _single_task_scores(exp)
    rows = [_row(exp, metric, single) for metric in exp.metrics if _is_named(exp, metric)]
    toy = any(exp.run.facts["flags"].get(name) for name in ("smoke", "practice"))
    table(
        pd.DataFrame(rows).dropna(axis="columns", how="all"),
        f"Scores by the official rules{f' — {TOY}' if toy else ''}",
        SCORES,
    )


def errors(exp: Experiment, n: int = 3) -> None:
    """Show development samples that the model gets wrong: mentions that it missed or made up."""
    for task, gold in exp.samples("dev").items():
        if task not in exp.scored.tasks:
            continue
        if any(sample.access == Access.RESTRICTED for sample in gold):
            show_html(f"{task}: errors", f"<i>{WITHHELD}</i>", WITHHELD)
            continue
        shown = 0
        for right, predicted in zip(gold[:LOOKED_AT], predictions(exp, task, gold[:LOOKED_AT]), strict=True):
            if shown < n and (view := _error(right, predicted)):
                show_html(f"{task}, document {right.document_id}", *view)
                shown += 1


def differences(exp: Experiment, question: str) -> None:
    """Show what all finished runs of a question say together: differences over seeds, with intervals."""
    documents = contrasts_of(question, find_runs(exp.run.path.parent))
    lines = list(in_words(documents))
    show_html(
        "Over all finished runs", "".join(f"<div>{escape(line)}</div>" for line in lines), "\n".join(lines)
    )
    if documents:
        table(contrast_table(documents), "Differences between arms")


def record(exp: Experiment) -> None:
    """Show where the run lies, or how a paused one goes on."""
    said = f"finished: {exp.run.path.name}" if exp.run.finished else exp.session.end.message
    show_html("", f"<div>{escape(said)}</div>", said)


def _is_named(exp: Experiment, metric: Metric) -> bool:
    task = exp.config.tasks[metric.task]
    return metric.name in (task.primary_metric, *task.secondary_metrics)


def _row(exp: Experiment, metric: Metric, single: dict[tuple[str, str, str], float]) -> dict[str, object]:
    task, practice = asdict(exp.config.tasks[metric.task]), exp.corpora[metric.task].practice
    primary = metric.name == task["primary_metric"]
    known = primary and not practice
    return {
        "task": metric.task,
        "split": metric.split,
        "metric": f"{metric.name}{' (primary)' if primary else ''}",
        "score": metric.value,
        "n": metric.n,
        "without a model": trivial_baseline(task) if known else None,
        "best published": published_best(task) if known else None,
        "S1, same seed": single.get((metric.task, metric.name, metric.split)),
    }


def _single_task_scores(exp: Experiment) -> dict[tuple[str, str, str], float]:
    wanted = {"model": exp.config.model.name, "profile": exp.config.profile.name, "seed": exp.config.seed}
    wanted |= {"strategy": SINGLE, "page": "s1_single_task"}
    runs = [run for run in find_runs(exp.run.path.parent) if wanted.items() <= run.facts.items()]
    return {(m.task, m.name, m.split): m.value for run in runs for m in run.metrics()}


def predictions(exp: Experiment, task: str, gold: Sequence[UnifiedSample]) -> list[UnifiedSample]:
    """What the model as it stands predicts for some samples of a task."""
    config = exp.with_tasks(task)
    encoded = encode_split(config, {task: gold}, exp.specs, exp.backbone)
    return predictions_of(config, exp.model, exp.backbone, encoded[task], gold)


def _error(gold: UnifiedSample, predicted: UnifiedSample) -> tuple[str, str] | None:
    """(HTML, text) of the mentions that differ; for a question, whether the first candidate is wrong."""
    if gold.pairs:
        first = max(predicted.pairs, key=lambda pair: pair.score or 0.0)
        relevant = {pair.candidate_id for pair in gold.pairs if pair.relevant}
        if not relevant or first.candidate_id in relevant:
            return None
        said = f"ranked first and not relevant: {first.text[:200]}"
        return f"<div>{escape(said)}</div>", said
    right = {(mention.type, mention.fragments): mention for mention in gold.mentions}
    found = {(mention.type, mention.fragments): mention for mention in predicted.mentions}
    if right.keys() == found.keys() or gold.text is None:
        return None
    marks: Iterable = [
        *((mention, MISSED, f"{mention.type}, missed") for key, mention in right.items() if key not in found),
        *((mention, WRONG, f"{mention.type}, made up") for key, mention in found.items() if key not in right),
        *((mention, GOLD, mention.type) for key, mention in right.items() if key in found),
    ]
    return marked_text(gold.text, marks)
