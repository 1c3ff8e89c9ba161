"""Class scores of candidate pairs to relations between the predicted sample's own mentions.

rows = split(output, batch.targets)         # then, with those of all rows:
predicted = decode(component, head, table, outputs, gold, predicted)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, Relation, UnifiedSample
from kaggle_kit.data.targets.arrays import table as records
from kaggle_kit.data.targets.relations import CANDIDATE, MENTION


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
    """The samples with a relation, or an attribute, wherever `no relation` is not the likeliest class."""
    found: list[list[tuple[int, int, str, float]]] = [[] for _ in predicted]
    columns = (table[f"{name}:{component.name}"] for name in ("mentions", "candidates"))
    for document, mentions, candidates, scores in zip(table["document"], *columns, outputs, strict=True):
        found[document] += _labelled(component, mentions, candidates, scores)
    write = _with_attributes if component.attribute is not None else _with_relations
    return [write(component, sample, links) for sample, links in zip(predicted, found, strict=True)]


def _labelled(
    component: ComponentSpec, mentions: Any, candidates: Any, scores: Tensor
) -> Iterator[tuple[int, int, str, float]]:
    """(source, target, label, probability), places among the sample's mentions."""
    numbers = records(mentions, MENTION)[:, 0]
    ends = records(candidates, CANDIDATE)[:, :2]
    probabilities, classes = scores.softmax(-1).max(-1)
    for (source, target), probability, label in zip(
        ends, probabilities.tolist(), classes.tolist(), strict=True
    ):
        if label:
            yield int(numbers[source]), int(numbers[target]), component.labels[label - 1], probability


def _with_relations(
    component: ComponentSpec, sample: UnifiedSample, found: Sequence[tuple[int, int, str, float]]
) -> UnifiedSample:
    relations = list(sample.relations)
    for source, target, label, score in sorted(found):
        ends = sample.mentions[source].id, sample.mentions[target].id
        name = f"R{len(relations) + 1}"
        if component.relation_attribute is None:
            relations.append(Relation(name, label, *ends, score=score))
        else:
            attributes = {component.relation_attribute: label}
            relations.append(
                Relation(name, component.relation_type, *ends, attributes=attributes, score=score)
            )
    return replace(sample, relations=tuple(relations))


def _with_attributes(
    component: ComponentSpec, sample: UnifiedSample, found: Sequence[tuple[int, int, str, float]]
) -> UnifiedSample:
    mentions = list(sample.mentions)
    for number, _, label, _ in found:
        attributes = {**mentions[number].attributes, component.attribute: label}
        mentions[number] = replace(mentions[number], attributes=attributes)
    return replace(sample, mentions=tuple(mentions))
