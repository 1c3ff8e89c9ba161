"""Tags to mentions, document by document.

    rows = split(output, batch.targets)         # then, with those of all rows:
    predicted = decode(component, head, table, outputs, gold, predicted)

Each word's scores come from the one passage that owns it, so a mention at a window's edge is neither
lost nor doubled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kaggle_kit.core.tags import chunks
from kaggle_kit.core.types import ComponentSpec, Mention, UnifiedSample


def split(output: Tensor, targets: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """(words, tags) per row"""
    return output.float().cpu().split(targets["sizes"].tolist())


def decode(
    component: ComponentSpec,
    head: nn.Module,
    table: Mapping[str, Any],
    outputs: Sequence[Tensor],
    gold: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    """The samples with the mentions of the best legal tag sequence."""
    words: list[list[tuple[int, int]]] = [[] for _ in predicted]
    logits: list[list[Tensor]] = [[] for _ in predicted]
    columns = (table[name] for name in ("document", "word_starts", "word_ends", "owned"))
    for document, starts, ends, owned, scores in zip(*columns, outputs, strict=True):
        words[document].extend(zip(starts[owned].tolist(), ends[owned].tolist(), strict=True))
        logits[document].append(scores)
    decoded = []
    for sample, places, scores in zip(predicted, words, logits, strict=True):
        found = _mentions(head, places, torch.cat(scores), len(sample.mentions)) if places else ()
        decoded.append(replace(sample, mentions=(*sample.mentions, *found)))
    return decoded


def _mentions(
    head: nn.Module, places: Sequence[tuple[int, int]], logits: Tensor, named: int
) -> Iterator[Mention]:
    """Chunks of the best tag path; a mention's score is the product of its words' probabilities."""
    tags, confidence = head.decode(logits)
    for number, (first, stop, label) in enumerate(chunks(tags), start=named + 1):
        span = (places[first][0], places[stop - 1][1])
        yield Mention(f"T{number}", (span,), label, score=float(confidence[first:stop].prod()))
