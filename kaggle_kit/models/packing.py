"""Sequences without padding: one flat row of real tokens, attention kept inside each sequence.

    layout = PackedLayout.of([31, 30, 12], causal=True)     # lengths, longest first
    hidden = backbone(input_ids[None], position_ids=layout.position_ids[None], packed=layout)

Linear layers, where nearly all the work of short clinical text is, see real tokens only; attention
(`attention.py`) works on small groups of sequences of similar length, padded inside the group: on grids,
(sequences, heads, length, width), gathered from the row, (tokens, heads, width), and put back into it.

A token that looks backwards only has the same state in all sequences that begin alike. So where
attention is causal, a beginning that sequences share, say the question of ten candidates, is read once:

    layout = PackedLayout.of([31, 30], causal=True, prefixes=[WHOLE, Prefix(of=0, tokens=20)])
    layout.fold(input_ids)      # (61,) -> (41,): what the backbone reads
    layout.unfold(hidden)       # (41, width) -> (61, width): the states of both sequences
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.heads.arrays import repeated

SHORTEST = 0.65  # of a group's longest; below, a new group costs less than its padding
SHORTEST_SHARING = 0.5  # the same of all tokens, shared ones included: these cost in attention only


@dataclass(frozen=True)
class LengthGroup:
    """Sequences whose attention is computed together: in each, its own tokens look at all of its tokens.

    Places are padded on the right with the sequence's last, so that no number crosses sequences.
    """

    queries: Tensor  # (sequences, most own tokens) places in the row
    keys: Tensor  # (sequences, longest) places; `queries` itself where nothing is shared
    own: Tensor  # (sequences,)
    lengths: Tensor  # (sequences,)

    @classmethod
    def of(cls, places: Sequence[Tensor], shared: Sequence[int]) -> LengthGroup:
        """Group sequences by their `places`, (length,) each; the first `shared` are an earlier sequence's."""
        own = [some[count:] for some, count in zip(places, shared, strict=True)]
        queries = _grid(own)
        sizes = (torch.tensor([len(some) for some in several]) for several in (own, places))
        return cls(queries, _grid(places) if any(shared) else queries, *sizes)

    def behind(self, tokens: int) -> LengthGroup:
        """Return the group as it is behind so many tokens of a row."""
        queries = self.queries + tokens
        return replace(
            self, queries=queries, keys=queries if self.keys is self.queries else self.keys + tokens
        )

    def plain(self, window: int | None) -> bool:
        """Return whether nothing is shared and every key is within the window."""
        return self.keys is self.queries and (window is None or self.keys.shape[1] <= window)

    def mask(self, causal: bool, window: int | None) -> Tensor:
        """Return True where a query may look: (sequences or 1, queries or 1, keys)"""
        place = torch.arange(self.keys.shape[1])
        real = (place < self.lengths[:, None])[:, None]
        if self.plain(window) and not causal:
            return real[:1, :, :1] if bool(real.all()) else real
        starts = self.lengths - self.own
        starts = starts[:1] if causal and bool((starts == starts[0]).all()) else starts
        asking = starts[:, None] + place[: self.queries.shape[1]]
        # Padding asks from a real token's place: a query that may look nowhere would give NaN.
        asking = asking.clamp_max(len(place) - 1) if causal else asking.minimum(self.lengths[:, None] - 1)
        behind = asking[:, :, None] - place
        near = behind >= 0 if causal else real
        return near & (behind.abs() < window) if window is not None else near


def _grid(places: Sequence[Tensor]) -> Tensor:
    """(sequences, longest)"""
    most = torch.arange(max(map(len, places)))
    return torch.stack([some[most.clamp_max(len(some) - 1)] for some in places])


