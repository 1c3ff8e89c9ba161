"""Sequences without padding: one flat row of real tokens, attention kept inside each sequence.

    layout = PackedLayout.of([31, 30, 12], causal=True)     # lengths, longest first
    hidden = backbone(input_ids[None], position_ids=layout.position_ids[None], packed=layout)

Linear layers, where nearly all the work of short clinical text is, see real tokens only; attention
(`attention.py`) works on small groups of sequences of similar length, padded inside the group.

A token that looks backwards only has the same state in all sequences that begin alike. So where
attention is causal, a beginning that sequences share, say the question of ten candidates, is read once:

    layout = PackedLayout.of([31, 30], causal=True, prefixes=[WHOLE, Prefix(of=0, tokens=20)])
    layout.fold(input_ids)      # (61,) -> (41,): what the backbone reads
    layout.unfold(hidden)       # (41, width) -> (61, width): the states of both sequences
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models.grids import Cells, Group, Piece

SHORTEST_IN_GROUP = 0.65  # of the group's longest; below, a new group costs less than its padding


@dataclass(frozen=True)
class PackedLayout:
    """How the row of tokens that a backbone reads splits into sequences."""

    lengths: tuple[int, ...]  # own tokens of each sequence, in the row's order
    position_ids: Tensor  # (tokens,)
    groups: tuple[Group, ...]
    causal: bool
    read: Tensor | None  # (tokens,) which of the batch's tokens the row holds; None: all of them
    places: Tensor | None  # (the batch's tokens,) where the state of each stands; None: as in the batch
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        *,
        causal: bool,
        prefixes: Sequence[Prefix] = (),
        device: torch.device | str = "cpu",
    ) -> PackedLayout:
        """The layout of sequences in the given order; descending lengths give the fewest groups.

        `prefixes`, one per sequence, tell what it shares; only causal attention makes use of them.
        """
        prefixes = prefixes if causal and prefixes else [WHOLE] * len(lengths)
        order, own = reading_order(lengths, prefixes)
        first = dict(zip(order, accumulate(own, initial=0), strict=False))
        pieces: list[Piece] = []
        for number, (length, prefix) in enumerate(zip(lengths, prefixes, strict=True)):
            mine = first[number] + torch.arange(length - prefix.tokens)
            shared = pieces[prefix.of].places[: prefix.tokens] if prefix.tokens else mine[:0]
            pieces.append(Piece(torch.cat([shared, mine]), prefix.tokens))
        row = [pieces[number] for number in order]
        ends = accumulate(map(len, grouped(own)), initial=0)
        groups = tuple(Group.of(row[start:end]) for start, end in pairwise(ends))
        positions = torch.cat([torch.arange(piece.shared, len(piece.places)) for piece in row]).to(device)
        if not any(piece.shared for piece in pieces):
            return cls(tuple(own), positions, groups, causal, None, None)
        places = torch.cat([piece.places for piece in pieces])
        start = list(accumulate(lengths, initial=0))
        read = torch.cat([start[n] + torch.arange(pieces[n].shared, lengths[n]) for n in order])
        return cls(tuple(own), positions, groups, causal, read.to(device), places.to(device))

    @property
    def shares(self) -> bool:
        return self.places is not None

    def fold(self, tokens: Tensor) -> Tensor:
        """(the batch's tokens,) -> (tokens,): what is shared comes once"""
        return tokens if self.read is None else tokens.index_select(0, self.read)

    def unfold(self, states: Tensor) -> Tensor:
        """(tokens, width) -> (the batch's tokens, width)"""
        return states if self.places is None else repeated(states, self.places)

    def cells(self, kind: str, heads: int, own_heads: int) -> Cells:
        """Of `queries` or `keys`, on the device."""
        key = (kind if self.shares else "queries", heads, own_heads)
        return self.once(key, lambda: Cells.of(self.groups, *key).to(self.position_ids.device))

    def mask(self, number: int, window: int | None) -> Tensor | None:
        """One group's, on the device, for all heads: (sequences or 1, 1, queries or 1, keys)"""

        def make() -> Tensor | None:
            mask = self.groups[number].mask(self.causal, window)
            return None if mask is None else mask[:, None].to(self.position_ids.device)

        return self.once(("mask", number, window), make)

    @cached_property
    def offsets(self) -> Tensor:
        """(sequences + 1,) int32: where each sequence begins, then the number of tokens"""
        starts = torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32)
        return starts.to(self.position_ids.device)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` makes, when first asked for: all layers of a backbone ask for the same."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def reading_order(lengths: Sequence[int], prefixes: Sequence[Prefix]) -> tuple[list[int], list[int]]:
    """The sequences in the order of the row, and how many tokens each has there.

    Where some share, the longest rest comes first; otherwise the order stays.
    """
    own = [length - prefix.tokens for length, prefix in zip(lengths, prefixes, strict=True)]
    shares = any(prefix.tokens for prefix in prefixes)
    order = sorted(range(len(own)), key=lambda number: -own[number] if shares else number)
    return order, [own[number] for number in order]


def grouped(lengths: Sequence[int]) -> list[Sequence[int]]:
    """Neighbours of like length, the longest of each group first."""
    parts, first = [], 0
    for last in range(1, len(lengths) + 1):
        longest = lengths[first]
        if last == len(lengths) or not SHORTEST_IN_GROUP * longest <= lengths[last] <= longest:
            parts.append(lengths[first:last])
            first = last
    return parts


def attention_padding(lengths: Sequence[int], prefixes: Sequence[Prefix] = ()) -> int:
    """Queries without a token that attention computes: each group is padded to its longest sequence."""
    _, own = reading_order(lengths, prefixes or [WHOLE] * len(lengths))
    return sum(len(part) * max(part) - sum(part) for part in grouped(own))


def repeated(rows: Tensor, entries: Tensor) -> Tensor:
    """Rows of a (entries, width) matrix, of which some are asked for more than once."""
    if rows.device.type == "cpu":
        return rows.index_select(0, entries)
    return F.embedding(entries, rows)  # its gradient sums in float32 and in one order, unlike index_select's
