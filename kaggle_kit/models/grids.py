"""Groups of sequences for attention, and the way from a row of tokens to their grids and back.

Linear layers work on the row, (tokens, heads, width). Attention works on grids, one for each group of
sequences of like length: (sequences, heads, length, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A sequence: where its tokens stand in the row. The first `shared` of them are an earlier sequence's."""

    places: Tensor  # (length,)
    shared: int

    @property
    def own(self) -> int:
        return len(self.places) - self.shared


@dataclass(frozen=True)
class Group:
    """Sequences whose attention is computed together: in each, its own tokens look at all of its tokens.

    Places are padded on the right with the sequence's last, so that no number crosses sequences.
    """

    queries: Tensor  # (sequences, most own tokens) places
    keys: Tensor  # (sequences, longest) places; `queries` itself where nothing is shared
    own: Tensor  # (sequences,)
    lengths: Tensor  # (sequences,)

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Group:
        queries = _grid([piece.places[piece.shared :] for piece in pieces])
        keys = _grid([piece.places for piece in pieces]) if any(piece.shared for piece in pieces) else queries
        own, lengths = torch.tensor([(piece.own, len(piece.places)) for piece in pieces]).unbind(1)
        return cls(queries, keys, own, lengths)

    def plain(self, window: int | None) -> bool:
        """Whether nothing is shared and every key is within the window."""
        return self.keys is self.queries and (window is None or self.keys.shape[1] <= window)

    def mask(self, causal: bool, window: int | None) -> Tensor:
        """True where a query may look: (sequences or 1, queries or 1, keys)"""
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
    return torch.stack([part[most.clamp_max(len(part) - 1)] for part in places])


@dataclass(frozen=True)
class Cells:
    """Which entry of a (tokens * own heads, width) row each cell of the grids holds, and the inverse.

    `entries` (cells,) come group after group; `inverse` (entries * repeats,) are the cells that hold an
    entry, one for each head that it is repeated for, and None where sequences share tokens.
    """

    entries: Tensor
    inverse: Tensor | None
    sizes: tuple[int, ...]  # cells of each group

    @classmethod
    def of(cls, groups: Sequence[Group], kind: str, heads: int, own_heads: int) -> Cells:
        """Of the groups' `queries` or `keys`. Own heads are repeated so that there are `heads`."""
        repeats, head = heads // own_heads, torch.arange(heads)[:, None]
        grids = [getattr(group, kind)[:, None] for group in groups]  # (sequences, 1, length)
        parts = [(grid * own_heads + head // repeats).flatten() for grid in grids]
        made = cls(torch.cat(parts), None, tuple(map(len, parts)))
        if any(getattr(group, kind) is not group.queries for group in groups):
            return made
        real = [torch.arange(group.queries.shape[1]) < group.own[:, None, None] for group in groups]
        real = torch.cat([part.expand(-1, heads, -1).flatten() for part in real])
        copy = torch.cat([(head % repeats).expand(len(grid), -1, grid.shape[2]).flatten() for grid in grids])
        inverse = torch.empty(int(real.sum()), dtype=torch.long)
        inverse[(made.entries * repeats + copy)[real]] = real.nonzero().squeeze(1)
        return replace(made, inverse=inverse)

    def to(self, device: torch.device) -> Cells:
        inverse = None if self.inverse is None else self.inverse.to(device)
        return replace(self, entries=self.entries.to(device), inverse=inverse)
