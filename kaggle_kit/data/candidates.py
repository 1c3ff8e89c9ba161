"""What a relation component relates: which mentions may stand together, and under which label.

seen = {"candidates": seen_types(spec, train), "forward": only_forward(spec, train)}
spec = replace(spec, **seen, farthest=farthest(spec, train))
label_of(spec, relation)                    # "CONTAINS", or None where the relation is not its job

Relations of PubTator (`CID` of BC5CDR, all of BioRED) hold between concepts of a document, whichever of their
mentions stand where. A reader links one to the first mention of either concept and keeps the two as the
attribute `CONCEPTS`; here it is taken back to all their mentions.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from kaggle_kit.core.types import ComponentSpec, Mention, Relation, UnifiedSample
from kaggle_kit.data.segments import WORD

ENOUGH = 100  # relations without one against the order of the text: fewer than 3 in 100 others are (95 %)
Item = tuple[tuple[str, ...], str]  # what is related (mention ids, or two concepts) and the label
CONCEPTS = "concepts"
# Types of relation that hold between two concepts whichever is named first: all of BioRED (Luo et al. 2022).
# CID is none of them: a chemical induces a disease.
UNDIRECTED = frozenset(
    ("Association", "Positive_Correlation", "Negative_Correlation", "Bind", "Cotreatment", "Comparison")
    + ("Drug_Interaction", "Conversion")
)
WITHIN = 0.99  # of training's relations: candidates lie no farther apart than these do


def label_of(component: ComponentSpec, relation: Relation) -> str | None:
    """Return the component's label for a relation of the corpus, None where it has none."""
    if (attribute := component.relation_attribute) is None:
        label = relation.type
    else:
        label = relation.attributes.get(attribute, "") if relation.type == component.relation_type else ""
    return label if component.attribute is None and label in component.labels else None


def labelled(component: ComponentSpec, sample: UnifiedSample) -> Iterator[tuple[tuple[str, ...], str]]:
    """Return (mention ids, label) of all that the component should find: (source, target), or (mention,).

    A relation between concepts holds between all mentions of the two.
    """
    for (_, label), pairs in gold(component, sample).items():
        for names in pairs:
            yield names, label


def gold(component: ComponentSpec, sample: UnifiedSample) -> dict[Item, list[tuple[str, ...]]]:
    """Return the gold targets, each with the mention ids by which it can be found: one pair is enough."""
    if component.attribute is not None:
        values = {mention.id: mention.attributes.get(component.attribute) for mention in sample.mentions}
        return {((name,), value): [(name,)] for name, value in values.items() if value in component.labels}
    items: dict[Item, list[tuple[str, ...]]] = {}
    mentions = {mention.id: mention for mention in sample.mentions}
    for relation in sample.relations:
        if (label := label_of(component, relation)) is None:
            continue
        if CONCEPTS in relation.attributes:
            concepts = in_order(relation.type, related_concepts(relation, mentions)[0])
            items[concepts, label] = [*mention_pairs(relation, mentions)]
        else:
            ends = relation.source, relation.target
            items[ends, label] = [ends]
    return items


