"""From a trained model and an encoded split to predicted samples.

    predictions = predict(model, encoded, samples, token_budget=4096, device="cpu")

A predicted sample is the gold sample with its annotations replaced; official writers and the
prediction file take it as it is. How outputs become annotations is told per kind in `decode`.
Relations are found in a second pass, between the mentions that the first one found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from kaggle_kit.core.types import ComponentSpec, Kind, Mention, UnifiedSample
from kaggle_kit.data.batch import make_batch
from kaggle_kit.data.encode import EncodedTask
from kaggle_kit.data.plan import PlannedBatch
from kaggle_kit.evaluation.decode import DECODE

ENTITY_KINDS = (Kind.TOKENS, Kind.SPANS)


def predict(
    model: nn.Module,
    encoded: EncodedTask,
    samples: Sequence[UnifiedSample],
    *,
    token_budget: int,
    device: str,
    float16: bool = False,
) -> list[UnifiedSample]:
    """One predicted sample per given sample, in order. `samples` are those the split was encoded from.

    Where the task has no component for entities, or its `gold_entities` is set, the gold mentions are
    taken as given, without their attributes and concepts.
    """
    spec = encoded.spec
    given = spec.gold_entities or not any(part.kind in ENTITY_KINDS for part in spec.components)
    first = [p for p in spec.components if p.kind is not Kind.RELATIONS and not _is_given(p, given)]
    second = [p for p in spec.components if p.kind is Kind.RELATIONS]
    predicted = [_bare(sample, given) for sample in samples]
    for components in filter(None, (first, second)):
        related = encoded.relating(predicted)
        outputs = row_outputs(model, related, token_budget=token_budget, device=device, float16=float16)
        table = related.rows(range(len(related)))
        for part in components:
            head = model.heads[spec.name][part.name]
            decode = DECODE[part.kind].decode
            predicted = decode(part, head, table, outputs[part.name], samples, predicted)
    return predicted


@torch.inference_mode()
def row_outputs(
    model: nn.Module, encoded: EncodedTask, *, token_budget: int, device: str, float16: bool = False
) -> dict[str, list[Any]]:
    """Each component's outputs per encoded row, as its kind's `split` cuts them."""
    model.eval()
    kinds = {part.name: part.kind for part in encoded.spec.components}
    rows: dict[str, list[Any]] = {name: [None] * len(encoded) for name in kinds}
    for planned in by_length(encoded, token_budget):
        batch = make_batch(encoded, planned).to(device)
        with torch.autocast(device, torch.float16, enabled=float16 and device != "cpu"):
            outputs = model(batch)
        for name, output in outputs.items():
            parts = DECODE[kinds[name]].split(output, batch.targets[name])
            for row, part in zip(planned.rows, parts, strict=True):
                rows[name][row] = part
    return rows


def by_length(encoded: EncodedTask, token_budget: int) -> Iterator[PlannedBatch]:
    """All rows, longest first, in micro-batches of at most `token_budget` tokens.

    A question's candidates follow each other, so that its tokens can be read once for many of them.
    """
    lengths, groups = encoded.lengths, encoded.groups
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    longest = np.maximum.reduceat(lengths, first)[group]
    batch: list[int] = []
    tokens = 0
    for row in np.lexsort((-lengths, groups, -longest)).tolist():
        length = int(lengths[row])
        if batch and tokens + length > token_budget:
            yield _planned(encoded, batch, tokens)
            batch, tokens = [], 0
        batch.append(row)
        tokens += length
    if batch:
        yield _planned(encoded, batch, tokens)


def _planned(encoded: EncodedTask, rows: Sequence[int], tokens: int) -> PlannedBatch:
    ordered = sorted(rows, key=lambda row: -encoded.lengths[row])
    return PlannedBatch(encoded.spec.name, tuple(ordered), tokens)


def _is_given(component: ComponentSpec, given: bool) -> bool:
    return given and component.kind in ENTITY_KINDS


def _bare(sample: UnifiedSample, given: bool) -> UnifiedSample:
    """The sample without its annotations; `given` mentions keep their place, type and id."""
    mentions = tuple(Mention(m.id, m.fragments, m.type) for m in sample.mentions) if given else ()
    return replace(sample, mentions=mentions, relations=(), pairs=())
