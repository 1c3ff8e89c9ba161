"""What a page shows before anything trains: the set-up, a sample of every task, the model's adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from kaggle_kit.core.config import config_hash
from kaggle_kit.core.types import Access
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.marked import sample_view
from kaggle_kit.experiment.show.views import show_html, table


def setup(exp: Experiment) -> None:
    """Show the machine, the corpora, the decisions on the backbone, and the plan of all steps.

    Raises StartupError for a machine that cannot carry the run, and CorpusMissing for a corpus.
    """
    rows = [
        ("profile", exp.config.profile.title),
        ("run folder", f"{exp.run.path.name}, configuration {config_hash(exp.config)}"),
        *((finding.what, finding.found) for finding in exp.startup),
        *((name, _corpus(exp, name, corpus)) for name, corpus in exp.corpora.items()),
        *((name, f"{made.value}: {made.reason}") for name, made in exp.backbone.decisions.items()),
        *((f"passages of {name}", words) for name, words in _reach(exp)),
        ("plan", f"{len(exp.plan):,} optimiser steps, {sum(exp.plan.tokens.values()):,} tokens"),
        *((f"tokens of {name}", f"{tokens:,}") for name, tokens in exp.plan.tokens.items()),
    ]
    table(pd.DataFrame(rows, columns=["what", "found"]), "Set-up")


def samples(exp: Experiment, per_task: int = 1) -> None:
    """Show training samples of every task with their annotations; restricted text is withheld."""
    for name, found in exp.samples().items():
        told = [sample for sample in found if sample.mentions or sample.pairs] or list(found)
        for sample in told[:per_task]:
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
    table(pd.DataFrame(rows), title, {"parameters": "{:,}"})


def _reach(exp: Experiment) -> Iterator[tuple[str, str]]:
    """How many annotations of the training split no passage holds: a ceiling of every model."""
    for name, encoded in exp.encoded.items():
        if summary := encoded.reach.summary("train"):
            yield name, summary


def _corpus(exp: Experiment, name: str, corpus: Corpus) -> str:
    counts = ", ".join(f"{len(exp.samples(split)[name]):,} {split}" for split in ("train", "dev"))
    return "; ".join((f"{counts} samples", *_notes(corpus)))


def _notes(corpus: Corpus) -> Iterator[str]:
    yield "PRACTICE, synthetic" if corpus.practice else f"{Access(corpus.access).value} corpus"
    if corpus.warnings:
        yield f"{len(corpus.warnings)} oddities in its files"
