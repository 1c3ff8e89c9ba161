"""Span classification: fragments first, then which of them make a mention together.

    head = SpanClassificationHead(component, hidden_size=384)

Every span of up to `max_span_length` words is represented by [start; end; width] and classified; the
best are kept, and links are scored between those of one passage that stand close together. After Lee et
al. 2017 (span representation, pruning) and Li et al. 2021 (mentions as sets of linked fragments). A
fragment's link to itself says that it is a mention alone, so mentions may overlap, nest and share fragments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec
from kaggle_kit.heads.dropout import FastDropout

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

    def __init__(self, component: ComponentSpec, hidden_size: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.longest = component.max_span_length
        self.dropout = FastDropout(dropout)
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
        """(tokens, hidden) -> scores of (words, length) spans and of the kept ones' links"""
        words = self.dropout(hidden.index_select(0, targets["index"]).float())
        spans = self._spans(words)  # (words, length, WIDTH)
        logits = self.label(spans)
        kept = self._kept(logits.detach(), targets)
        passage = targets["passage"].index_select(0, kept // self.longest)
        pairs = _pairs(passage)
        links = self._links(spans.flatten(0, 1).index_select(0, kept), kept, pairs)
        return SpanScores(logits, kept, pairs, links)

    def loss(self, scores: SpanScores, targets: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the spans plus binary cross-entropy of the kept ones' links, both summed.

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
        steps = torch.arange(self.longest, device=logits.device)
        ends = torch.arange(len(logits), device=logits.device)[:, None] + steps
        inside = (ends < targets["stop"][:, None]).flatten().nonzero().squeeze(1)
        odds = logits[..., 1:].logsumexp(-1) - logits[..., 0]
        if self.training:
            odds = odds.masked_fill(targets["labels"] > 0, torch.finfo(odds.dtype).max)
        passage = targets["passage"].index_select(0, inside // self.longest)
        limits = (KEPT_PER_WORD * targets["sizes"]).ceil().clamp_min(KEPT_AT_LEAST)
        best = odds.flatten().index_select(0, inside).argsort(descending=True, stable=True)
        best = best[passage[best].argsort(stable=True)]  # passage by passage, each best first
        place = torch.arange(len(best), device=best.device) - _starts(passage)
        return inside[best[place < limits[passage]]].sort().values

    def _links(self, spans: Tensor, kept: Tensor, pairs: Tensor) -> Tensor:
        """(kept, WIDTH), (pairs, 2) -> (pairs,)"""
        first, second = pairs.unbind(1)
        start, stop = kept // self.longest, kept // self.longest + kept % self.longest + 1
        gap = torch.bucketize((start[second] - stop[first]).float(), self.gaps, right=True) - 1
        gap = torch.where(first == second, len(GAPS), gap)
        left, right = self.first(spans), self.second(spans)
        return self.link(F.gelu(left[first] + right[second] + self.gap(gap))).squeeze(-1)


def _starts(passage: Tensor) -> Tensor:
    """Where the passage of each element begins; passages are in rising order. (n,) -> (n,)"""
    return torch.searchsorted(passage, passage)


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