def between_concepts(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> bool:
    """Whether the component's relations hold between concepts of a document."""
    relations = (relation for sample in samples for relation in sample.relations)
    return any(CONCEPTS in each.attributes and label_of(component, each) is not None for each in relations)


def seen_types(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> tuple[tuple[str, ...], ...]:
    """Return the mention types that these samples relate, sorted: the only ones that become candidates."""
    seen: set[tuple[str, ...]] = set()
    for sample in samples:
        types = {mention.id: mention.type for mention in sample.mentions}
        seen.update(tuple(types[name] for name in names) for names, _ in labelled(component, sample))
    return tuple(sorted(seen))


def only_forward(component: ComponentSpec, samples: Sequence[UnifiedSample]) -> bool:
    """Whether these samples relate mentions in the order of the text alone, `ENOUGH` times or more.

    Then the other direction is no candidate: a pair that means the same both ways is not asked twice, with
    opposite answers. So it is with `UNDIRECTED` relations, however few.
    """
    if component.attribute is not None:
        return False
    if set(component.labels) <= UNDIRECTED and between_concepts(component, samples):
        return True
    forward: list[bool] = []
    for sample in samples:
        places = {mention.id: (mention.start, mention.end) for mention in sample.mentions}
        pairs = (names for names, _ in labelled(component, sample))
        forward += [places[source] <= places[target] for source, target in pairs]
    return len(forward) >= ENOUGH and all(forward)


def farthest(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> int | None:
    """Return the distance in words that `WITHIN` of these relations do not exceed, None without any.

    Of concepts those count that stand nearest to each other.

    Pairs grow with the square of a window, relations do not: this keeps the pairs that could be one.
    """
    if component.attribute is not None:
        return None
    distances = []
    for sample in samples:
        mentions = {mention.id: mention for mention in sample.mentions}
        for pairs in gold(component, sample).values():
            if sample.text is not None and pairs:
                ends = ((mentions[source], mentions[target]) for source, target in pairs)
                distances.append(min(_words_apart(sample.text, *pair) for pair in ends))
    return sorted(distances)[math.ceil(WITHIN * len(distances)) - 1] if distances else None


def class_weights(positive: float | None) -> tuple[float, float]:
    """Return the loss weights of a candidate without a relation and of one with; the mean is 1 in training.

    With a share p of positive candidates, none : relation is sqrt(p / (1 - p)) : 1, at most 1 : 1. That is
    halfway, as a geometric mean, between the data as they are and classes of equal weight. P(no relation)
    < 1/2 then asks for a probability of sqrt(p) / (sqrt(p) + sqrt(1 - p)): .27 at 12 %, .10 at 1 %. The
    threshold that is best for F1 is half of the best F1 (Lipton et al. 2014), which is lower where
    relations are rarer.
    """
    if not positive or positive >= 0.5:
        return 1.0, 1.0
    none = math.sqrt(positive / (1 - positive))
    mean = positive + (1 - positive) * none
    return none / mean, 1 / mean


def _words_apart(text: str, one: Mention, two: Mention) -> int:
    """Return the distance in words: 1 for neighbours, 0 where the two overlap."""
    left, right = sorted((one, two), key=lambda mention: (mention.start, mention.end))
    if left.end > right.start:
        return 0
    return 1 + sum(1 for _ in WORD.finditer(text, left.end, right.start))


def related_concepts(relation: Relation, mentions: Mapping[str, Mention]) -> list[tuple[str, str]]:
    """Return the concept pairs of a relation: the one it was read with, else all of its two mentions'.

    `mentions` maps ids to mentions. Empty where a mention has no concept; nothing is related to itself.
    """
    ends = mentions[relation.source].concepts, mentions[relation.target].concepts
    stored = relation.attributes.get(CONCEPTS, "").split("|")
    for place in range(1, len(stored)):  # concepts may hold bars themselves
        pair = "|".join(stored[:place]), "|".join(stored[place:])
        if len(stored) == 2 or (pair[0] in ends[0] and pair[1] in ends[1]):
            return [pair]
    return [pair for pair in product(*ends) if pair[0] != pair[1]]


def in_order(kind: str, ends: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the two ends of a relation of this type, always in one order where the type is `UNDIRECTED`."""
    return (min(ends, key=str), max(ends, key=str)) if kind in UNDIRECTED else ends


def mention_pairs(relation: Relation, mentions: Mapping[str, Mention]) -> list[tuple[str, str]]:
    """Return the ids of all pairs of mentions of the relation's two concepts, in the order of the mentions.

    A mention of both concepts makes no pair with itself. A pair of an `UNDIRECTED` relation is in the order
    of the text, since the corpus gives none.
    """
    (source, target), *_ = related_concepts(relation, mentions)
    ends = [[m for m in mentions.values() if concept in m.concepts] for concept in (source, target)]
    pairs = [pair for pair in product(*ends) if pair[0].id != pair[1].id]
    if relation.type in UNDIRECTED:
        pairs = [tuple(sorted(pair, key=lambda mention: (mention.start, mention.end))) for pair in pairs]
    return list(dict.fromkeys((one.id, two.id) for one, two in pairs))


def with_gold_concepts(gold: UnifiedSample, predicted: UnifiedSample) -> UnifiedSample:
    """Return the predicted sample whose mentions have the concepts of gold's, where place and type are equal.

    For figures that compare the steps of one training, before any concept is predicted.
    """
    known = {(mention.fragments, mention.type): mention.concepts for mention in gold.mentions}
    mentions = (replace(m, concepts=known.get((m.fragments, m.type), ())) for m in predicted.mentions)
    return replace(predicted, mentions=tuple(mentions))
