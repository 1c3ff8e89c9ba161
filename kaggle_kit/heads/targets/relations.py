"""Targets of relation extraction: the mentions of a passage, and the candidates among them.

    tensors(component, rows, starts)
    # first, last, types (mentions,) · source, target, distance, labels (candidates,)
    # starts, lengths, sizes (rows,) · weights (2,) of a candidate without a relation and of one with

A candidate is an ordered pair of mentions whose types training relates (in the order of the text alone,
where training knows no other, and no farther apart than training's are), or for a unary component
(`attribute`) a mention and the document, whose place is one past the last mention. A pair that
several windows hold belongs to the one that owns most of its two ends, the earliest of equals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from datasets import List, Value
from torch import Tensor

from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.candidates import class_weights, labelled
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import before, flat, long, table

MENTION = 4  # place among the sample's mentions, first token, last token, type
CANDIDATE = 4  # source and target among the passage's mentions, words from one to the other, label
DOCUMENT = -1  # the target of a unary candidate


@dataclass(frozen=True)
class _Placed:
    """A mention inside a passage. `words` is [first, stop)."""

    number: int
    type: str
    words: tuple[int, int]
    owned: bool


def features(component: ComponentSpec) -> dict[str, Any]:
    return {
        f"mentions:{component.name}": List(Value("int32")),
        f"candidates:{component.name}": List(Value("int32")),
    }


def columns(
    component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample
) -> Iterator[dict[str, list[int]]]:
    """Flat records per passage, `MENTION` and `CANDIDATE` numbers each; labels 0 for no relation."""
    types = mention_types(component)
    labels = _gold(component, sample)
    placed = [list(_placed(types, passage, sample)) for passage in sequences]
    homes = _homes(component, placed)
    for number, (passage, mentions) in enumerate(zip(sequences, placed, strict=True)):
        records = []
        for source, target in _candidates(component, mentions):
            key = _key(mentions, source, target)
            if homes[key] == number:
                distance = 0 if target == DOCUMENT else _distance(mentions[source], mentions[target])
                records.append((source, target, distance, labels.get(key, 0)))
        ends = [(passage.word_tokens[m.words[0]], passage.word_tokens[m.words[1] - 1]) for m in mentions]
        listed = [(m.number, *end, types.index(m.type)) for m, end in zip(mentions, ends, strict=True)]
        yield {
            f"mentions:{component.name}": [int(number) for record in listed for number in record],
            f"candidates:{component.name}": [int(number) for record in records for number in record],
        }


def mention_types(component: ComponentSpec) -> list[str]:
    """The types that take part in any candidate, sorted; a mention's type is its place here."""
    return sorted({name for types in component.candidates for name in types})


def _gold(component: ComponentSpec, sample: UnifiedSample) -> dict[tuple[int, int], int]:
    """(source, target) -> label; of several labels on one pair the first of the component's."""
    numbers = {mention.id: number for number, mention in enumerate(sample.mentions)}
    gold: dict[tuple[int, int], int] = {}
    for names, label in labelled(component, sample):
        source, target = (*(numbers[name] for name in names), DOCUMENT)[:2]
        place = 1 + component.labels.index(label)
        gold[source, target] = min(place, gold.get((source, target), place))
    return gold


def _placed(types: Sequence[str], passage: Passage, sample: UnifiedSample) -> Iterator[_Placed]:
    for number, mention in enumerate(sample.mentions):
        if mention.type in types and passage.holds(mention.fragments):
            first, stop = passage.words_in(mention.start, mention.end)
            yield _Placed(number, mention.type, (first, stop), bool(passage.owned[first]))


def _candidates(component: ComponentSpec, mentions: Sequence[_Placed]) -> Iterator[tuple[int, int]]:
    """Places among the passage's mentions of source and target."""
    if component.attribute is not None:
        yield from ((place, DOCUMENT) for place in range(len(mentions)))
        return
    allowed = set(component.candidates)
    for source, target in permutations(range(len(mentions)), 2):
        backward = mentions[source].words > mentions[target].words
        if (mentions[source].type, mentions[target].type) not in allowed or (component.forward and backward):
            continue
        if (
            component.farthest is None
            or abs(_distance(mentions[source], mentions[target])) <= component.farthest
        ):
            yield source, target


