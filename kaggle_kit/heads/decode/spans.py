"""Fragments and links to mentions, passage by passage.

    rows = split(output, batch.targets)         # then, with those of all rows:
    predicted = decode(component, head, table, outputs, gold, predicted)

A mention belongs to the passage that owns its first word, or, where it reaches beyond that passage, to the
next one that holds it whole: windows of one long stretch share `training.stride` tokens, so only a mention
longer than that can be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, Mention, UnifiedSample
from kaggle_kit.data.passages import answers
from kaggle_kit.heads.span_head import SpanScores

LINKED_FROM = 0.5  # probability from which a link holds


@dataclass(frozen=True)
class Fragments:
    """A passage's fragments in rising order: those kept spans whose best class is a label."""

    words: list[tuple[int, int]]  # [first, last] of the passage
    labels: list[int]  # from 0, places among the component's labels
    scores: list[float]
    links: dict[tuple[int, int], float]  # (first, second) of `words` -> probability, those that hold


def split(output: SpanScores, targets: Mapping[str, Tensor]) -> list[Fragments]:
    """The fragments of each row, in the words of its passage."""
    longest = output.logits.shape[1]
    best, label = output.logits.float().softmax(-1).flatten(0, 1)[output.kept].max(-1)
    passage = targets["passage"].cpu().numpy()
    kept, pairs = output.kept.cpu().numpy(), output.pairs.cpu().numpy()
    label, best = label.cpu().numpy(), best.cpu().numpy()
    links = output.links.float().sigmoid().cpu().numpy()
    rows = [Fragments([], [], [], {}) for _ in targets["sizes"]]
    offsets = (targets["sizes"].cumsum(0) - targets["sizes"]).tolist()
    place = np.full(len(kept), -1)
    for number in np.flatnonzero(label):
        word, length = divmod(int(kept[number]), longest)
        row, offset = rows[passage[word]], offsets[passage[word]]
        place[number] = len(row.words)
        row.words.append((word - offset, word - offset + length))
        row.labels.append(int(label[number]) - 1)
        row.scores.append(float(best[number]))
    holds = (label[pairs] > 0).all(1) & (label[pairs[:, 0]] == label[pairs[:, 1]]) & (links >= LINKED_FROM)
    for (first, second), score in zip(pairs[holds], links[holds], strict=True):
        row = rows[passage[kept[first] // longest]]
        row.links[int(place[first]), int(place[second])] = float(score)
    return rows


def decode(
    component: ComponentSpec,
    head: nn.Module,
    table: Mapping[str, Any],
    outputs: Sequence[Fragments],
    gold: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> list[UnifiedSample]:
    """The samples with the mentions that the linked fragments make."""
    mentions = [list(sample.mentions) for sample in predicted]
    columns = (table[name] for name in ("document", "word_starts", "word_ends", "owned", "carried", "seen"))
    for document, starts, ends, owned, carried, seen, fragments in zip(*columns, outputs, strict=True):
        for group in groups(range(len(fragments.words)), fragments.links):
            words = [fragments.words[place] for place in group]
            first, last = words[0][0], max(last for _, last in words)
            if answers(owned, carried, seen, first, last):
                mentions[document].append(
                    Mention(
                        f"T{len(mentions[document]) + 1}",
                        tuple((int(starts[first]), int(ends[last])) for first, last in words),
                        component.labels[fragments.labels[group[0]]],
                        score=_score(group, fragments),
                    )
                )
    return [replace(sample, mentions=tuple(found)) for sample, found in zip(predicted, mentions, strict=True)]


def groups(fragments: Iterable[int], links: Mapping[tuple[int, int], float]) -> Iterator[tuple[int, ...]]:
    """The sets of fragments that are mentions, each in rising order.

    A fragment linked to itself, or to nothing, is a mention alone. For the others each link is grown to
    a set in which all are linked, the likeliest link first, until every link is in one: where gold
    mentions are such sets this gives them back, and its cost is polynomial whatever the links are.
    """
    partners: dict[int, set[int]] = {fragment: set() for fragment in fragments}
    for first, second in links:
        partners[first].add(second)
        partners[second].add(first)
    for fragment, others in partners.items():
        if not others or fragment in others:
            yield (fragment,)
    covered: set[tuple[int, int]] = set()
    for first, second in sorted(links, key=lambda link: (-links[link], link)):
        if first == second or (first, second) in covered:
            continue
        group = {first, second}
        for fragment in sorted((partners[first] & partners[second]) - group):
            if group <= partners[fragment]:
                group.add(fragment)
        members = tuple(sorted(group))
        covered.update((a, b) for a in members for b in members if a < b)
        yield members


def _score(group: Sequence[int], fragments: Fragments) -> float:
    """The product of what the mention rests on: its fragments' probabilities and its links'."""
    score = float(np.prod([fragments.scores[place] for place in group]))
    for place, first in enumerate(group):
        for second in group[place + 1 :]:
            score *= fragments.links[first, second]
    return score
