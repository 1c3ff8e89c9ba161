"""From a trained model and an encoded split to predicted samples.

    predictions = predict(model, encoded, samples, token_budget=4096, device="cpu")

A predicted sample is the gold sample with its annotations replaced; official writers and the
prediction file take it as it is. How outputs become annotations is told per kind in `decode`.
Relations are found in a second pass, between the mentions that the first one found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kaggle_kit.batches.batch import make_batch
from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.plan import PlannedBatch
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.types import ComponentSpec, Kind, Mention, UnifiedSample, relation_parts
from kaggle_kit.heads import KINDS
from kaggle_kit.heads.relations import all_links
from kaggle_kit.heads.thresholds import choose_thresholds

ENTITY_KINDS = (Kind.TOKENS, Kind.SPANS)
Samples = Sequence[UnifiedSample]
Read = Callable[[EncodedTask], dict[str, list[Any]]]


def predict(
    model: nn.Module,
    encoded: EncodedTask,
    samples: Samples,
    *,
    token_budget: int,
    device: str,
    float16: bool = False,
) -> list[UnifiedSample]:
    """One predicted sample per given sample, in order. `samples` are those the split was encoded from.

    Where the task has no component for entities, or its `gold_entities` is set, the gold mentions are
    taken as given, without their attributes and (unless relations hold between these) concepts.
    """
    read = partial(row_outputs, model, token_budget=token_budget, device=device, float16=float16)
    predicted = _without_relations(model, encoded, samples, read)
    return _decoded(model, encoded, relation_parts(encoded.spec), samples, predicted, read)


def fit_thresholds(
    model: nn.Module,
    encoded: EncodedTask,
    samples: Samples,
    *,
    token_budget: int,
    device: str,
    float16: bool = False,
) -> dict[str, tuple[float, float, float]]:
    """Set the thresholds of the task's relation heads to the best for these development samples.

    Returns component -> (of all samples, of half 0, of half 1), as `heads/thresholds.py` explains;
    empty for a task without relations, which is not read.
    """
    parts, heads = relation_parts(encoded.spec), model.heads[encoded.spec.name]
    if not parts:
        return {}
    read = partial(row_outputs, model, token_budget=token_budget, device=device, float16=float16)
    predicted = _without_relations(model, encoded, samples, read)
    table, outputs = _related(encoded, predicted, read)
    chosen = {}
    for part in parts:
        links = all_links(part, table, outputs[part.name], len(samples))
        chosen[part.name] = choose_thresholds(part, links, samples, predicted)
        heads[part.name].thresholds.copy_(torch.tensor(chosen[part.name]))
    return chosen


def _without_relations(
    model: nn.Module, encoded: EncodedTask, samples: Samples, read: Read
) -> list[UnifiedSample]:
    """The first pass: everything but relations; where there is nothing else, samples without annotations."""
    spec = encoded.spec
    given = spec.gold_entities or not any(part.kind in ENTITY_KINDS for part in spec.components)
    left_out = (Kind.RELATIONS, *ENTITY_KINDS) if given else (Kind.RELATIONS,)
    parts = [part for part in spec.components if part.kind not in left_out]
    concepts = any(part.concepts for part in relation_parts(spec))
    bare = [_bare(sample, given, concepts) for sample in samples]
    return _decoded(model, encoded, parts, samples, bare, read)


def _decoded(
    model: nn.Module,
    encoded: EncodedTask,
    parts: Sequence[ComponentSpec],
    samples: Samples,
    predicted: list[UnifiedSample],
    read: Read,
) -> list[UnifiedSample]:
    """The samples with what these components predict, from one reading of the split."""
    if not parts:
        return predicted
    table, outputs = _related(encoded, predicted, read)
    for part in parts:
        head = model.heads[encoded.spec.name][part.name]
        predicted = KINDS[part.kind].decode(part, head, table, outputs[part.name], samples, predicted)
    return predicted


def _related(
    encoded: EncodedTask, predicted: Samples, read: Read
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The columns of all rows and the outputs for them, relations between the predicted mentions."""
    related = encoded.relating(predicted)
    return related.rows(range(len(related))), read(related)


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
            _refuse_not_finite(output, f"{name} of {encoded.spec.name}")
            parts = KINDS[kinds[name]].split(output, batch.targets[name])
            for row, part in zip(planned.rows, parts, strict=True):
                rows[name][row] = part
    return rows


def _refuse_not_finite(output: Any, head: str) -> None:
    """Raise KitError for a score that is NaN or infinite: a comparison with one is silently false."""
    if not all(part.isfinite().all() for part in ([output] if isinstance(output, Tensor) else output)):
        raise KitError(
            f"{head}: the model scores NaN or infinity, of which no prediction can be made; train it again "
            "with a lower training.learning_rate"
        )


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


def _bare(sample: UnifiedSample, given: bool, concepts: bool) -> UnifiedSample:
    """The sample without its annotations; `given` mentions keep place, type and id, and maybe concepts."""
    kept = sample.mentions if given else ()
    mentions = tuple(Mention(m.id, m.fragments, m.type, m.concepts if concepts else ()) for m in kept)
    return replace(sample, mentions=mentions, relations=(), pairs=())
