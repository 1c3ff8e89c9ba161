"""What a page shows of an experiment: tables and figures in a notebook, plain text elsewhere.

    show.setup(exp)
    show.samples(exp, per_task=1)
    show.scores(exp)

Text of restricted corpora is withheld, and whatever is no result says so.
"""

from __future__ import annotations

from kaggle_kit.experiment.show.beginning import adapters, samples, setup
from kaggle_kit.experiment.show.four_bits import base_memory, candidate, nf4_errors, nf4_levels
from kaggle_kit.experiment.show.hierarchy import (
    attention_map,
    cross_level,
    level_passes,
    relations_within_reach,
)
from kaggle_kit.experiment.show.method import conflict_excess, conflicts, fusion_weights
from kaggle_kit.experiment.show.phases import own_updates, phase_gradients, scores_by_phase
from kaggle_kit.experiment.show.results import differences, errors, learning_curve, record, scores, training
from kaggle_kit.experiment.show.views import figure, table

__all__ = [
    "adapters",
    "attention_map",
    "base_memory",
    "candidate",
    "conflict_excess",
    "conflicts",
    "cross_level",
    "differences",
    "errors",
    "figure",
    "fusion_weights",
    "learning_curve",
    "level_passes",
    "nf4_errors",
    "nf4_levels",
    "own_updates",
    "phase_gradients",
    "record",
    "relations_within_reach",
    "samples",
    "scores",
    "scores_by_phase",
    "setup",
    "table",
    "training",
]
