"""Targets of span classification: the fragments of mentions, and which of them belong together.

    tensors(component, rows, starts)
    # index, passage, stop, owned (words,) · labels (words, length) · links (gold, 2) · sizes (rows,) words

A span is numbered `word * max_span_length + length - 1`. `labels` are 0 for no fragment, -1 for spans
that do not count: longer than the passage, or another's to answer for (`Passage.answers`). `links` join
the fragments of one mention, first before second; a mention in one piece is a link of its fragment to
itself, so that a fragment may be a mention and a part of another one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from datasets import List, Value
from torch import Tensor

from kaggle_kit.core.types import ComponentSpec, Mention, UnifiedSample
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import before, flat, long, table


def features(component: ComponentSpec) -> dict[str, Any]:
    return {
        f"fragments:{component.name}": List(Value("int32")),
        f"links:{component.name}": List(Value("int32")),
    }


def columns(
    component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample
) -> Iterator[dict[str, list[int]]]:
    """Flat records per passage: fragments (span, label) and links (span, span).

    A mention that is not whole inside the passage, or has a fragment longer than `max_span_length`
    words, is left out. Of two labels on one span the first of the component's counts.
    """
    mentions = [mention for mention in sample.mentions if mention.type in component.labels]
    mentions.sort(key=lambda mention: component.labels.index(mention.type))
    for passage in sequences:
        labels: dict[int, int] = {}
        links: set[tuple[int, int]] = set()
        for mention in mentions:
            spans = _spans(mention, passage, component.max_span_length)
            for span in _answered(spans, passage, component.max_span_length):
                labels.setdefault(span, 1 + component.labels.index(mention.type))
            links.update(combinations(spans, 2) if len(spans) > 1 else [(span, span) for span in spans])
        yield {
            f"fragments:{component.name}": [number for record in sorted(labels.items()) for number in record],
            f"links:{component.name}": [number for record in sorted(links) for number in record],
        }


def _spans(mention: Mention, passage: Passage, longest: int) -> list[int]:
    """Numbers of the mention's fragments in the passage, rising; empty where one does not fit."""
    if not passage.holds(mention.fragments):
        return []
    words = [passage.words_in(start, end) for start, end in mention.fragments]
    if any(stop - first > longest for first, stop in words):
        return []
    return sorted({first * longest + stop - first - 1 for first, stop in words})


def _answered(spans: Sequence[int], passage: Passage, longest: int) -> Sequence[int]:
    """All fragments of a mention where the passage answers for it or for one of them, else none.

    So a fragment that the passage answers for is never seen without those that make it part of a mention.
    """
    ends = [(span // longest, span // longest + span % longest) for span in spans]
    ends += [(ends[0][0], max(last for _, last in ends))] if ends else []
    return spans if any(passage.answers(first, last) for first, last in ends) else []


def tensors(component: ComponentSpec, rows: Mapping[str, Any], starts: np.ndarray) -> dict[str, Tensor]:
    longest = component.max_span_length
    sizes = np.array([len(words) for words in rows["word_tokens"]])
    offsets = before(sizes)  # words before each passage
    passage = np.repeat(np.arange(len(sizes)), sizes)
    stop = (offsets + sizes)[passage]
    owned, carried, seen = (flat(rows[name]).astype(bool) for name in ("owned", "carried", "seen"))
    ends = np.arange(len(stop))[:, None] + np.arange(longest)  # (words, length) last word of each span
    inside = ends < stop[:, None]
    beyond = carried[:, None] & ~seen[ends.clip(max=len(stop) - 1)]
    labels = np.where(inside & (owned[:, None] | beyond), 0, -1)
    for row, offset in zip(rows[f"fragments:{component.name}"], offsets, strict=True):
        spans, classes = table(row, 2).T
        spans = spans + offset * longest
        counts = np.append(inside, False)[np.minimum(spans, inside.size)]  # a cut passage knows more words
        labels.flat[spans[counts]] = classes[counts]
    pairs = zip(rows[f"links:{component.name}"], offsets, strict=True)
    tokens = zip(rows["word_tokens"], starts, strict=True)
    return {
        "index": long(flat(words + start for words, start in tokens)),
        "passage": long(passage),
        "stop": long(stop),
        "owned": long(owned),
        "labels": long(labels),
        "links": long(flat(np.asarray(row) + offset * longest for row, offset in pairs).reshape(-1, 2)),
        "sizes": long(sizes),
    }


def count(targets: Mapping[str, Tensor]) -> int:
    """Owned words: a word answers for the spans it begins, so the loss reads as nats per word."""
    return int(targets["owned"].sum())
