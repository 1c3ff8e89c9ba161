"""What a relation component relates: which mentions may stand together, and under which label.

seen = {"candidates": seen_types(spec, train), "forward": only_forward(spec, train)}
spec = replace(spec, **seen, farthest=farthest(spec, train))
label_of(spec, relation)                    # "CONTAINS", or None where the relation is not its job
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from kaggle_kit.core.types import ComponentSpec, Mention, Relation, UnifiedSample
from kaggle_kit.data.concepts import UNDIRECTED, in_order, mention_pairs, of_concepts, related_concepts
from kaggle_kit.data.segments import WORD

ENOUGH = 100  # relations without one against the order of the text: fewer than 3 in 100 others are (95 %)
Item = tuple[tuple[str, ...], str]  # what is related (mention ids, or two concepts) and the label
WITHIN = 0.99  # of training's relations: candidates lie no farther apart than these do


def label_of(component: ComponentSpec, relation: Relation) -> str | None:
    """The component's label for a relation of the corpus, None where it has none."""
    if component.attribute is not None:
        return None
    label = relation.type
    if component.relation_attribute is not None:
        if relation.type != component.relation_type:
            return None
        label = relation.attributes.get(component.relation_attribute, "")
    return label if label in component.labels else None


def labelled(component: ComponentSpec, sample: UnifiedSample) -> Iterator[tuple[tuple[str, ...], str]]:
    """(mention ids, label) of everything the component should find: (source, target), or (mention,).

    A relation between concepts holds between all mentions of the two.
    """
    for (_, label), pairs in gold(component, sample).items():
        for names in pairs:
            yield names, label


def gold(component: ComponentSpec, sample: UnifiedSample) -> dict[Item, list[tuple[str, ...]]]:
    """What there is to find, each with the mention ids by which it can be found: one pair is enough."""
    items: dict[Item, list[tuple[str, ...]]] = {}
    if component.attribute is not None:
        for mention in sample.mentions:
            value = mention.attributes.get(component.attribute)
            if value in component.labels:
                items[(mention.id,), value] = [(mention.id,)]
        return items
    mentions = {mention.id: mention for mention in sample.mentions}
    for relation in sample.relations:
        label = label_of(component, relation)
        if label is None:
            continue
        if of_concepts(relation):
            concepts = in_order(relation.type, related_concepts(relation, mentions)[0])
            items[concepts, label] = mention_pairs(relation, mentions)
        else:
            ends = relation.source, relation.target
            items[ends, label] = [ends]
    return items


def between_concepts(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> bool:
    """Whether the component's relations hold between concepts of a document."""
    relations = (relation for sample in samples for relation in sample.relations)
    return any(of_concepts(each) and label_of(component, each) is not None for each in relations)


def seen_types(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> tuple[tuple[str, ...], ...]:
    """The mention types that these samples relate, sorted: the only ones that become candidates."""
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
    forward = 0
    for sample in samples:
        places = {mention.id: (mention.start, mention.end) for mention in sample.mentions}
        for (source, target), _ in labelled(component, sample):
            if places[source] > places[target]:
                return False
            forward += 1
    return forward >= ENOUGH


def farthest(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> int | None:
    """The words from mention to mention that `WITHIN` of these relations do not exceed, None without any.

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
    """What a candidate without a relation weighs in the loss, and one with; 1 in the mean over training.

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
    """1 for neighbours, 0 where the two overlap."""
    left, right = sorted((one, two), key=lambda mention: (mention.start, mention.end))
    if left.end > right.start:
        return 0
    return 1 + sum(1 for _ in WORD.finditer(text, left.end, right.start))
