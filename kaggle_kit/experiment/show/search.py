"""What a hyper-parameter search tried, what it gave up, and what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kaggle_kit.analysis.trials import pruning_table, trial_curves, trials_table, value_table
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment.show.views import figure, table

TRIALS = {"score": "{:.4f}", "tokens": "{:,}", "seconds": "{:.1f}"}
PRUNING = {"best so far": "{:.4f}", "median of earlier trials": "{:.4f}"}
VALUES = {"mean score": "{:.4f}", "best score": "{:.4f}"}


def trials(run: RunFolder) -> None:
    """Show every trial of a search as a curve over its reports, and as a row."""
    figure(trial_curves(run))
    table(trials_table(run), "Trials: the score is the figure that chooses, on the development split", TRIALS)


def values_tried(run: RunFolder) -> None:
    """Show what was reported when trials were given up, and the scores behind each value."""
    table(pruning_table(run), "Given up where the best report lies below the median", PRUNING)
    table(value_table(run), "Scores of the trials that had each value", VALUES)


def winner(search: Mapping[str, Any], words: Sequence[str]) -> None:
    """Show what a search chose, what it was chosen on, and what runs of this arm take as overrides.

    `search` is the field of that name of the search's manifest.
    """
    facts = {
        "chosen on": f"{search['split']} alone, as the best of {search['trials']} trials",
        "given up early": str(search["pruned"]),
        "best trial": f"{search['best_trial']}, with {search['score']:.4f}",
        "search": search["study"],
        **{key: str(value) for key, value in search["values"].items()},
    }
    table(pd.DataFrame(facts.items(), columns=["what", "found"]), "The winner")
    table(pd.DataFrame({"override": words}), "Every run of this arm takes")
