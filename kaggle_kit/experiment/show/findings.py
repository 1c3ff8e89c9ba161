"""Views of finished runs: verdicts, contrasts, searches, transfer between tasks.

    document = verdict(find_runs(Path("runs")))
    show.answers(document)
    show.evidence(document)

Nothing here reads a model, so a page that only reads run folders imports no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_kit.analysis import contrasts as judge
from kaggle_kit.analysis import qap, verdict_study, verdict_tables
from kaggle_kit.analysis.difference_figures import contrast_figure, development_curves, verdict_figure
from kaggle_kit.analysis.survivorship import unfinished_in_words
from kaggle_kit.analysis.transfer import TransferMatrix
from kaggle_kit.analysis.transfer_figures import transfer_heatmap
from kaggle_kit.analysis.trials import pruning_table, trial_curves, trials_table, value_table
from kaggle_kit.analysis.verdict_words import in_words, warnings_in_words
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment.show.views import facts, figure, sentences, table

MAX_COMMANDS = 4  # shown of those that would fill the matrix
Document = Mapping[str, Any]


def answers(document: Document) -> None:
    """Show the verdict in sentences: what it may be taken for, every task, all tasks, unfinished runs."""
    sentences([*in_words(document), *unfinished_in_words(document)], f"Answer: {document['verdict']}")


def evidence(document: Document) -> None:
    """Show the differences to every control with their intervals and margins, as a figure and a table."""
    figure(verdict_figure(document))
    table(verdict_tables.verdict_table(document), "Differences to the control with all tokens")


def rule(document: Document) -> None:
    """Show every control that genuine transfer has to beat, and whether it is beaten."""
    table(verdict_tables.rule_table(document), "The rule: all of these have to be beaten")


def gains(document: Document) -> None:
    """Show what part of a gain comes with more tokens of the task, and what part with other tasks."""
    frame = verdict_tables.gain_table(document)
    title = "Where a gain over the task's own share comes from"
    table(frame, title, dict.fromkeys(frame.columns[1:], "{:+.4f}"))


def arms_training(document: Document) -> None:
    """Show how both arms trained, and warn where they differ by more than their tasks."""
    figure(development_curves(document))
    table(verdict_tables.training_table(document), "Training, means over seeds", {"steps": "{:,.0f}"})
    sentences([*warnings_in_words(document)] or ["Nothing to warn of."])


def inputs(document: Document) -> None:
    """Show the runs that were read, by the hashes of their manifests, and what they declared."""
    table(verdict_tables.input_table(document), "Runs that were judged")
    table(verdict_tables.declared_table(document), "Declared before the runs, and what differs between them")


def contrasts(documents: Sequence[Document]) -> None:
    """Show the differences between two arms: sentences, intervals, and the table that they come from."""
    sentences(judge.in_words(documents), "Differences over seeds")
    figure(contrast_figure(documents))
    table(judge.contrast_table(documents), "Differences between arms")


def study(document: Document) -> None:
    """Show the verdict on a whole study: the primary comparison, then all others at one error rate."""
    table(verdict_study.study_table(document), f"Study {document['study']}")


def transfer(matrix: TransferMatrix, toy: bool) -> None:
    """Show what training with one task does to another, and the commands that would fill the gaps."""
    figure(transfer_heatmap(matrix, toy=toy))
    table(matrix.table(), "Known cells, in the task's own metric")
    known = f"{len(matrix.table())} cells are known and {len(matrix.missing)} are missing"
    commands = [" ".join(("python -m kaggle_kit", *words)) for words in matrix.needed[:MAX_COMMANDS]]
    sentences([f"{known}; {len(matrix.needed)} runs are to be made. The next ones:", *commands], "To do")


def predictions(result: Mapping[str, Any]) -> None:
    """Show the result of `qap.exploratory`: every predictor, and the power that the test has."""
    least = f"EXPLORATORY: no p is below {result['smallest_p']:.4f}."
    sentences([least, *filter(None, [result["because"]])])
    formats = dict.fromkeys(("r", "r_given", "auc"), "{:+.2f}")
    formats |= dict.fromkeys(("p", "p_given", "p_holm"), "{:.3f}")
    table(qap.prediction_table(result), "What goes with the matrix", formats)
    power = qap.power_table(result)
    title = "Power: the share of true correlations r that would be found"
    table(power, title, dict.fromkeys(power.columns[1:], "{:.2f}"))


def trials(run: RunFolder) -> None:
    """Show every trial of a search as a curve over its reports, and as a row."""
    figure(trial_curves(run))
    table(trials_table(run), "Trials: the score is the figure that chooses, on the development split")


def values_tried(run: RunFolder) -> None:
    """Show what was reported when trials were given up, and the scores behind each value."""
    table(pruning_table(run), "Given up where the best report lies below the median")
    table(value_table(run), "Scores of the trials that had each value")


def winner(search: Mapping[str, Any], words: Sequence[str]) -> None:
    """Show what a search chose, what it was chosen on, and what runs of this arm take as overrides.

    `search` is the field of that name of the search's manifest.
    """
    found = [
        ("chosen on", f"{search['split']} alone, as the best of {search['trials']} trials"),
        ("given up early", str(search["pruned"])),
        ("best trial", f"{search['best_trial']}, with {search['score']:.4f}"),
        ("search", search["study"]),
        *((key, str(value)) for key, value in search["values"].items()),
    ]
    facts(found, "The winner")
    table([{"override": word} for word in words], "Every run of this arm takes")
