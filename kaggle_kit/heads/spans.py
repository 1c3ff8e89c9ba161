"""Span classification: fragments first, then which of them make a mention together.

    head = SpanClassificationHead(component, hidden_size=384)
    targets = tensors(component, rows, starts)
    # index, passage, owned (words,) · labels (words, length) · links (gold, 2) · sizes (rows,) words
    # inside (spans,) · best (kept,) · pairs (pairs, 2), see `layout`

Every span of up to `max_span_length` words is represented by [start; end; width] and classified; the
best are kept, and links are scored between those of one passage that stand close together. After Lee et
al. 2017 (span representation, pruning) and Li et al. 2021 (mentions as sets of linked fragments). A
fragment's link to itself says that it is a mention alone, so mentions may overlap, nest and share fragments.

A span is numbered `word * max_span_length + length - 1`. `labels` are 0 for no fragment, -1 for spans
that do not count: longer than the passage, or another's to answer for (`Passage.answers`). `links` join
the fragments of one mention, first before second; a mention in one piece is a link of its fragment to
itself.

A mention belongs to the passage that owns its first word, or, where it reaches beyond that passage, to the
next one that holds it whole: windows of one long stretch share `training.stride` tokens, so only a mention
longer than that can be lost.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, Mention, UnifiedSample
from kaggle_kit.data.passages import Passage, answers
from kaggle_kit.heads.arrays import Columns, Records, Scored, before, flat, long, table
from kaggle_kit.heads.dropout import HEAD_DROPOUT, FastDropout


def features(component: ComponentSpec) -> dict[str, str]:
    """Return the names and Arrow types of the component's columns in a token file."""
    names = (f"fragments:{component.name}", f"links:{component.name}")
    return dict.fromkeys(names, "int32[]")


def columns(component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample) -> Records:
    """Yield flat records per passage: fragments (span, label) and links (span, span).

    A mention that is not whole inside the passage, or has a fragment longer than `max_span_length`
    words, is left out. Of two labels on one span the first of the component's counts.
    """
    mentions = [mention for mention in sample.mentions if mention.type in component.labels]
    mentions.sort(key=lambda mention: component.labels.index(mention.type))
    for passage in sequences:
        labels: dict[int, int] = {}
        links: set[tuple[int, int]] = set()
        for mention in mentions:
            spans = _spans(mention, passage, component.max_span_length)
            for span in _answered(spans, passage, component.max_span_length):
                labels.setdefault(span, 1 + component.labels.index(mention.type))
            links.update(combinations(spans, 2) if len(spans) > 1 else [(span, span) for span in spans])
        yield {
            f"fragments:{component.name}": [number for record in sorted(labels.items()) for number in record],
            f"links:{component.name}": [number for record in sorted(links) for number in record],
        }


def _spans(mention: Mention, passage: Passage, longest: int) -> list[int]:
    """Numbers of the mention's fragments in the passage, rising; empty where one does not fit."""
    if not passage.holds(mention.fragments):
        return []
    words = [passage.words_in(start, end) for start, end in mention.fragments]
    if any(stop - first > longest for first, stop in words):
        return []
    return sorted({first * longest + stop - first - 1 for first, stop in words})


