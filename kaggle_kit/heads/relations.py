"""Relations between the mentions of a passage, every candidate pair scored from one encoding.

    head = RelationExtractionHead(component, hidden_size=384)
    targets = tensors(component, rows, starts)
    # first, last, types (mentions,) · source, target, distance, labels (candidates,)
    # starts, lengths, sizes (rows,) · weights (2,) of a candidate without a relation and of one with

A candidate is an ordered pair of mentions whose types training relates (in the order of the text alone,
where training knows no other, and no farther apart than training's are), or for a unary component
(`attribute`) a mention and the document, whose place is one past the last mention. A pair that
several windows hold belongs to the one that owns most of its two ends, the earliest of equals.

Every token carries a marker of the mention types that it stands in. A pair begins as
[source; target; source * target; distance] and then reads its passage (`pair_reader`): it attends to the
tokens, each known by where it stands from source and target. So a pair sees what typed markers around its
two mentions would show, after Zhou & Chen 2022, and no token sees a pair, as with the levitated markers of
Zhong & Chen 2021 and Ye et al. 2022. The relation of an event to the document time is a pair too: its target
is a learnt document node that stands everywhere in the passage.

Decoding asks two questions in turn: is there a relation, by P(none) against the head's threshold, and which
is the likeliest? One arg-max over `none` and the labels would say no where the labels share P(relation) of
more than 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import List, Value
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, Relation, UnifiedSample
from kaggle_kit.data.candidates import class_weights, labelled
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import before, flat, long, repeated, table
from kaggle_kit.heads.dropout import FastDropout
from kaggle_kit.heads.pair_reader import PLACES, WIDTH, PairGrid, PairReader, embedding
from kaggle_kit.heads.thresholds import threshold_of

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


READERS = 2
DISTANCES = (-math.inf, -32, -16, -8, -4, -2, 0, 1, 2, 4, 8, 16, 32)  # lower bounds of the classes, in words
UNDECIDED = 0.5  # P(no relation) below which there is one, until development data say better


class RelationExtractionHead(nn.Module):
    """Logits of `no relation` and of each label, per candidate.

    `thresholds` are kept with the weights: `heads/thresholds.py` chooses them, the decoder reads them.
    """

    def __init__(self, component: ComponentSpec, hidden_size: int, dropout: float = 0.1) -> None:
        super().__init__()
        types = {name for names in component.candidates for name in names}
        self.norm = nn.LayerNorm(hidden_size)
        self.token = nn.Linear(hidden_size, WIDTH)
        self.marker = embedding(max(1, len(types)), WIDTH)
        self.mention = nn.Linear(3 * WIDTH, WIDTH)
        self.node_norm = nn.LayerNorm(WIDTH)
        self.document = nn.Parameter(torch.zeros(1, WIDTH))
        self.source = nn.Linear(WIDTH, WIDTH)
        self.target = nn.Linear(WIDTH, WIDTH, bias=False)
        self.product = nn.Linear(WIDTH, WIDTH, bias=False)
        self.distance = embedding(len(DISTANCES), WIDTH)
        self.readers = nn.ModuleList(PairReader(dropout) for _ in range(READERS))
        self.pair_norm = nn.LayerNorm(WIDTH)
        self.score = nn.Linear(WIDTH, 1 + len(component.labels))
        self.dropout = FastDropout(dropout)
        self.register_buffer("distances", torch.tensor(DISTANCES), persistent=False)
        self.register_buffer("places", torch.tensor(PLACES), persistent=False)
        self.register_buffer("thresholds", torch.full((3,), UNDECIDED))  # all of dev, its halves 0 and 1

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(tokens, hidden) -> (candidates, classes), class 0 is no relation"""
        tokens = self.token(self.dropout(self.norm(hidden.float()))) + self._markers(hidden, targets)
        pairs = self._pairs(self._nodes(tokens, targets), targets)
        if len(pairs):
            grid = PairGrid.of(targets, self.places)
            for reader in self.readers:
                pairs = reader(pairs, tokens, grid)
        return self.score(self.dropout(F.gelu(self.pair_norm(pairs))))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over the candidates, weighed as `data/candidates.class_weights` says.

        It is averaged over candidates.
        """
        none, relation = targets["weights"].to(logits)
        weights = torch.where(targets["labels"] > 0, relation, none)
        return (weights * F.cross_entropy(logits, targets["labels"], reduction="none")).sum()

    def _markers(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The sum of the embeddings of the types that a token stands in: (tokens, WIDTH)"""
        lengths = targets["last"] - targets["first"] + 1
        inside = torch.repeat_interleave(targets["first"] - lengths.cumsum(0) + lengths, lengths)
        inside = inside + torch.arange(len(inside), device=hidden.device)
        marked = hidden.new_zeros(len(hidden), self.marker.num_embeddings, dtype=torch.float32)
        marked[inside, torch.repeat_interleave(targets["types"], lengths)] = 1.0
        return marked @ self.marker.weight

    def _nodes(self, tokens: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """[first token; last token; type] of each mention, then the document: (mentions + 1, WIDTH)"""
        ends = [repeated(tokens, targets[end]) for end in ("first", "last")]
        mentions = F.gelu(self.mention(torch.cat([*ends, self.marker(targets["types"])], dim=-1)))
        return torch.cat([self.node_norm(mentions), self.document.to(mentions)])

    def _pairs(self, nodes: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(mentions + 1, WIDTH) -> (candidates, WIDTH)"""
        source, target = (repeated(nodes, targets[end]) for end in ("source", "target"))
        bucket = torch.bucketize(targets["distance"].float(), self.distances, right=True) - 1
        ends = repeated(self.source(nodes), targets["source"]) + repeated(
            self.target(nodes), targets["target"]
        )
        return ends + self.product(source * target) + self.distance(bucket)


@dataclass(frozen=True, slots=True)
class Link:
    """A candidate with its likeliest label. Ends are places among the sample's mentions, the target of a
    unary one is -1."""

    source: int
    target: int
    label: str
    probability: float  # of the label
    none: float  # P(no relation)


def split(output: Tensor, targets: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """(candidates, classes) per row"""
    return output.float().cpu().split(targets["sizes"].tolist())


def decode(
    component: ComponentSpec,
    head: nn.Module,
    table: Mapping[str, Any],
    outputs: Sequence[Tensor],
    gold: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    """The samples with a relation, or an attribute, wherever P(no relation) is below the threshold."""
    write = _with_attributes if component.attribute is not None else _with_relations
    found = []
    for sample, links in zip(predicted, all_links(component, table, outputs, len(predicted)), strict=True):
        threshold = threshold_of(head.thresholds.tolist(), sample)
        found.append(write(component, sample, [link for link in links if link.none < threshold]))
    return found


def all_links(
    component: ComponentSpec, table: Mapping[str, Any], outputs: Sequence[Tensor], samples: int
) -> list[list[Link]]:
    """Every candidate of each sample, decided or not."""
    links: list[list[Link]] = [[] for _ in range(samples)]
    columns = (table[f"{name}:{component.name}"] for name in ("mentions", "candidates"))
    for document, mentions, candidates, scores in zip(table["document"], *columns, outputs, strict=True):
        links[document] += _links(component, mentions, candidates, scores)
    return links


def _links(component: ComponentSpec, mentions: Any, candidates: Any, scores: Tensor) -> Iterator[Link]:
    numbers = table(mentions, MENTION)[:, 0]
    ends = table(candidates, CANDIDATE)[:, :2]
    probabilities = scores.softmax(-1)
    best, labels = probabilities[:, 1:].max(-1)
    columns = (part.tolist() for part in (labels, best, probabilities[:, 0]))
    for (source, target), label, probability, none in zip(ends, *columns, strict=True):
        other = DOCUMENT if target == DOCUMENT else int(numbers[target])
        yield Link(int(numbers[source]), other, component.labels[label], probability, none)


def _with_relations(component: ComponentSpec, sample: UnifiedSample, found: Sequence[Link]) -> UnifiedSample:
    relations = list(sample.relations)
    for link in sorted(found, key=lambda link: (link.source, link.target)):
        ends = sample.mentions[link.source].id, sample.mentions[link.target].id
        label, score = link.label, link.probability
        name = f"R{len(relations) + 1}"
        if component.relation_attribute is None:
            relations.append(Relation(name, label, *ends, score=score))
        else:
            attributes = {component.relation_attribute: label}
            relations.append(
                Relation(name, component.relation_type, *ends, attributes=attributes, score=score)
            )
    return replace(sample, relations=tuple(relations))


def _with_attributes(component: ComponentSpec, sample: UnifiedSample, found: Sequence[Link]) -> UnifiedSample:
    mentions = list(sample.mentions)
    for link in found:
        mention = mentions[link.source]
        attributes = {**mention.attributes, component.attribute: link.label}
        mentions[link.source] = replace(mention, attributes=attributes)
    return replace(sample, mentions=tuple(mentions))