@dataclass(frozen=True)
class GatherIndex:
    """Which entry of a (tokens * own heads, width) row each cell of the grids holds, and the inverse.

    `entries` (cells,) come group after group; `inverse` (entries * repeats,) are the cells that hold an
    entry, one for each head that it is repeated for, and None where sequences share tokens.
    """

    entries: Tensor
    inverse: Tensor | None
    sizes: tuple[int, ...]  # cells of each group

    @classmethod
    def of(cls, groups: Sequence[LengthGroup], kind: str, heads: int, own_heads: int) -> GatherIndex:
        """Index the groups' `queries` or `keys`. Own heads are repeated so that there are `heads`."""
        repeats, head = heads // own_heads, torch.arange(heads)[:, None]
        grids = [getattr(group, kind)[:, None] for group in groups]  # (sequences, 1, length)
        parts = [(grid * own_heads + head // repeats).flatten() for grid in grids]
        index = cls(torch.cat(parts), None, tuple(map(len, parts)))
        if any(getattr(group, kind) is not group.queries for group in groups):
            return index
        owned = [torch.arange(group.queries.shape[1]) < group.own[:, None, None] for group in groups]
        real = torch.cat([part.expand(-1, heads, -1).flatten() for part in owned])
        copy = torch.cat([(head % repeats).expand(len(grid), -1, grid.shape[2]).flatten() for grid in grids])
        inverse = torch.empty(int(real.sum()), dtype=torch.long)
        inverse[(index.entries * repeats + copy)[real]] = real.nonzero().squeeze(1)
        return replace(index, inverse=inverse)

    def to(self, device: torch.device) -> GatherIndex:
        """Move the indices to a device."""
        inverse = None if self.inverse is None else self.inverse.to(device)
        return replace(self, entries=self.entries.to(device), inverse=inverse)


@dataclass(frozen=True)
class PackedLayout:
    """How the row of tokens that a backbone reads splits into sequences."""

    lengths: tuple[int, ...]  # own tokens of each sequence, in the row's order
    position_ids: Tensor  # (tokens,)
    groups: tuple[LengthGroup, ...]
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
        """Lay sequences out in the given order; descending lengths give the fewest groups.

        `prefixes`, one per sequence, say which beginning it shares; only causal attention makes use of them.
        """
        prefixes = prefixes if causal and prefixes else [WHOLE] * len(lengths)
        shared = [prefix.tokens for prefix in prefixes]
        parts = grouped(lengths, prefixes)
        order = [number for part in parts for number in part]
        own = [lengths[number] - shared[number] for number in order]
        first = dict(zip(order, accumulate(own, initial=0), strict=False))
        places: list[Tensor] = []
        for number, prefix in enumerate(prefixes):
            mine = first[number] + torch.arange(lengths[number] - prefix.tokens)
            places.append(torch.cat([places[prefix.of][: prefix.tokens], mine]) if prefix.tokens else mine)
        groups = tuple(LengthGroup.of([places[n] for n in part], [shared[n] for n in part]) for part in parts)
        positions = torch.cat([torch.arange(shared[n], lengths[n]) for n in order]).to(device)
        if not any(shared):
            return cls(tuple(own), positions, groups, causal, None, None)
        start = list(accumulate(lengths, initial=0))
        read = torch.cat([start[n] + torch.arange(shared[n], lengths[n]) for n in order])
        return cls(tuple(own), positions, groups, causal, read.to(device), torch.cat(places).to(device))

    @classmethod
    def joined(cls, layouts: Sequence[PackedLayout]) -> PackedLayout:
        """Lay the rows of several layouts one behind the other, all of them causal or none.

        Where nothing is shared, attention's groups are formed anew, across the layouts.
        """
        first, *others = layouts
        if not others:
            return first
        device = first.position_ids.device
        lengths = tuple(length for layout in layouts for length in layout.lengths)
        positions = torch.cat([layout.position_ids for layout in layouts])
        if not any(layout.shares for layout in layouts):
            starts = list(accumulate(lengths, initial=0))
            places = [start + torch.arange(length) for start, length in zip(starts, lengths, strict=False)]
            parts = grouped(lengths, [WHOLE] * len(lengths), by_length=True)
            groups = tuple(LengthGroup.of([places[n] for n in part], [0] * len(part)) for part in parts)
            return cls(lengths, positions, groups, first.causal, None, None)
        whole = [
            len(layout.position_ids) if layout.places is None else len(layout.places) for layout in layouts
        ]
        row = list(accumulate((len(layout.position_ids) for layout in layouts), initial=0))
        read, places = [], []
        for layout, start, tokens in zip(layouts, row, accumulate(whole, initial=0), strict=False):
            every = torch.arange(len(layout.position_ids), device=device)
            read.append(tokens + (every if layout.read is None else layout.read))
            places.append(start + (every if layout.places is None else layout.places))
        groups = tuple(
            group.behind(start)
            for layout, start in zip(layouts, row, strict=False)
            for group in layout.groups
        )
        return cls(lengths, positions, groups, first.causal, torch.cat(read), torch.cat(places))

    @property
    def shares(self) -> bool:
        """Return whether some sequences begin with tokens that the row holds once."""
        return self.places is not None

    def fold(self, tokens: Tensor) -> Tensor:
        """Take shared tokens once: (the batch's tokens,) -> (tokens,)"""
        return tokens if self.read is None else tokens.index_select(0, self.read)

    def unfold(self, states: Tensor) -> Tensor:
        """Repeat the states of shared tokens: (tokens, width) -> (the batch's tokens, width)"""
        return states if self.places is None else repeated(states, self.places)

    def cells(self, kind: str, heads: int, own_heads: int) -> GatherIndex:
        """Return the gather indices of the groups' `queries` or `keys`, on the layout's device."""
        key = (kind if self.shares else "queries", heads, own_heads)
        return self._once(key, lambda: GatherIndex.of(self.groups, *key).to(self.position_ids.device))

    def bias(self, number: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return one group's mask, to be added to scores: (sequences or 1, 1, queries or 1, keys or 1)"""
        group = self.groups[number]
        window = window if window is not None and window < group.keys.shape[1] else None

        def make() -> Tensor:
            mask = group.mask(self.causal, window)[:, None]
            # half of the smallest number: a score added to it still does not overflow
            bias = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)
            return bias.to(self.position_ids.device)

        return self._once((number, window, dtype), make)

    @cached_property
    def offsets(self) -> Tensor:
        """Return the place where each sequence begins, then the number of tokens: (sequences + 1,) int32"""
        starts = torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32)
        return starts.to(self.position_ids.device)

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Compute a value at its first use; all layers of a backbone use the same one."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def grouped(
    lengths: Sequence[int], prefixes: Sequence[Prefix], *, by_length: bool = False
) -> list[list[int]]:
    """Group neighbours in the row's order that have about as many tokens to read, and in all.

    The order is the given one, unless `by_length` or some share: then the most to read comes first.
    """
    own = [length - prefix.tokens for length, prefix in zip(lengths, prefixes, strict=True)]
    order = list(range(len(own)))
    if by_length or any(prefix.tokens for prefix in prefixes):
        order.sort(key=lambda number: (-own[number], -lengths[number]))
    groups: list[list[int]] = []
    for number in order:
        alike = groups and SHORTEST * own[groups[-1][0]] <= own[number] <= own[groups[-1][0]]
        whole = [lengths[member] for member in (*groups[-1], number)] if alike else []
        if not alike or min(whole) < SHORTEST_SHARING * max(whole):
            groups.append([])
        groups[-1].append(number)
    return groups


def attention_padding(lengths: Sequence[Sequence[int]], prefixes: Sequence[Sequence[Prefix]]) -> list[int]:
    """Count the padding among attention's queries for each of several batches that are read as one row.

    Each group is padded to its longest sequence, whichever batch that is from.
    """
    shared = [some or [WHOLE] * len(own) for own, some in zip(lengths, prefixes, strict=True)]
    if len(lengths) > 1 and any(prefix.tokens for some in shared for prefix in some):
        return [attention_padding([own], [some])[0] for own, some in zip(lengths, shared, strict=True)]
    whole = [(number, length) for number, own in enumerate(lengths) for length in own]
    together = [prefix for some in shared for prefix in some]
    counts = [0] * len(lengths)
    for part in grouped([length for _, length in whole], together, by_length=len(lengths) > 1):
        queries = [whole[number][1] - together[number].tokens for number in part]
        for number, own in zip(part, queries, strict=True):
            counts[whole[number][0]] += max(queries) - own
    return counts
