"""What a page shows of a verdict's document: the answer, the evidence, the rule, what it rests on.

    document = verdict(find_runs(Path("runs")))
    show.answers(document)
    show.evidence(document)

Nothing here reads a model, so a page that only reads run folders imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_kit.analysis import contrasts as judge
from kaggle_kit.analysis import verdict_study, verdict_tables
from kaggle_kit.analysis.contrast_figure import contrast_figure
from kaggle_kit.analysis.survivorship import unfinished_in_words
from kaggle_kit.analysis.verdict_figure import verdict_figure, verdict_table
from kaggle_kit.analysis.verdict_words import in_words, warnings_in_words
from kaggle_kit.experiment.show.views import figure, sentences, table

COUNTS = {"detectable": "{:.4f}", "margin": "{:.4f}", "more seeds": "{:.0f}"}
Document = Mapping[str, Any]
SIGNED = dict.fromkeys(("difference", "low", "high", "trimmed mean"), "{:+.4f}")
P_VALUES = dict.fromkeys(("p", "p, no difference", "p, all controls", "p, beyond the margin"), "{:.3g}")


def answers(document: Document) -> None:
    """Show the verdict in sentences: what it may be taken for, every task, all tasks, unfinished runs."""
    sentences([*in_words(document), *unfinished_in_words(document)], f"Answer: {document['verdict']}")


def evidence(document: Document) -> None:
    """Show the differences to every control with their intervals and margins, as a figure and a table."""
    figure(verdict_figure(document))
    found = verdict_table(document)
    table(found, "Differences to the control with all tokens", SIGNED | P_VALUES | COUNTS)


def rule(document: Document) -> None:
    """Show every control that genuine transfer has to beat, and whether it is beaten."""
    table(verdict_tables.rule_table(document), "The rule: all of these have to be beaten", SIGNED | P_VALUES)


def gains(document: Document) -> None:
    """Show what part of a gain comes with more tokens of the task, and what part with other tasks."""
    found = verdict_tables.gain_table(document)
    table(
        found,
        "Where a gain over the task's own share comes from",
        dict.fromkeys(found.columns[1:], "{:+.4f}"),
    )


def arms_training(document: Document) -> None:
    """Show how both arms trained, and warn where they differ by more than their tasks."""
    figure(verdict_tables.development_curves(document))
    scores = dict.fromkeys(("final loss", "first dev", "best dev", "last dev"), "{:.4f}")
    formats = {"steps": "{:,.0f}", "epochs": "{:.2f}"} | scores
    table(verdict_tables.training_table(document), "Training, means over seeds", formats)
    sentences([*warnings_in_words(document)] or ["Nothing to warn of."])


def inputs(document: Document) -> None:
    """Show the runs that were read, by the hashes of their manifests, and what they declared."""
    table(verdict_tables.input_table(document), "Runs that were judged", {"tokens asked for": "{:,}"})
    table(verdict_tables.declared_table(document), "Declared before the runs, and what differs between them")


def contrasts(documents: Sequence[Document]) -> None:
    """Show the differences between two arms: sentences, intervals, and the table that they come from."""
    sentences(judge.in_words(documents), "Differences over seeds")
    figure(contrast_figure(documents))
    formats = SIGNED | {"p_holm": "{:.3g}", "detectable": "{:.4f}"}
    table(judge.contrast_table(documents), "Differences between arms", formats)


def study(document: Document) -> None:
    """Show the verdict on a whole study: the primary comparison, then all others at one error rate."""
    formats = {"difference": "{:+.4f}", "p, all controls": "{:.3g}"}
    table(verdict_study.study_table(document), f"Study {document['study']}", formats)
