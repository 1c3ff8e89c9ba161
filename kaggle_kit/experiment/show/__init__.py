"""What a page shows of an experiment: tables and figures in a notebook, plain text elsewhere.

    show.setup(exp)
    show.samples(exp, per_task=1)
    show.scores(exp)

Text of restricted corpora is withheld, and whatever is no result says so.
"""

from __future__ import annotations

from kaggle_kit.experiment.show.arms import ledgers, optimisation, parity
from kaggle_kit.experiment.show.beginning import adapters, samples, setup
from kaggle_kit.experiment.show.method import conflict_excess, conflicts, fusion_weights
from kaggle_kit.experiment.show.results import differences, errors, learning_curve, record, scores, training
from kaggle_kit.experiment.show.views import figure, table

__all__ = [
    "adapters",
    "conflict_excess",
    "conflicts",
    "differences",
    "errors",
    "figure",
    "fusion_weights",
    "learning_curve",
    "ledgers",
    "optimisation",
    "parity",
    "record",
    "samples",
    "scores",
    "setup",
    "table",
    "training",
]
