"""Relations between the mentions of a passage, every candidate pair scored from one encoding.

    head = RelationExtractionHead(component, hidden_size=384)

Every token carries a marker of the mention types that it stands in. A pair begins as
[source; target; source * target; distance] and then reads its passage: it attends to the tokens, each
known by where it stands from source and target. So a pair sees what typed markers around its two mentions
would show, after Zhou & Chen 2022, and no token sees a pair, as with the levitated markers of Zhong &
Chen 2021 and Ye et al. 2022. The relation of an event to the document time is a pair too: its target is a
learnt document node that stands everywhere in the passage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec
from kaggle_kit.heads.dropout import FastDropout
from kaggle_kit.models.packing import repeated

WIDTH, HEADS, READERS = 256, 4, 2
EMBEDDING_STD = 0.3  # normalised states have 1, so no bucket outweighs what is read
DISTANCES = (-math.inf, -32, -16, -8, -4, -2, 0, 1, 2, 4, 8, 16, 32)  # lower bounds of the classes, in words
PLACES = (-math.inf, -16, -8, -4, -2, -1, 0, 1, 2, 3, 5, 9, 17)  # the same, in tokens from a mention
BLOCK = 32  # pairs of one passage that are computed together, so that its tokens are gathered once for them
UNDECIDED = 0.5  # P(no relation) below which there is one, until development data say better


class RelationExtractionHead(nn.Module):
    """Logits of `no relation` and of each label, per candidate.

    `thresholds` are kept with the weights: `heads/thresholds.py` chooses them, the decoder reads them.
    """

    def __init__(self, component: ComponentSpec, hidden_size: int, dropout: float = 0.1) -> None:
        super().__init__()
        types = {name for names in component.candidates for name in names}
        self.norm = nn.LayerNorm(hidden_size)
        self.token = nn.Linear(hidden_size, WIDTH)
        self.marker = _embedding(max(1, len(types)), WIDTH)
        self.mention = nn.Linear(3 * WIDTH, WIDTH)
        self.node_norm = nn.LayerNorm(WIDTH)
        self.document = nn.Parameter(torch.zeros(1, WIDTH))
        self.source = nn.Linear(WIDTH, WIDTH)
        self.target = nn.Linear(WIDTH, WIDTH, bias=False)
        self.product = nn.Linear(WIDTH, WIDTH, bias=False)
        self.distance = _embedding(len(DISTANCES), WIDTH)
        self.readers = nn.ModuleList(PairReader(dropout) for _ in range(READERS))
        self.pair_norm = nn.LayerNorm(WIDTH)
        self.score = nn.Linear(WIDTH, 1 + len(component.labels))
        self.dropout = FastDropout(dropout)
        self.register_buffer("distances", torch.tensor(DISTANCES), persistent=False)
        self.register_buffer("places", torch.tensor(PLACES), persistent=False)
        self.register_buffer("thresholds", torch.full((3,), UNDECIDED))  # all of dev, its halves 0 and 1

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(tokens, hidden) -> (candidates, classes), class 0 is no relation"""
        tokens = self.token(self.dropout(self.norm(hidden.float()))) + self._markers(hidden, targets)
        pairs = self._pairs(self._nodes(tokens, targets), targets)
        if len(pairs):
            grid = PairGrid.of(targets, self.places)
            for reader in self.readers:
                pairs = reader(pairs, tokens, grid)
        return self.score(self.dropout(F.gelu(self.pair_norm(pairs))))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over the candidates, weighed as `data/candidates.class_weights` says.

        It is averaged over candidates.
        """
        none, relation = targets["weights"].to(logits)
        weights = torch.where(targets["labels"] > 0, relation, none)
        return (weights * F.cross_entropy(logits, targets["labels"], reduction="none")).sum()

    def _markers(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The sum of the embeddings of the types that a token stands in: (tokens, WIDTH)"""
        lengths = targets["last"] - targets["first"] + 1
        inside = torch.repeat_interleave(targets["first"] - lengths.cumsum(0) + lengths, lengths)
        inside = inside + torch.arange(len(inside), device=hidden.device)
        marked = hidden.new_zeros(len(hidden), self.marker.num_embeddings, dtype=torch.float32)
        marked[inside, torch.repeat_interleave(targets["types"], lengths)] = 1.0
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
        ends = repeated(self.source(nodes), targets["source"]) + repeated(
            self.target(nodes), targets["target"]
        )
        return ends + self.product(source * target) + self.distance(bucket)


