"""How a candidate pair reads its passage: attention to the tokens, by where they stand from its two mentions.

grid = PairGrid.of(targets, places)
pairs = PairReader()(pairs, tokens, grid)    # (candidates, WIDTH)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kaggle_kit.heads.arrays import repeated
from kaggle_kit.heads.dropout import HEAD_DROPOUT, FastDropout

WIDTH, HEADS = 256, 4
EMBEDDING_STD = 0.3  # normalised states have 1, so no bucket outweighs what is read
PLACES = (-math.inf, -16, -8, -4, -2, -1, 0, 1, 2, 3, 5, 9, 17)  # lower bounds, in tokens from a mention
BLOCK = 32  # pairs of one passage that are computed together, so that its tokens are gathered once for them


def layout(targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lay a micro-batch's candidates out in blocks of one passage each, beside the tokens of that passage.

    It is made beside the data, on the CPU: a GPU would have to be waited for, as often as a tensor's length
    hangs on another's values. There is no block without a candidate.

    block_pairs (blocks, pairs): which candidate; places past a passage's last repeat a candidate
    cells (candidates,): where each candidate stands in the flattened blocks
    block_tokens (blocks, tokens): places in the row; outside, alike: past the end of the passage
    ends (4, blocks, pairs): first and last token of a candidate's source and target
    """
    sizes, starts, lengths = (targets[name] for name in ("sizes", "starts", "lengths"))
    rows = torch.arange(len(sizes))
    blocks = (sizes + BLOCK - 1) // BLOCK
    row = torch.repeat_interleave(rows, blocks)
    block = torch.arange(len(row)) - (blocks.cumsum(0) - blocks)[row]
    place = block[:, None] * BLOCK + torch.arange(min(BLOCK, int(sizes.max())))  # of each pair in its passage
    pairs = ((sizes.cumsum(0) - sizes)[row][:, None] + place).clamp_max(max(0, len(targets["labels"]) - 1))
    along = torch.arange(int(lengths.max()))
    last = lengths[row][:, None] - 1
    return {
        "block_pairs": pairs,
        "cells": (place < sizes[row][:, None]).flatten().nonzero().squeeze(1),
        "block_tokens": starts[row][:, None] + along.minimum(last),
        "outside": along > last,
        "ends": _ends(targets, torch.repeat_interleave(rows, sizes))[:, pairs],
    }


class PairGrid(NamedTuple):
    """The blocks of `layout` on the device, and where every token stands from both ends of every pair."""

    pairs: Tensor  # (blocks, pairs)
    cells: Tensor  # (candidates,)
    tokens: Tensor  # (blocks, tokens)
    outside: Tensor  # (blocks, 1, 1, tokens)
    places: Tensor  # (blocks, pairs, tokens) class of where a token stands from source and target

    @classmethod
    def of(cls, targets: Mapping[str, Tensor], bounds: Tensor) -> PairGrid:
        """Read the layout off the targets; `bounds` are the lower ones of the places."""
        pairs, cells, tokens = (targets[name] for name in ("block_pairs", "cells", "block_tokens"))
        first, last, begin, end = targets["ends"]
        source, target = (_place(tokens, *span, bounds) for span in ((first, last), (begin, end)))
        outside = targets["outside"][:, None, None]
        return cls(pairs, cells, tokens, outside, source * len(bounds) + target)


class PairReader(nn.Module):
    """Each pair attends to the tokens of its passage; then a layer of its own. Both are residual."""

    def __init__(self) -> None:
        super().__init__()
        self.asking_norm, self.own_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.value, self.mixed = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)  # a bias would raise all scores of a pair alike
        self.place = embedding(len(PLACES) ** 2, HEADS)
        self.own = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.dropout = FastDropout(HEAD_DROPOUT)

    def forward(self, pairs: Tensor, tokens: Tensor, grid: PairGrid) -> Tensor:
        """Let each pair attend to its passage: (candidates, WIDTH), (tokens, WIDTH) -> (candidates, WIDTH)"""
        query = repeated(self.query(self.asking_norm(pairs)), grid.pairs.flatten())
        key, value = (repeated(part(tokens), grid.tokens.flatten()) for part in (self.key, self.value))
        query, key, value = (_by_head(part, len(grid.pairs)) for part in (query, key, value))
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        scores = scores + self.place(grid.places).permute(0, 3, 1, 2)
        weights = scores.masked_fill(grid.outside, torch.finfo(scores.dtype).min).softmax(-1)
        seen = (weights.to(value) @ value).transpose(1, 2).reshape(-1, WIDTH).index_select(0, grid.cells)
        pairs = pairs + self.dropout(self.mixed(seen))
        return pairs + self.dropout(self.own(self.own_norm(pairs)))


def embedding(entries: int, width: int) -> nn.Embedding:
    """Return an (entries, width) table drawn with standard deviation `EMBEDDING_STD`."""
    embedding = nn.Embedding(entries, width)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


def _by_head(part: Tensor, blocks: int) -> Tensor:
    """(blocks * places, WIDTH) -> (blocks, HEADS, places, WIDTH // HEADS)"""
    return part.view(blocks, -1, HEADS, WIDTH // HEADS).transpose(1, 2)


def _ends(targets: Mapping[str, Tensor], row: Tensor) -> Tensor:
    """First and last token of each candidate's source and target; the document is its whole passage."""
    begin, end = targets["starts"][row], (targets["starts"] + targets["lengths"])[row] - 1
    document, ends = targets["target"] == len(targets["first"]), []
    for name in ("source", "target"):
        number = targets[name].clamp_max(max(0, len(targets["first"]) - 1))
        whole = document & (name == "target")
        for token, bound in (("first", begin), ("last", end)):
            ends.append(torch.where(whole, bound, targets[token][number]))
    return torch.stack(ends)


def _place(tokens: Tensor, first: Tensor, last: Tensor, bounds: Tensor) -> Tensor:
    """Return the class of each token's signed distance from the mention, which is 0 inside it.

    (blocks, tokens), (blocks, pairs) twice -> (blocks, pairs, tokens)
    """
    tokens = tokens[:, None]
    before, after = (tokens - first[..., None]).clamp_max(0), (tokens - last[..., None]).clamp_min(0)
    return torch.bucketize((before + after).float(), bounds, right=True) - 1
