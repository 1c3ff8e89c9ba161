"""Views of every training page: set-up, samples, adapters, training, scores, errors, the record."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from kaggle_kit.analysis.anchors import published_best, trivial_baseline
from kaggle_kit.analysis.contrasts import contrasts_or_refusals
from kaggle_kit.analysis.figures import loss_curves
from kaggle_kit.core.artifacts import Metric, find_runs
from kaggle_kit.core.config import config_hash
from kaggle_kit.core.types import Access
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.findings import contrasts
from kaggle_kit.experiment.show.marked import WITHHELD, error_view, sample_view
from kaggle_kit.experiment.show.views import facts, figure, sentences, show_html, table

MAX_SAMPLES = 30  # among which errors are looked for
TOY = "SMOKE OR PRACTICE: not a result"


def setup(exp: Experiment) -> None:
    """Show the machine, the corpora, the decisions on the backbone, and the plan of all steps.

    Raises StartupError for a machine that cannot carry the run, and CorpusMissing for a corpus.
    """
    rows = [
        ("profile", exp.config.profile.title),
        ("run folder", f"{exp.run.path.name}, configuration {config_hash(exp.config)}"),
        *((finding.what, finding.found) for finding in exp.startup),
        *((name, _corpus(exp, name)) for name in exp.corpora),
        *((name, f"{made.value}: {made.reason}") for name, made in exp.backbone.decisions.items()),
        *((f"passages of {name}", encoded.reach.summary("train")) for name, encoded in exp.encoded.items()),
        ("plan", f"{len(exp.plan):,} optimiser steps, {sum(exp.plan.tokens.values()):,} tokens"),
        *((f"tokens of {name}", f"{tokens:,}") for name, tokens in exp.plan.tokens.items()),
    ]
    facts([(name, found) for name, found in rows if found], "Set-up")


def samples(exp: Experiment, per_task: int = 1) -> None:
    """Show training samples of every task with their annotations; restricted text is withheld."""
    for name, found in exp.samples().items():
        annotated = [sample for sample in found if sample.mentions or sample.pairs] or list(found)
        for sample in annotated[:per_task]:
            kind = "practice, synthetic" if exp.corpora[name].practice else sample.access.value
            show_html(f"{name} ({kind}), document {sample.document_id}", *sample_view(sample))


def adapters(exp: Experiment) -> None:
    """Show which parameters learn, which tasks train them, and which gradients are projected."""
    projected = exp.config.strategy.pcgrad
    rows = [
        {
            "group": name,
            "parameters": sum(p.numel() for p in group.parameters),
            "trained by": ", ".join(group.tasks),
            "projected": "yes" if projected and len(group.tasks) > 1 else "no",
        }
        for name, group in exp.model.parameter_groups().items()
    ]
    frozen = sum(p.numel() for p in exp.model.backbone.parameters() if not p.requires_grad)
    title = f"What learns, on top of {frozen:,} frozen parameters of {exp.config.model.name}"
    table(rows, title)


def training(exp: Experiment) -> None:
    """Show what the session came to, and the training loss of every task."""
    sentences(str(exp.session).splitlines(), "Training")
    learning_curve(exp)


def learning_curve(exp: Experiment) -> None:
    """Show the training loss over optimiser steps, by task."""
    figure(loss_curves([exp.run]))


def scores(exp: Experiment) -> None:
    """Show each task's primary and secondary figures beside what is known of the same metric.

    `S1, same seed`: a finished single-task run of the same model and profile that lies in the same folder.
    """
    setting = {"model": exp.config.model.name, "profile": exp.config.profile.name, "seed": exp.config.seed}
    setting |= {"strategy": "s1_single", "page": "s1_single_task"}
    runs = [run for run in find_runs(exp.run.path.parent) if setting.items() <= run.facts.items()]
    single = {(m.task, m.name, m.split): m.value for run in runs for m in run.metrics()}
    rows = [_score(exp, metric, single) for metric in exp.metrics]
    toy = any(exp.run.facts["flags"].get(name) for name in ("smoke", "practice"))
    frame = pd.DataFrame(list(filter(None, rows))).dropna(axis="columns", how="all")
    table(frame, f"Scores by the official rules{f' — {TOY}' if toy else ''}")


def errors(exp: Experiment, n: int = 3) -> None:
    """Show development samples that the model gets wrong: mentions that it missed or made up."""
    for task in exp.scored_config.tasks:
        gold = exp.samples("dev")[task]
        if any(sample.access == Access.RESTRICTED for sample in gold):
            show_html(f"{task}: errors", f"<i>{WITHHELD}</i>", WITHHELD)
            continue
        predicted = exp.predict_samples(task, gold[:MAX_SAMPLES])
        views = [(right, error_view(right, told)) for right, told in zip(gold, predicted, strict=False)]
        for right, view in [(right, view) for right, view in views if view][:n]:
            show_html(f"{task}, document {right.document_id}", *view)


def differences(exp: Experiment, question: str) -> None:
    """Show what all finished runs of a question say together: differences over seeds, with intervals."""
    contrasts(contrasts_or_refusals(question, find_runs(exp.run.path.parent)))


def record(exp: Experiment) -> None:
    """Show where the run lies, or how a paused one goes on."""
    sentences([f"finished: {exp.run.path.name}" if exp.run.finished else exp.session.end.message])


def _score(
    exp: Experiment, metric: Metric, single: Mapping[tuple[str, str, str], float]
) -> dict[str, Any] | None:
    """Return a row of the table of scores; None for a figure that is neither primary nor secondary."""
    task = exp.config.tasks[metric.task]
    primary = metric.name == task.primary_metric
    if not primary and metric.name not in task.secondary_metrics:
        return None
    known = asdict(task) if primary and not exp.corpora[metric.task].practice else None
    return {
        "task": metric.task,
        "split": metric.split,
        "metric": f"{metric.name}{' (primary)' if primary else ''}",
        "score": metric.value,
        "n": metric.n,
        "without a model": trivial_baseline(known) if known else None,
        "best published": published_best(known) if known else None,
        "S1, same seed": single.get((metric.task, metric.name, metric.split)),
    }


def _corpus(exp: Experiment, name: str) -> str:
    corpus = exp.corpora[name]
    counts = ", ".join(f"{len(exp.samples(split)[name]):,} {split}" for split in ("train", "dev"))
    kind = "PRACTICE, synthetic" if corpus.practice else f"{Access(corpus.access).value} corpus"
    oddities = [f"{len(corpus.warnings)} oddities in its files"] if corpus.warnings else []
    return "; ".join((f"{counts} samples", kind, *oddities))
