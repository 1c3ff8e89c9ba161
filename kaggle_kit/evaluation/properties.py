"""What can be asked of a task's representations, by its gold annotations.

found, reasons = properties(encoded, samples, groups, most=2000, seed=0)

`mention boundary`: whether a mention begins, goes on or does not stand at a word. `entity type`: that of a
mention. `relation presence`: whether two mentions that could be related are; as many are as are not.
`temporal order`: which of two comes first, or whether an event lies before, at or after its document's time.

A mention is read as the mean over its tokens, a pair as both ends side by side. Word types, which the control
task goes by, are words and mentions in lower case, of a pair its source. They leave here as numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.core.tags import tag_chunks
from kaggle_kit.core.types import ComponentSpec, Kind, UnifiedSample, relation_parts
from kaggle_kit.data.passages import Passage
from kaggle_kit.evaluation.predict import ENTITY_KINDS
from kaggle_kit.evaluation.probing import Items
from kaggle_kit.heads.arrays import table
from kaggle_kit.heads.relations import CANDIDATE, DOCUMENT, MENTION

BOUNDARIES = {"O": "outside", "B": "begins", "I": "inside"}
ORDERS = {"BEFORE", "OVERLAP", "BEFORE/OVERLAP", "AFTER"}
RELATED = ("not related", "related")
LEAST_ITEMS, LEAST_DOCUMENTS = 40, 12  # half of them are asked


class _Item(NamedTuple):
    label: str
    word: str
    document: int  # its place among the samples
    ends: tuple[tuple[int, int, int], ...]  # row, first token, last token


@dataclass(frozen=True)
class _Row:
    """A passage of a document, with the token file's columns."""

    number: int
    document: int
    sample: UnifiedSample
    passage: Passage
    columns: Mapping[str, Any]

    def item(self, label: str, span: tuple[int, int], *ends: tuple[int, int]) -> _Item:
        """Return an item; `span` are the characters of its word, `ends` first and last tokens."""
        word = str(self.sample.text)[slice(*span)].lower()
        return _Item(
            label, word, self.document, tuple((self.number, int(first), int(last)) for first, last in ends)
        )


def properties(
    encoded: EncodedTask, samples: Sequence[UnifiedSample], groups: Sequence[str], most: int, seed: int
) -> tuple[dict[str, Items], dict[str, str]]:
    """Return the items of each property, and for a property that cannot be probed the reason.

    `samples` are those that were encoded; `groups` (samples,) name what is kept whole. Where there are more
    than `most` items, or pairs of one kind than of the other, they are drawn.
    """
    rows, rng = list(_rows(encoded, samples)), np.random.default_rng(seed)
    parts = relation_parts(encoded.spec)
    pairs = [part for part in parts if part.attribute is None]
    in_time = [part for part in parts if len(ORDERS.intersection(part.labels)) > 1]
    entities = [part.labels for part in encoded.spec.components if part.kind in ENTITY_KINDS]
    types = {label for labels in entities for label in labels}
    each = lambda read, known: [item for row in rows for item in read(row, known)]  # noqa: E731
    candidates = [item for part in pairs for item in each(_candidates, part)]
    items = {
        "mention boundary": each(_words, types),
        "entity type": each(_mentions, types),
        "relation presence": [item._replace(label=RELATED[bool(item.label)]) for item in candidates],
        "temporal order": [i for part in in_time for i in each(_candidates, part) if i.label in ORDERS],
    }
    chosen = {name: _drawn(some, most, rng, name == "relation presence") for name, some in items.items()}
    reasons = {name: _lacking(some) for name, some in chosen.items()}
    found = {name: _as_items(some, groups) for name, some in chosen.items() if not reasons[name]}
    return found, {name: reason for name, reason in reasons.items() if reason}


def _rows(encoded: EncodedTask, samples: Sequence[UnifiedSample]) -> Iterator[_Row]:
    """Yield the passages; a task that ranks has none."""
    if encoded.spec.components[0].kind is Kind.RANKING:
        return
    columns = encoded.rows(range(len(encoded)))
    for number, document in enumerate(map(int, columns["document"])):
        own = {name: column[number] for name, column in columns.items()}
        passage = Passage(*(own[part.name] for part in fields(Passage)))
        yield _Row(number, document, samples[document], passage, own)


def _words(row: _Row, types: set[str]) -> Iterator[_Item]:
    """Yield the words that the passage answers for; of mentions that overlap the longest counts."""
    passage, found = row.passage, [m for m in row.sample.mentions if m.type in types]
    if not types:
        return
    words = [passage.words_in(start, end) for m in found for start, end in m.fragments]
    chunks = [(first, stop, "mention") for first, stop in words if first < stop]
    tags = tag_chunks(chunks, len(passage.word_tokens), "BIO")
    for word in np.flatnonzero(passage.owned).tolist():
        token, span = passage.word_tokens[word], (passage.word_starts[word], passage.word_ends[word])
        yield row.item(BOUNDARIES[tags[word][0]], span, (token, token))


def _mentions(row: _Row, types: set[str]) -> Iterator[_Item]:
    for mention in row.sample.mentions:
        if mention.type in types and row.passage.holds(mention.fragments):
            first, stop = row.passage.words_in(mention.start, mention.end)
            if row.passage.answers(first, stop - 1):
                ends = row.passage.word_tokens[first], row.passage.word_tokens[stop - 1]
                yield row.item(mention.type, (mention.start, mention.end), ends)


def _candidates(row: _Row, part: ComponentSpec) -> Iterator[_Item]:
    """Yield the pairs (for an attribute the mentions) that the component is asked, "" without a label."""
    mentions = table(row.columns[f"mentions:{part.name}"], MENTION)
    for source, target, _, label in table(row.columns[f"candidates:{part.name}"], CANDIDATE):
        mention = row.sample.mentions[mentions[source][0]]
        ends = [mentions[end][1:3] for end in (source, target) if end != DOCUMENT]
        yield row.item(("", *part.labels)[label], (mention.start, mention.end), *ends)


def _drawn(items: list[_Item], most: int, rng: np.random.Generator, equal: bool) -> list[_Item]:
    """Draw at most so many items, in order; if `equal`, as many of each label as of the rarest."""
    order = rng.permutation(len(items))
    if equal:
        labels = np.array([items[place].label for place in order])
        kinds = [order[labels == label] for label in sorted(set(labels))]
        least = min(map(len, kinds), default=0)
        order = np.concatenate([order[:0], *(kind[: min(least, most // len(kinds))] for kind in kinds)])
    return [items[place] for place in sorted(order[:most])]


def _lacking(items: list[_Item]) -> str:
    """Say why items cannot be probed; empty where they can."""
    if not items:
        return "the task has no such annotations"
    if len(labels := {item.label for item in items}) < 2:
        return f"all {len(items):,} are {next(iter(labels))}"
    documents = len({item.document for item in items})
    if len(items) >= LEAST_ITEMS and documents >= LEAST_DOCUMENTS:
        return ""
    return f"{len(items):,} items in {documents} documents; it takes {LEAST_ITEMS} in {LEAST_DOCUMENTS}"


def _as_items(items: list[_Item], groups: Sequence[str]) -> Items:
    classes, labels = np.unique([item.label for item in items], return_inverse=True)
    words = np.unique([item.word for item in items], return_inverse=True)[1]
    documents = np.array([groups[item.document] for item in items])
    return Items(labels, tuple(classes.tolist()), words, documents, np.array([item.ends for item in items]))
