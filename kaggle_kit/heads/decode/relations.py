"""Class scores of candidate pairs to relations between the predicted sample's own mentions.

rows = split(output, batch.targets)         # then, with those of all rows:
predicted = decode(component, head, table, outputs, gold, predicted)

Two questions are asked in turn: is there a relation, by P(none) against the head's threshold, and which is
the likeliest? One arg-max over `none` and the labels would say no where the labels share P(relation) > 1/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, Relation, UnifiedSample
from kaggle_kit.heads.arrays import table as records
from kaggle_kit.heads.targets.relations import CANDIDATE, DOCUMENT, MENTION
from kaggle_kit.heads.thresholds import threshold_of


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
    numbers = records(mentions, MENTION)[:, 0]
    ends = records(candidates, CANDIDATE)[:, :2]
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
