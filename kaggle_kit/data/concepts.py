"""Relations that hold between concepts of a document, whichever of their mentions stand where.

PubTator's do (`CID` of BC5CDR, all of BioRED). A reader links one to the first mention of either concept and
keeps the two as the attribute `CONCEPTS`; here it is taken back to all their mentions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from kaggle_kit.core.types import Mention, Relation, UnifiedSample

CONCEPTS = "concepts"
# Types of relation that hold between two concepts whichever is named first: all of BioRED (Luo et al. 2022).
# CID is none of them: a chemical induces a disease.
UNDIRECTED = frozenset(
    ("Association", "Positive_Correlation", "Negative_Correlation", "Bind", "Cotreatment", "Comparison")
    + ("Drug_Interaction", "Conversion")
)


def of_concepts(relation: Relation) -> bool:
    """Whether the relation was read as one between concepts."""
    return CONCEPTS in relation.attributes


def related_concepts(relation: Relation, mentions: Mapping[str, Mention]) -> list[tuple[str, str]]:
    """The concept pairs of a relation: the one it was read with, else all of its two mentions'.

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
    """The two ends of a relation of this type, always in one order where the type is `UNDIRECTED`."""
    return (min(ends, key=str), max(ends, key=str)) if kind in UNDIRECTED else ends


def mention_pairs(relation: Relation, mentions: Mapping[str, Mention]) -> list[tuple[str, str]]:
    """The ids of all pairs of mentions of the relation's two concepts, in the order of the mentions.

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
    """The predicted sample whose mentions have the concepts of gold's, where place and type are equal.

    For figures that compare the steps of one training, before any concept is predicted.
    """
    known = {(mention.fragments, mention.type): mention.concepts for mention in gold.mentions}
    mentions = (replace(m, concepts=known.get((m.fragments, m.type), ())) for m in predicted.mentions)
    return replace(predicted, mentions=tuple(mentions))