def _key(mentions: Sequence[_Placed], source: int, target: int) -> tuple[int, int]:
    """The candidate's name in the whole sample."""
    return mentions[source].number, DOCUMENT if target == DOCUMENT else mentions[target].number


def _homes(component: ComponentSpec, placed: Sequence[Sequence[_Placed]]) -> dict[tuple[int, int], int]:
    """Candidate -> the passage that answers for it."""
    homes: dict[tuple[int, int], int] = {}
    most: dict[tuple[int, int], int] = {}
    for number, mentions in enumerate(placed):
        for source, target in _candidates(component, mentions):
            key = _key(mentions, source, target)
            ends = mentions[source].owned + (target != DOCUMENT and mentions[target].owned)
            if ends > most.get(key, -1):
                homes[key], most[key] = number, ends
    return homes


def _distance(source: _Placed, target: _Placed) -> int:
    """Words from source to target, negative where the target stands first, 0 where they overlap."""
    if source.words[1] <= target.words[0]:
        return target.words[0] - source.words[1] + 1
    if target.words[1] <= source.words[0]:
        return target.words[1] - source.words[0] - 1
    return 0


def tensors(component: ComponentSpec, rows: Mapping[str, Any], starts: np.ndarray) -> dict[str, Tensor]:
    mentions = [table(row, MENTION) for row in rows[f"mentions:{component.name}"]]
    candidates = [table(row, CANDIDATE) for row in rows[f"candidates:{component.name}"]]
    for number, length in enumerate(rows["length"]):
        candidates[number] = candidates[number][_inside(mentions[number], candidates[number], length)]
        mentions[number][:, 1:3] = mentions[number][:, 1:3].clip(max=length - 1)
    sizes = [len(row) for row in mentions]
    offsets, document = before(sizes), sum(sizes)
    pairs = list(zip(candidates, offsets, strict=True))
    targets = [np.where(row[:, 1] == DOCUMENT, document, row[:, 1] + offset) for row, offset in pairs]
    return {
        "first": long(flat(row[:, 1] + start for row, start in zip(mentions, starts, strict=True))),
        "last": long(flat(row[:, 2] + start for row, start in zip(mentions, starts, strict=True))),
        "types": long(flat(row[:, 3] for row in mentions)),
        "source": long(flat(row[:, 0] + offset for row, offset in pairs)),
        "target": long(flat(targets)),
        "distance": long(flat(row[:, 2] for row, _ in pairs)),
        "labels": long(flat(row[:, 3] for row, _ in pairs)),
        "starts": long(starts),
        "lengths": long(rows["length"]),
        "sizes": long([len(row) for row in candidates]),
        "weights": torch.tensor(class_weights(component.positive)),
    }


def _inside(mentions: np.ndarray, candidates: np.ndarray, length: int) -> np.ndarray:
    """Which candidates have both ends before `length`; others only stand in a passage that was cut."""
    inside = np.append(mentions[:, 2] < length, True)  # DOCUMENT is the last place
    return inside[candidates[:, 0]] & inside[candidates[:, 1]]


def count(targets: Mapping[str, Tensor]) -> int:
    """Candidates."""
    return len(targets["labels"])


def related(component: ComponentSpec, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """(source, target) among the sample's mentions of each candidate with a label, of a sample's columns."""
    for row in rows:
        numbers = table(row[f"mentions:{component.name}"], MENTION)[:, 0].tolist()
        for source, target, _, label in table(row[f"candidates:{component.name}"], CANDIDATE).tolist():
            if label:
                yield numbers[source], DOCUMENT if target == DOCUMENT else numbers[target]


def counted(component: ComponentSpec, columns: Mapping[str, Any]) -> tuple[int, int]:
    """(candidates with a label, candidates) of rows of a token file."""
    labels = np.concatenate([table(row, CANDIDATE)[:, 3] for row in columns[f"candidates:{component.name}"]])
    return int((labels > 0).sum()), len(labels)
