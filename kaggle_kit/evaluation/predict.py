"""From a trained model and an encoded split to predicted samples.

    predictions = predict(model, encoded, samples, token_budget=4096, device="cpu")

A predicted sample is the gold sample with its annotations replaced; official writers and the
prediction file take it as it is. Words are decoded document by document, each word's scores coming
from the one passage that owns it, so a mention at a window's edge is neither lost nor doubled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kaggle_kit.core.tags import chunks
from kaggle_kit.core.types import ComponentSpec, Kind, Mention, UnifiedSample
from kaggle_kit.data.batch import MicroBatch, make_batch
from kaggle_kit.data.encode import EncodedTask
from kaggle_kit.data.plan import PlannedBatch

RELEVANT_FROM = 0.5  # probability from which a candidate is labelled relevant


def predict(
    model: nn.Module,
    encoded: EncodedTask,
    samples: Sequence[UnifiedSample],
    *,
    token_budget: int,
    device: str,
    float16: bool = False,
) -> list[UnifiedSample]:
    """One predicted sample per given sample, in order. `samples` are those the split was encoded from."""
    outputs = row_outputs(model, encoded, token_budget=token_budget, device=device, float16=float16)
    predicted = [replace(sample, mentions=(), relations=(), pairs=()) for sample in samples]
    for component in encoded.spec.components:
        head = model.heads[encoded.spec.name][component.name]
        decode = {Kind.TOKENS: _decode_mentions, Kind.RANKING: _decode_pairs}[component.kind]
        predicted = decode(head, component, encoded, outputs[component.name], samples, predicted)
    return predicted


@torch.inference_mode()
def row_outputs(
    model: nn.Module, encoded: EncodedTask, *, token_budget: int, device: str, float16: bool = False
) -> dict[str, list[Tensor]]:
    """Each component's logits per encoded row: (words, tags) for tags, a scalar for ranking."""
    model.eval()
    rows: dict[str, list[Tensor]] = {c.name: [torch.empty(0)] * len(encoded) for c in encoded.spec.components}
    for planned in by_length(encoded, token_budget):
        batch = make_batch(encoded, planned).to(device)
        with torch.autocast(device, torch.float16, enabled=float16 and device != "cpu"):
            outputs = model(batch)
        for name, logits in outputs.items():
            for row, part in zip(planned.rows, _by_row(encoded, batch, name, logits.float().cpu()), strict=True):
                rows[name][row] = part
    return rows


def by_length(encoded: EncodedTask, token_budget: int) -> Iterator[PlannedBatch]:
    """All rows, longest first, in micro-batches of at most `token_budget` tokens."""
    order = sorted(range(len(encoded)), key=lambda row: (-encoded.lengths[row], row))
    batch: list[int] = []
    tokens = 0
    for row in order:
        length = int(encoded.lengths[row])
        if batch and tokens + length > token_budget:
            yield PlannedBatch(encoded.spec.name, tuple(batch), tokens)
            batch, tokens = [], 0
        batch.append(row)
        tokens += length
    if batch:
        yield PlannedBatch(encoded.spec.name, tuple(batch), tokens)


def _by_row(encoded: EncodedTask, batch: MicroBatch, component: str, logits: Tensor) -> Sequence[Tensor]:
    kind = next(part.kind for part in encoded.spec.components if part.name == component)
    if kind is Kind.TOKENS:
        owned = [int(sum(words)) for words in encoded.rows(batch.rows)["owned"]]
        return logits.split(owned)
    return list(logits)


def _decode_mentions(
    head: nn.Module,
    component: ComponentSpec,
    encoded: EncodedTask,
    outputs: Sequence[Tensor],
    samples: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    words: list[list[tuple[int, int]]] = [[] for _ in samples]
    logits: list[list[Tensor]] = [[] for _ in samples]
    table = encoded.rows(range(len(encoded)))
    columns = zip(table["document"], table["word_starts"], table["word_ends"], table["owned"], outputs, strict=True)
    for document, starts, ends, owned, scores in columns:
        words[document].extend(zip(starts[owned].tolist(), ends[owned].tolist(), strict=True))
        logits[document].append(scores)
    result = []
    for sample, places, scores in zip(predicted, words, logits, strict=True):
        mentions = _mentions(head, places, torch.cat(scores)) if places else ()
        result.append(replace(sample, mentions=sample.mentions + tuple(mentions)))
    return result


def _mentions(head: nn.Module, places: Sequence[tuple[int, int]], logits: Tensor) -> Iterator[Mention]:
    """Chunks of the best tag path; a mention's score is the product of its words' probabilities."""
    tags, confidence = head.decode(logits)
    for number, (first, stop, label) in enumerate(chunks(tags), start=1):
        span = (places[first][0], places[stop - 1][1])
        score = float(confidence[first:stop].prod())
        yield Mention(f"T{number}", (span,), label, score=score)


def _decode_pairs(
    head: nn.Module,
    component: ComponentSpec,
    encoded: EncodedTask,
    outputs: Sequence[Tensor],
    samples: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    probability = torch.stack(list(outputs)).sigmoid().tolist()
    table = encoded.rows(range(len(encoded)))
    scored: list[list] = [list(sample.pairs) for sample in samples]
    for document, pair, value in zip(table["document"], table["pair"], probability, strict=True):
        scored[document][pair] = replace(
            scored[document][pair], score=value, relevant=value >= RELEVANT_FROM, label=None
        )
    return [replace(sample, pairs=tuple(pairs)) for sample, pairs in zip(predicted, scored, strict=True)]
