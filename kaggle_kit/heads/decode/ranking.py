"""Scores to ranked candidates: the probability orders, and labels from `RELEVANT_FROM` on.

rows = split(output, batch.targets)         # then, with those of all rows:
predicted = decode(component, head, table, outputs, gold, predicted)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, UnifiedSample

RELEVANT_FROM = 0.5  # probability from which a candidate is labelled relevant


def split(output: Tensor, targets: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """A logit per row"""
    return list(output.float().cpu())


def decode(
    component: ComponentSpec,
    head: nn.Module,
    table: Mapping[str, Any],
    outputs: Sequence[Tensor],
    gold: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    """The samples with the gold pairs, their labels replaced by what the model says."""
    probability = torch.stack(list(outputs)).sigmoid().tolist()
    scored = [list(sample.pairs) for sample in gold]
    for document, pair, value in zip(table["document"], table["pair"], probability, strict=True):
        scored[document][pair] = replace(
            scored[document][pair], score=value, relevant=value >= RELEVANT_FROM, label=None
        )
    return [replace(sample, pairs=tuple(pairs)) for sample, pairs in zip(predicted, scored, strict=True)]