def _answered(spans: Sequence[int], passage: Passage, longest: int) -> Sequence[int]:
    """All fragments of a mention where the passage answers for it or for one of them, else none.

    So a fragment that the passage answers for is never seen without those that make it part of a mention.
    """
    ends = [(span // longest, span // longest + span % longest) for span in spans]
    ends += [(ends[0][0], max(last for _, last in ends))] if ends else []
    return spans if any(passage.answers(first, last) for first, last in ends) else []


def tensors(component: ComponentSpec, rows: Columns, starts: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of a micro-batch whose rows begin at `starts`, by the names above."""
    longest = component.max_span_length
    sizes = np.array([len(words) for words in rows["word_tokens"]])
    offsets = before(sizes)  # words before each passage
    passage: np.ndarray = np.repeat(np.arange(len(sizes)), sizes)
    stop = (offsets + sizes)[passage]
    owned, carried, seen = (flat(rows[name]) > 0 for name in ("owned", "carried", "seen"))
    ends = np.arange(len(stop))[:, None] + np.arange(longest)  # (words, length) last word of each span
    inside = ends < stop[:, None]
    beyond = carried[:, None] & ~seen[ends.clip(max=len(stop) - 1)]
    labels = np.where(inside & (owned[:, None] | beyond), 0, -1)
    for row, offset in zip(rows[f"fragments:{component.name}"], offsets, strict=True):
        spans, classes = table(row, 2).T
        spans = spans + offset * longest
        counts = np.append(inside, False)[np.minimum(spans, inside.size)]  # a cut passage knows more words
        labels.flat[spans[counts]] = classes[counts]
    pairs = zip(rows[f"links:{component.name}"], offsets, strict=True)
    tokens = zip(rows["word_tokens"], starts, strict=True)
    return {
        "index": long(flat(words + start for words, start in tokens)),
        "passage": long(passage),
        "owned": long(owned),
        "labels": long(labels),
        "links": long(flat(np.asarray(row) + offset * longest for row, offset in pairs).reshape(-1, 2)),
        "sizes": long(sizes),
    } | layout(long(sizes), longest)


def layout(sizes: Tensor, longest: int) -> dict[str, Tensor]:
    """Say which spans lie inside their passage, how many of them are kept, and which pairs these form.

    All of it follows from the passages' words. Here it is made beside the data, on the CPU: a GPU would have
    to be waited for, as often as a tensor's length hangs on another's values.
    """
    passage = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    ends = torch.arange(len(passage))[:, None] + torch.arange(longest)
    inside = (ends < sizes.cumsum(0)[passage][:, None]).flatten().nonzero().squeeze(1)
    passage = passage[inside // longest]  # rising, so each is found where it begins
    place = torch.arange(len(inside)) - torch.searchsorted(passage, passage)
    limits = (KEPT_PER_WORD * sizes).ceil().clamp_min(KEPT_AT_LEAST)
    best = (place < limits[passage]).nonzero().squeeze(1)  # places among all, passage by passage, best first
    return {"inside": inside, "best": best, "pairs": _pairs(passage[best])}


def count(targets: Mapping[str, Tensor]) -> int:
    """Count the owned words: a word answers for the spans it begins, so the loss reads as nats per word."""
    return int(targets["owned"].sum())


WIDTH = 128  # of a span's representation
KEPT_PER_WORD, KEPT_AT_LEAST = 0.4, 8  # spans kept of a passage
PARTNERS = 16  # kept spans behind a span that may be linked to it: at 0.4 a word, all of the next 40 words
RARE = 0.02  # how likely a fragment or a link is before training: Lin et al. 2017
GAPS = (-math.inf, 1, 2, 3, 5, 9, 17, 33)  # lower bounds, in words, of the gap's classes


class SpanScores(NamedTuple):
    """`kept` numbers spans as `word * max_span_length + length - 1`, rising; `pairs` are places in it."""

    logits: Tensor  # (words, length, classes), class 0 is no fragment
    kept: Tensor  # (kept,)
    pairs: Tensor  # (pairs, 2) first <= second, both of one passage
    links: Tensor  # (pairs,) logits


class SpanClassificationHead(nn.Module):
    """Scores of all spans, and of the links between the kept ones.

    Linear layers over concatenations are applied part by part and added, so nothing larger than
    (words * length, WIDTH) or (pairs, WIDTH) is ever built.
    """

    def __init__(self, component: ComponentSpec, hidden_size: int) -> None:
        super().__init__()
        self.longest = component.max_span_length
        self.dropout = FastDropout(HEAD_DROPOUT)
        self.start = nn.Linear(hidden_size, WIDTH)
        self.end = nn.Linear(hidden_size, WIDTH, bias=False)
        self.width = nn.Embedding(self.longest, WIDTH)
        self.label = nn.Linear(WIDTH, 1 + len(component.labels))
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gap = nn.Embedding(1 + len(GAPS), WIDTH)  # the last one: a span with itself
        self.link = nn.Linear(WIDTH, 1)
        self.register_buffer("gaps", torch.tensor(GAPS), persistent=False)
        with torch.no_grad():
            self.label.bias.zero_()[0] = math.log(len(component.labels) * (1 - RARE) / RARE)
            self.link.bias.fill_(math.log(RARE / (1 - RARE)))

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> SpanScores:
        """Score spans and links: (tokens, hidden) -> (words, length, classes) and (pairs,)"""
        words = self.dropout(hidden.index_select(0, targets["index"]).float())
        spans = self._spans(words)  # (words, length, WIDTH)
        logits = self.label(spans)
        kept = self._kept(logits.detach(), targets)
        links = self._links(spans.flatten(0, 1).index_select(0, kept), kept, targets["pairs"])
        return SpanScores(logits, kept, targets["pairs"], links)

    def loss(self, scores: SpanScores, targets: dict[str, Tensor]) -> Tensor:
        """Sum the cross-entropy of the spans and the binary cross-entropy of the kept ones' links.

        Only spans that have a label count, and links that begin with one. It is averaged over owned words:
        nats per word for the joint decision which spans begin there and which others they are linked to, as
        a tagger's loss is nats per word for its tag. A word has as many terms however long its passage is,
        since a span has at most `PARTNERS` links, and `RARE` keeps them small before training. So at the
        start the loss is 0.35 to 0.7 of a tagger's on the same words.
        """
        spans = F.cross_entropy(
            scores.logits.flatten(0, 1), targets["labels"].flatten(), ignore_index=-1, reduction="sum"
        )
        first, second = scores.kept[scores.pairs].unbind(1)
        every = targets["labels"].numel()
        linked = torch.isin(first * every + second, targets["links"][:, 0] * every + targets["links"][:, 1])
        counts = targets["labels"].flatten().index_select(0, first) >= 0
        return spans + F.binary_cross_entropy_with_logits(
            scores.links, linked.to(scores.links.dtype), weight=counts.to(scores.links.dtype), reduction="sum"
        )

    def _spans(self, words: Tensor) -> Tensor:
        """[start; end; width] through one layer. (words, hidden) -> (words, length, WIDTH)"""
        steps = torch.arange(self.longest, device=words.device)
        last = (torch.arange(len(words), device=words.device)[:, None] + steps).clamp_max(len(words) - 1)
        return F.gelu(self.start(words)[:, None] + self.end(words)[last] + self.width.weight)

    def _kept(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Numbers of each passage's best spans; in training the gold fragments come first."""
        odds, inside = logits[..., 1:].logsumexp(-1) - logits[..., 0], targets["inside"]
        if self.training:
            odds = odds.masked_fill(targets["labels"] > 0, torch.finfo(odds.dtype).max)
        passage = targets["passage"].index_select(0, inside // self.longest)
        best = odds.flatten().index_select(0, inside).argsort(descending=True, stable=True)
        best = best[passage[best].argsort(stable=True)]  # passage by passage, each best first
        return inside[best[targets["best"]]].sort().values

    def _links(self, spans: Tensor, kept: Tensor, pairs: Tensor) -> Tensor:
        """(kept, WIDTH), (pairs, 2) -> (pairs,)"""
        first, second = pairs.unbind(1)
        start, stop = kept // self.longest, kept // self.longest + kept % self.longest + 1
        gap = torch.bucketize((start[second] - stop[first]).float(), self.gaps, right=True) - 1
        gap = torch.where(first == second, len(GAPS), gap)
        left, right = self.first(spans), self.second(spans)
        return self.link(F.gelu(left[first] + right[second] + self.gap(gap))).squeeze(-1)


def _pairs(passage: Tensor) -> Tensor:
    """Each (first, second) of one passage, second being first or one of the `PARTNERS` behind it.

    (kept,) rising -> (pairs, 2)
    """
    places = torch.arange(len(passage), device=passage.device)
    partners = torch.searchsorted(passage, passage, right=True) - places  # itself and those behind it
    partners = partners.clamp_max(1 + PARTNERS)
    first = torch.repeat_interleave(places, partners)
    begin = torch.repeat_interleave(partners.cumsum(0) - partners, partners)
    return torch.stack([first, first + torch.arange(len(first), device=passage.device) - begin], dim=1)


HEAD = SpanClassificationHead
LINKED_FROM = 0.5  # probability from which a link holds


@dataclass(frozen=True)
class Fragments:
    """A passage's fragments in rising order: those kept spans whose best class is a label."""

    words: list[tuple[int, int]]  # [first, last] of the passage
    labels: list[int]  # from 0, places among the component's labels
    scores: list[float]
    links: dict[tuple[int, int], float]  # (first, second) of `words` -> probability, those that hold


def split(output: SpanScores, targets: Mapping[str, Tensor]) -> list[Fragments]:
    """Return the fragments of each row, in the words of its passage."""
    longest = output.logits.shape[1]
    best, label = output.logits.float().softmax(-1).flatten(0, 1)[output.kept].max(-1)
    links = output.links.float().sigmoid()
    passage, kept, pairs, label, best, links = (
        part.cpu().numpy() for part in (targets["passage"], output.kept, output.pairs, label, best, links)
    )
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


def decode(component: ComponentSpec, head: nn.Module, scored: Scored) -> list[UnifiedSample]:
    """Add the mentions that the linked fragments make to the samples."""
    mentions = [list(sample.mentions) for sample in scored.predicted]
    names = ("document", "word_starts", "word_ends", "owned", "carried", "seen")
    columns = (scored.table[name] for name in names)
    for document, starts, ends, owned, carried, seen, fragments in zip(*columns, scored.outputs, strict=True):
        for group in groups(range(len(fragments.words)), fragments.links):
            words = [fragments.words[place] for place in group]
            first, last = words[0][0], max(last for _, last in words)
            if answers(owned, carried, seen, first, last):
                name = f"T{len(mentions[document]) + 1}"
                places = tuple((int(starts[begin]), int(ends[end])) for begin, end in words)
                label = component.labels[fragments.labels[group[0]]]
                mentions[document].append(Mention(name, places, label, score=_score(group, fragments)))
    samples = zip(scored.predicted, mentions, strict=True)
    return [replace(sample, mentions=tuple(found)) for sample, found in samples]


def groups(fragments: Iterable[int], links: Mapping[tuple[int, int], float]) -> Iterator[tuple[int, ...]]:
    """Yield the sets of fragments that are mentions, each in rising order.

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
        covered.update(combinations(members, 2))
        yield members


def _score(group: Sequence[int], fragments: Fragments) -> float:
    """Return the product of the probabilities of the mention's fragments and links."""
    score = float(np.prod([fragments.scores[place] for place in group]))
    return math.prod((fragments.links[pair] for pair in combinations(group, 2)), start=score)
