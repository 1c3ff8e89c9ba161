"""Relations between the mentions of a passage, every candidate pair scored from one encoding.

    head = RelationExtractionHead(component, hidden_size=384)
    targets = tensors(component, rows, starts)
    # first, last, types (mentions,) · source, target, distance, labels (candidates,)
    # starts, lengths, sizes (rows,) · weights (2,) of a candidate without a relation and of one with
    # marked, marks (covered,) tokens inside of mentions · what `pair_reader.layout` adds

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

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import NOTHING, ComponentSpec, Relation, UnifiedSample
from kaggle_kit.data.candidates import class_weights, labelled
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import Columns, Records, Scored, before, flat, long, repeated, table
from kaggle_kit.heads.arrays import split as split
from kaggle_kit.heads.dropout import HEAD_DROPOUT, FastDropout
from kaggle_kit.heads.pair_reader import PLACES, WIDTH, PairGrid, PairReader, embedding, layout
from kaggle_kit.heads.thresholds import threshold_of

MENTION = 4  # place among the sample's mentions, first token, last token, type
CANDIDATE = 4  # source and target among the passage's mentions, words from one to the other, label
DOCUMENT = -1  # the target of a unary candidate

Key = tuple[int, int]  # source and target of a candidate, among the sample's mentions


@dataclass(frozen=True)
class _Placed:
    """A mention inside a passage. `words` is [first, stop)."""

    number: int
    type: str
    words: tuple[int, int]
    owned: bool


def features(component: ComponentSpec) -> dict[str, str]:
    """Return the names and Arrow types of the component's columns in a token file."""
    names = (f"mentions:{component.name}", f"candidates:{component.name}")
    return dict.fromkeys(names, "int32[]")


def columns(component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample) -> Records:
    """Yield flat records per passage, `MENTION` and `CANDIDATE` numbers each; label 0 is no relation."""
    types, labels = mention_types(component), _gold(component, sample)
    placed = [list(_placed(types, passage, sample)) for passage in sequences]
    homes = _homes(component, placed)
    for number, (passage, mentions) in enumerate(zip(sequences, placed, strict=True)):
        records: list[int] = []
        for source, target, key in _candidates(component, mentions):
            if homes[key][1] == -number:
                distance = 0 if target == DOCUMENT else _distance(mentions[source], mentions[target])
                records += (source, target, distance, labels.get(key, 0))
        listed: list[int] = []
        for one in mentions:
            first, last = (passage.word_tokens[word] for word in (one.words[0], one.words[1] - 1))
            listed += (one.number, int(first), int(last), types.index(one.type))
        yield {f"mentions:{component.name}": listed, f"candidates:{component.name}": records}


def mention_types(component: ComponentSpec) -> list[str]:
    """List the types that take part in any candidate, sorted; a mention's type is its place here."""
    return sorted({name for types in component.candidates for name in types})


def _gold(component: ComponentSpec, sample: UnifiedSample) -> dict[Key, int]:
    """(source, target) -> label; of several labels on one pair the first of the component's."""
    numbers = {mention.id: number for number, mention in enumerate(sample.mentions)}
    gold: dict[Key, int] = {}
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


def _candidates(component: ComponentSpec, mentions: Sequence[_Placed]) -> Iterator[tuple[int, int, Key]]:
    """Places among the passage's mentions of source and target, and the candidate's name in the sample."""
    if component.attribute is not None:
        yield from ((place, DOCUMENT, (one.number, DOCUMENT)) for place, one in enumerate(mentions))
        return
    allowed = set(component.candidates)
    for source, target in permutations(range(len(mentions)), 2):
        one, other = mentions[source], mentions[target]
        if (one.type, other.type) not in allowed or (component.forward and one.words > other.words):
            continue
        if component.farthest is None or abs(_distance(one, other)) <= component.farthest:
            yield source, target, (one.number, other.number)


def _homes(component: ComponentSpec, placed: Sequence[Sequence[_Placed]]) -> dict[Key, tuple[int, int]]:
    """Candidate -> how many of its ends the passage owns that answers for it, and minus that one's number."""
    homes: dict[Key, tuple[int, int]] = {}
    for number, mentions in enumerate(placed):
        for source, target, key in _candidates(component, mentions):
            ends = mentions[source].owned + (target != DOCUMENT and mentions[target].owned)
            homes[key] = max(homes.get(key, (-1, 0)), (ends, -number))
    return homes


