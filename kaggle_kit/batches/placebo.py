"""A task whose labels say nothing of its text: the placebo for what partner tasks teach.

    encoded = placebo(encoded, np.random.default_rng(seed))

Text, lengths, groups and candidates stay, so plan, tokens and steps are those of the real task. The labels
are permuted over the whole split, component by component, each a permutation of its own:

    ranking      the relevance of all candidates whose label is known
    relations    the labels of all candidates, "none" among them
    tokens       every tagged chunk moves to a random free place among all words of the split
    spans        every mention moves likewise, its fragments and links as they stand to each other

So each label comes as often as before, each chunk is as long and each mention as discontiguous, yet which
words carry a label is chance. Neither only the types are permuted (where mentions stand would still be
taught) nor mentions moved within their own sentence or document (that such words are near would be).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.tags import chunks, tag_names
from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads.arrays import table
from kaggle_kit.heads.relations import CANDIDATE

TRIES = 200  # random places per chunk before all free ones are listed

Columns = dict[str, list[Any]]


def placebo(encoded: EncodedTask, rng: np.random.Generator) -> EncodedTask:
    """Permute the labels of all rows. Raises ConfigError where a chunk finds no room."""
    rows = encoded.rows(range(len(encoded)))
    replaced: Columns = {}
    for part in encoded.spec.components:
        replaced |= PERMUTED[part.kind](part, rows, rng)
    return replace(encoded, replaced={**encoded.replaced, **replaced})


def _ranking(part: ComponentSpec, rows: dict[str, Any], rng: np.random.Generator) -> Columns:
    name = f"relevant:{part.name}"
    labels = np.array(rows[name])
    known = np.flatnonzero(labels >= 0)
    labels[known] = labels[rng.permutation(known)]
    return {name: labels.tolist()}


def _relations(part: ComponentSpec, rows: dict[str, Any], rng: np.random.Generator) -> Columns:
    name = f"candidates:{part.name}"
    records = [table(row, CANDIDATE) for row in rows[name]]
    labels = rng.permutation(np.concatenate([row[:, -1] for row in records]))
    parts = np.split(labels, np.cumsum([len(row) for row in records])[:-1])
    for row, own in zip(records, parts, strict=True):
        row[:, -1] = own
    return {name: [row.ravel() for row in records]}


def _tokens(part: ComponentSpec, rows: dict[str, Any], rng: np.random.Generator) -> Columns:
    """Chunks of tags move among the words that their passage answers for; elsewhere no tag counts."""
    name = f"tags:{part.name}"
    room = Room(rows["owned"])
    names = tag_names(part.labels, part.scheme)
    pieces: list[np.ndarray] = []
    for tags, owned in zip(rows[name], rows["owned"], strict=True):
        mine = np.asarray(tags)[np.asarray(owned, bool)]
        pieces += [mine[first:stop] for first, stop, _ in chunks([names[tag] for tag in mine])]
    moved: list[np.ndarray] = [np.zeros(len(owned), dtype=np.int64) for owned in rows["owned"]]
    places = room.places([len(piece) for piece in pieces], rng)
    for piece, (passage, word) in zip(pieces, places, strict=True):
        moved[passage][word : word + len(piece)] = piece
    return {name: moved}


def _spans(part: ComponentSpec, rows: dict[str, Any], rng: np.random.Generator) -> Columns:
    """Fragments that overlap or are linked move together; a span is numbered word * longest + length - 1."""
    fragments, links = f"fragments:{part.name}", f"links:{part.name}"
    longest = part.max_span_length
    clusters: list[tuple[np.ndarray, np.ndarray, int]] = []  # fragments, links, both from word 0; words
    for own, pairs in zip(rows[fragments], rows[links], strict=True):
        clusters += _clusters(table(own, 2), table(pairs, 2), longest)
    room = Room(rows["owned"])
    moved: dict[str, list[list[Any]]] = {name: [[] for _ in rows["owned"]] for name in (fragments, links)}
    places = room.places([words for *_, words in clusters], rng)
    for (own, pairs, _), (passage, word) in zip(clusters, places, strict=True):
        moved[fragments][passage].append(own + [word * longest, 0])
        moved[links][passage].append(pairs + word * longest)
    return {name: [_flat_records(parts) for parts in passages] for name, passages in moved.items()}


def _clusters(
    fragments: np.ndarray, links: np.ndarray, longest: int
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """A passage's fragments by the stretch of words they share or are linked across, moved to word 0."""
    if not len(fragments):
        return []
    links = links[np.isin(links, fragments[:, 0]).all(axis=1)]
    reach = np.concatenate([fragments[:, [0, 0]], links])  # (stretches, 2) spans
    first = (reach // longest).min(axis=1)
    stop = (reach // longest + reach % longest).max(axis=1) + 1
    order = np.argsort(first, kind="stable")
    first, stop = first[order], np.maximum.accumulate(stop[order])
    # a stretch that shares no word with those before it
    opens: np.ndarray = np.append(True, first[1:] >= stop[:-1])
    clusters = []
    for begin, end in zip(first[opens], stop[np.append(opens[1:], True)], strict=True):
        words: list[Any] = [some[:, 0] // longest for some in (fragments, links)]
        inside = [(begin <= word) & (word < end) for word in words]
        own, pairs = fragments[inside[0]] - [begin * longest, 0], links[inside[1]] - begin * longest
        clusters.append((own, pairs, int(end - begin)))
    return clusters


def _flat_records(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The records of a passage, rising, as the token file holds them."""
    records = np.concatenate(parts) if parts else np.empty((0, 2), np.int64)
    return records[np.lexsort(records.T[::-1])].ravel()


class Room:
    """The words of all passages in one row, of which those that a passage answers for are free.

    `owned` (passages,) are rows of booleans, one a word.
    """

    def __init__(self, owned: Sequence[Any]) -> None:
        sizes = [len(words) for words in owned]
        self.passage: np.ndarray = np.repeat(np.arange(len(sizes)), sizes)  # (words,) whose it is
        self.word = np.concatenate([np.arange(size) for size in sizes])  # (words,) its place there
        self.free = np.concatenate([np.asarray(words, bool) for words in owned])

    def places(self, widths: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int]]:
        """Draw (passage, word) where each chunk begins; none overlap, and the widest choose first."""
        places = [(0, 0)] * len(widths)
        order = rng.permutation(len(widths))
        for number in order[np.argsort(-np.array(widths, dtype=int)[order], kind="stable")]:
            start = self._start(widths[number], rng)
            self.free[start : start + widths[number]] = False
            places[number] = int(self.passage[start]), int(self.word[start])
        return places

    def _start(self, width: int, rng: np.random.Generator) -> int:
        """A random one of all free stretches of that width inside one passage."""
        last = len(self.free) - width
        if last >= 0:
            tried = rng.integers(0, last + 1, TRIES)
            if (fits := tried[self._fits(tried, width)]).size:
                return int(fits[0])
            starts = np.arange(last + 1)
            if (fits := starts[self._fits(starts, width)]).size:
                return int(rng.choice(fits))
        raise ConfigError(
            f"no passage has room for another chunk of {width} words: the split is annotated too densely "
            "for a placebo; leave this partner task out"
        )

    def _fits(self, starts: np.ndarray, width: int) -> np.ndarray:
        """(starts,) whether that many words are free from there on, in one passage."""
        stretches = starts[:, None] + np.arange(width)
        one = self.passage[stretches[:, 0]] == self.passage[stretches[:, -1]]
        return one & self.free[stretches].all(axis=1)


PERMUTED: dict[Kind, Callable[[ComponentSpec, dict[str, Any], np.random.Generator], Columns]] = {
    Kind.RANKING: _ranking,
    Kind.RELATIONS: _relations,
    Kind.TOKENS: _tokens,
    Kind.SPANS: _spans,
}
