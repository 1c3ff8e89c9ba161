"""What a page shows of an experiment: tables and figures in a notebook, plain text elsewhere.

    show.setup(exp)
    show.samples(exp, per_task=1)
    show.scores(exp)

Text of restricted corpora is withheld, and whatever is no result says so.
"""

from __future__ import annotations

from kaggle_kit.experiment.show.adapter import adapter_shares, component_losses
from kaggle_kit.experiment.show.beginning import adapters, samples, setup
from kaggle_kit.experiment.show.live import live
from kaggle_kit.experiment.show.method import conflict_excess, conflicts, fusion_weights
from kaggle_kit.experiment.show.mixture import loss_weights, plain_sum, sampling
from kaggle_kit.experiment.show.results import differences, errors, learning_curve, record, scores, training
from kaggle_kit.experiment.show.search import trials, values_tried, winner
from kaggle_kit.experiment.show.tokens import curve_over_tokens, token_ledger
from kaggle_kit.experiment.show.views import figure, table

__all__ = [
    "adapter_shares",
    "adapters",
    "component_losses",
    "conflict_excess",
    "conflicts",
    "curve_over_tokens",
    "differences",
    "errors",
    "figure",
    "fusion_weights",
    "learning_curve",
    "live",
    "loss_weights",
    "plain_sum",
    "record",
    "samples",
    "sampling",
    "scores",
    "setup",
    "table",
    "token_ledger",
    "training",
    "trials",
    "values_tried",
    "winner",
]
