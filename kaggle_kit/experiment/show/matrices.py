"""What a page shows of matrices over tasks: transfer as finished runs give it, and what predicts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaggle_kit.analysis import qap
from kaggle_kit.analysis.transfer import TransferMatrix
from kaggle_kit.analysis.transfer_figures import transfer_heatmap
from kaggle_kit.experiment.show.views import figure, sentences, table

CELLS = {"alone": "{:.4f}", "difference": "{:+.4f}", "spread": "{:.4f}"}
MOST_COMMANDS = 4  # shown of those that would fill the matrix


def transfer(matrix: TransferMatrix, toy: bool) -> None:
    """Show what training with one task does to another, and the commands that would fill the gaps."""
    figure(transfer_heatmap(matrix, toy=toy))
    table(matrix.table(), "Known cells, in the task's own metric", CELLS)
    known = f"{len(matrix.cells)} cells are known and {len(matrix.missing)} are missing"
    commands = [" ".join(("python -m kaggle_kit", *words)) for words in matrix.needed[:MOST_COMMANDS]]
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
