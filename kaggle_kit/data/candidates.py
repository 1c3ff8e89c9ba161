"""What a relation component relates: which mentions may stand together, and under which label.

spec = replace(spec, candidates=seen_types(spec, train), forward=only_forward(spec, train))
label_of(spec, relation)                    # "CONTAINS", or None where the relation is not its job
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kaggle_kit.core.types import ComponentSpec, Relation, UnifiedSample

ENOUGH = 100  # relations without one against the order of the text: fewer than 3 in 100 others are (95 %)


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
    """(mention ids, label) of everything the component should find: (source, target), or (mention,)."""
    if component.attribute is not None:
        for mention in sample.mentions:
            value = mention.attributes.get(component.attribute)
            if value in component.labels:
                yield (mention.id,), value
        return
    for relation in sample.relations:
        label = label_of(component, relation)
        if label is not None:
            yield (relation.source, relation.target), label


def seen_types(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> tuple[tuple[str, ...], ...]:
    """The mention types that these samples relate, sorted: the only ones that become candidates."""
    seen: set[tuple[str, ...]] = set()
    for sample in samples:
        types = {mention.id: mention.type for mention in sample.mentions}
        seen.update(tuple(types[name] for name in names) for names, _ in labelled(component, sample))
    return tuple(sorted(seen))


def only_forward(component: ComponentSpec, samples: Iterable[UnifiedSample]) -> bool:
    """Whether these samples relate mentions in the order of the text alone, `ENOUGH` times or more.

    Then the other direction is no candidate: a pair that means the same both ways is not asked twice, with
    opposite answers.
    """
    if component.attribute is not None:
        return False
    forward = 0
    for sample in samples:
        places = {mention.id: (mention.start, mention.end) for mention in sample.mentions}
        for (source, target), _ in labelled(component, sample):
            if places[source] > places[target]:
                return False
            forward += 1
    return forward >= ENOUGH
