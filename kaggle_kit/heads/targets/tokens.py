"""Targets of token classification: a tag per word, counted in the passage that owns the word.

tensors(component, rows, starts)
# index (words,) place of each owned word · labels (words,) its tag · sizes (rows,) owned words
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import List, Value
from torch import Tensor

from kaggle_kit.core.tags import tag_chunks, tag_names
from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import flat, long


def features(component: ComponentSpec) -> dict[str, Any]:
    return {f"tags:{component.name}": List(Value("int16"))}


def columns(
    component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample
) -> Iterator[dict[str, list[int]]]:
    """Tag classes of each passage's words. A discontiguous mention is tagged fragment by fragment."""
    index = {name: number for number, name in enumerate(tag_names(component.labels, component.scheme))}
    mentions = [mention for mention in sample.mentions if mention.type in component.labels]
    for passage in sequences:
        chunks = []
        for mention in mentions:
            words = (passage.words_in(start, end) for start, end in mention.fragments)
            chunks += [(first, stop, mention.type) for first, stop in words if first < stop]
        tags = tag_chunks(chunks, len(passage.word_tokens), component.scheme)
        yield {f"tags:{component.name}": [index[tag] for tag in tags]}


def tensors(component: ComponentSpec, rows: Mapping[str, Any], starts: np.ndarray) -> dict[str, Tensor]:
    owned = [np.asarray(words, bool) for words in rows["owned"]]
    places = zip(rows["word_tokens"], owned, starts, strict=True)
    tags = zip(rows[f"tags:{component.name}"], owned, strict=True)
    return {
        "index": long(flat(tokens[mine] + start for tokens, mine, start in places)),
        "labels": long(flat(row[: len(mine)][mine] for row, mine in tags)),
        "sizes": long([mine.sum() for mine in owned]),
    }


def count(targets: Mapping[str, Tensor]) -> int:
    """Words."""
    return len(targets["labels"])