def _distance(source: _Placed, target: _Placed) -> int:
    """Words from source to target, negative where the target stands first, 0 where they overlap."""
    if source.words[1] <= target.words[0]:
        return target.words[0] - source.words[1] + 1
    if target.words[1] <= source.words[0]:
        return target.words[1] - source.words[0] - 1
    return 0


def tensors(component: ComponentSpec, rows: Columns, starts: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of a micro-batch whose rows begin at `starts`, by the names above."""
    mentions = [table(row, MENTION) for row in rows[f"mentions:{component.name}"]]
    candidates = [table(row, CANDIDATE) for row in rows[f"candidates:{component.name}"]]
    for number, length in enumerate(rows["length"]):  # only a passage that was cut has candidates beyond
        inside: np.ndarray = np.append(mentions[number][:, 2] < length, True)  # DOCUMENT is the last place
        candidates[number] = candidates[number][inside[candidates[number][:, :2]].all(axis=1)]
        mentions[number][:, 1:3] = mentions[number][:, 1:3].clip(max=length - 1)
    sizes = [len(row) for row in mentions]
    offsets, document = before(sizes), sum(sizes)
    pairs = list(zip(candidates, offsets, strict=True))
    targets = [np.where(row[:, 1] == DOCUMENT, document, row[:, 1] + offset) for row, offset in pairs]
    starting = list(zip(mentions, starts, strict=True))
    found = {
        "first": long(flat(row[:, 1] + start for row, start in starting)),
        "last": long(flat(row[:, 2] + start for row, start in starting)),
        "types": long(flat(row[:, 3] for row in mentions)),
        "source": long(flat(row[:, 0] + offset for row, offset in pairs)),
        "target": long(flat(targets)),
        "distance": long(flat(row[:, 2] for row in candidates)),
        "labels": long(flat(row[:, 3] for row in candidates)),
        "starts": long(starts),
        "lengths": long(rows["length"]),
        "sizes": long([len(row) for row in candidates]),
        "weights": torch.tensor(class_weights(component.positive)),
    }
    return found | marked(found) | layout(found)


def marked(targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every token that a mention covers, `marked`, and the mention's type, `marks`; on the CPU."""
    lengths = targets["last"] - targets["first"] + 1
    begin = torch.repeat_interleave(targets["first"] - lengths.cumsum(0) + lengths, lengths)
    marks = torch.repeat_interleave(targets["types"], lengths)
    return {"marked": begin + torch.arange(len(begin)), "marks": marks}


def count(targets: Mapping[str, Tensor]) -> int:
    """Count the candidates."""
    return len(targets["labels"])


def related(component: ComponentSpec, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yield (source, target) among the sample's mentions for each candidate with a label."""
    for row in rows:
        numbers = table(row[f"mentions:{component.name}"], MENTION)[:, 0].tolist()
        for source, target, _, label in table(row[f"candidates:{component.name}"], CANDIDATE).tolist():
            if label:
                yield numbers[source], DOCUMENT if target == DOCUMENT else numbers[target]


def positive_share(component: ComponentSpec, columns: Columns) -> float:
    """Return the share of candidates with a label, in rows of a token file."""
    candidates = columns[f"candidates:{component.name}"][:]
    labels = flat(table(row, CANDIDATE)[:, 3] for row in candidates)
    return int((labels > 0).sum()) / max(1, len(labels))


READERS = 2
DISTANCES = (-math.inf, -32, -16, -8, -4, -2, 0, 1, 2, 4, 8, 16, 32)  # lower bounds of the classes, in words
UNDECIDED = 0.5  # P(no relation) below which there is one, until development data say better


class RelationExtractionHead(nn.Module):
    """Logits of `no relation` and of each label, per candidate.

    `thresholds` are kept with the weights: `heads/thresholds.py` chooses them, the decoder reads them.
    """

    def __init__(self, component: ComponentSpec, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.token = nn.Linear(hidden_size, WIDTH)
        self.marker = embedding(max(1, len(mention_types(component))), WIDTH)
        self.mention = nn.Linear(3 * WIDTH, WIDTH)
        self.node_norm = nn.LayerNorm(WIDTH)
        self.document = nn.Parameter(torch.zeros(1, WIDTH))
        self.source = nn.Linear(WIDTH, WIDTH)
        self.target = nn.Linear(WIDTH, WIDTH, bias=False)
        self.product = nn.Linear(WIDTH, WIDTH, bias=False)
        self.distance = embedding(len(DISTANCES), WIDTH)
        self.readers = nn.ModuleList(PairReader() for _ in range(READERS))
        self.pair_norm = nn.LayerNorm(WIDTH)
        self.score = nn.Linear(WIDTH, 1 + len(component.labels))
        self.dropout = FastDropout(HEAD_DROPOUT)
        self.register_buffer("distances", torch.tensor(DISTANCES), persistent=False)
        self.register_buffer("places", torch.tensor(PLACES), persistent=False)
        self.register_buffer("thresholds", torch.full((3,), UNDECIDED))  # all of dev, its halves 0 and 1

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Score each candidate: (tokens, hidden) -> (candidates, classes), class 0 is no relation"""
        tokens = self.token(self.dropout(self.norm(hidden.float()))) + self._markers(hidden, targets)
        pairs = self._pairs(self._nodes(tokens, targets), targets)
        if len(pairs):
            grid = PairGrid.of(targets, self.places)
            for reader in self.readers:
                pairs = reader(pairs, tokens, grid)
        return self.score(self.dropout(F.gelu(self.pair_norm(pairs))))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Sum cross-entropy over the candidates, weighed by `data/candidates.class_weights`.

        It is averaged over candidates.
        """
        none, relation = targets["weights"].to(logits)
        weights = torch.where(targets["labels"] > 0, relation, none)
        return (weights * F.cross_entropy(logits, targets["labels"], reduction="none")).sum()

    def _markers(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The sum of the embeddings of the types that a token stands in: (tokens, WIDTH)"""
        marked = hidden.new_zeros(len(hidden), self.marker.num_embeddings, dtype=torch.float32)
        marked[targets["marked"], targets["marks"]] = 1.0
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
        first, second = self.source(nodes), self.target(nodes)
        ends = repeated(first, targets["source"]) + repeated(second, targets["target"])
        return ends + self.product(source * target) + self.distance(bucket)


HEAD = RelationExtractionHead


@dataclass(frozen=True, slots=True)
class Link:
    """A candidate with its likeliest label.

    Ends are places among the sample's mentions; the target of a unary candidate is -1.
    """

    source: int
    target: int
    label: str
    probability: float  # of the label
    none: float  # P(no relation)


def decode(component: ComponentSpec, head: nn.Module, scored: Scored) -> list[UnifiedSample]:
    """Add a relation, or an attribute, to the samples wherever P(no relation) is below the threshold."""
    attribute, samples = component.attribute, []
    write = partial(_with_relations, component) if attribute is None else partial(_with_attributes, attribute)
    for sample, links in zip(scored.predicted, all_links(component, scored), strict=True):
        threshold = threshold_of(head.thresholds.tolist(), sample)
        samples.append(write(sample, [link for link in links if link.none < threshold]))
    return samples


def all_links(component: ComponentSpec, scored: Scored) -> list[list[Link]]:
    """List every candidate of each sample, whether or not it becomes a relation."""
    links: list[list[Link]] = [[] for _ in scored.predicted]
    columns = (scored.table[name] for name in ("document", *features(component)))
    for document, mentions, candidates, logits in zip(*columns, scored.outputs, strict=True):
        links[document] += _links(component, mentions, candidates, logits)
    return links


def _links(component: ComponentSpec, mentions: Any, candidates: Any, logits: Tensor) -> Iterator[Link]:
    numbers = table(mentions, MENTION)[:, 0].tolist()
    ends = table(candidates, CANDIDATE)[:, :2].tolist()
    probabilities = logits.softmax(-1)
    best, labels = probabilities[:, 1:].max(-1)
    columns = (part.tolist() for part in (labels, best, probabilities[:, 0]))
    for (source, target), label, probability, none in zip(ends, *columns, strict=True):
        other = DOCUMENT if target == DOCUMENT else numbers[target]
        yield Link(numbers[source], other, component.labels[label], probability, none)


def _with_relations(component: ComponentSpec, sample: UnifiedSample, links: Sequence[Link]) -> UnifiedSample:
    relations, attribute = list(sample.relations), component.relation_attribute
    for link in sorted(links, key=lambda link: (link.source, link.target)):
        ends = sample.mentions[link.source].id, sample.mentions[link.target].id
        kind = component.relation_type or link.label
        attributes = NOTHING if attribute is None else {attribute: link.label}
        name, score = f"R{len(relations) + 1}", link.probability
        relations.append(Relation(name, kind, *ends, attributes=attributes, score=score))
    return replace(sample, relations=tuple(relations))


def _with_attributes(attribute: str, sample: UnifiedSample, links: Sequence[Link]) -> UnifiedSample:
    mentions = list(sample.mentions)
    for link in links:
        mention = mentions[link.source]
        mentions[link.source] = replace(mention, attributes={**mention.attributes, attribute: link.label})
    return replace(sample, mentions=tuple(mentions))