@dataclass(frozen=True)
class PairGrid:
    """The candidates in blocks of one passage each, beside the tokens of that passage."""

    pairs: Tensor  # (blocks, pairs) which candidate; places past a passage's last repeat a candidate
    cells: Tensor  # (candidates,) where each candidate stands in the flattened blocks
    tokens: Tensor  # (blocks, tokens) places in the row
    outside: Tensor  # (blocks, 1, 1, tokens) past the end of the passage
    places: Tensor  # (blocks, pairs, tokens) class of where a token stands from source and target

    @classmethod
    def of(cls, targets: dict[str, Tensor], bounds: Tensor) -> PairGrid:
        sizes, starts, lengths = (targets[name] for name in ("sizes", "starts", "lengths"))
        rows = torch.arange(len(sizes), device=sizes.device)
        blocks = (sizes + BLOCK - 1) // BLOCK
        row = torch.repeat_interleave(rows, blocks)
        block = torch.arange(len(row), device=sizes.device) - (blocks.cumsum(0) - blocks)[row]
        across = torch.arange(min(BLOCK, int(sizes.max())), device=sizes.device)
        first = (sizes.cumsum(0) - sizes)[row] + block * BLOCK
        pairs = (first[:, None] + across).clamp_max(len(targets["labels"]) - 1)
        real = block[:, None] * BLOCK + across < sizes[row][:, None]
        along = torch.arange(int(lengths.max()), device=sizes.device)
        tokens = starts[row][:, None] + along.minimum(lengths[row][:, None] - 1)
        outside = (along >= lengths[row][:, None])[:, None, None]
        ends = _spans(targets, torch.repeat_interleave(rows, sizes))
        source, target = (_place(tokens, *(end[pairs] for end in span), bounds) for span in ends)
        cells = real.flatten().nonzero().squeeze(1)
        return cls(pairs, cells, tokens, outside, source * len(bounds) + target)


class PairReader(nn.Module):
    """Each pair attends to the tokens of its passage; then a layer of its own. Both are residual."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.asking_norm, self.own_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.value, self.mixed = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)  # a bias would raise all scores of a pair alike
        self.place = _embedding(len(PLACES) ** 2, HEADS)
        self.own = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.dropout = FastDropout(dropout)

    def forward(self, pairs: Tensor, tokens: Tensor, grid: PairGrid) -> Tensor:
        """(candidates, WIDTH), (tokens, WIDTH) -> (candidates, WIDTH)"""
        query = repeated(self.query(self.asking_norm(pairs)), grid.pairs.flatten())
        key, value = (repeated(part(tokens), grid.tokens.flatten()) for part in (self.key, self.value))
        query, key, value = (_by_head(part, len(grid.pairs)) for part in (query, key, value))
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        scores = scores + self.place(grid.places).permute(0, 3, 1, 2)
        weights = scores.masked_fill(grid.outside, torch.finfo(scores.dtype).min).softmax(-1)
        seen = (weights.to(value) @ value).transpose(1, 2).reshape(-1, WIDTH).index_select(0, grid.cells)
        pairs = pairs + self.dropout(self.mixed(seen))
        return pairs + self.dropout(self.own(self.own_norm(pairs)))


def _embedding(entries: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(entries, width)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


def _by_head(part: Tensor, blocks: int) -> Tensor:
    """(blocks * places, WIDTH) -> (blocks, HEADS, places, WIDTH // HEADS)"""
    return part.view(blocks, -1, HEADS, WIDTH // HEADS).transpose(1, 2)


def _spans(targets: dict[str, Tensor], row: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(first token, last token) of each candidate's source and target; the document is its whole passage."""
    begin, end = targets["starts"][row], (targets["starts"] + targets["lengths"])[row] - 1
    document, spans = targets["target"] == len(targets["first"]), []
    for name in ("source", "target"):
        number = targets[name].clamp_max(max(0, len(targets["first"]) - 1))
        first, last = targets["first"][number], targets["last"][number]
        whole = document & (name == "target")
        spans.append((torch.where(whole, begin, first), torch.where(whole, end, last)))
    return spans


def _place(tokens: Tensor, first: Tensor, last: Tensor, bounds: Tensor) -> Tensor:
    """(blocks, tokens), (blocks, pairs) twice -> (blocks, pairs, tokens): the class of the signed distance

    from the mention to each token, 0 inside it.
    """
    tokens = tokens[:, None]
    before, after = (tokens - first[..., None]).clamp_max(0), (tokens - last[..., None]).clamp_min(0)
    return torch.bucketize((before + after).float(), bounds, right=True) - 1
