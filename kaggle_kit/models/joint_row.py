"""Micro-batches of several tasks as one packed row, each of them a segment of it.

row = JointRow.of(batches, [model.layout(batch) for batch in batches])
hidden = reader(row, row.layout)        # one forward pass
row.split(hidden)                       # a micro-batch's own states each, shared tokens repeated
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.models.packing import PackedLayout


@dataclass(frozen=True)
class JointRow:
    """What a backbone reads, `layout`, is the micro-batches' own `layouts` one behind the other."""

    batches: tuple[Any, ...]
    layouts: tuple[PackedLayout, ...]
    layout: PackedLayout

    @classmethod
    def of(cls, batches: Sequence[Any], layouts: Sequence[PackedLayout]) -> JointRow:
        """Join the layouts, in the order given."""
        return cls(tuple(batches), tuple(layouts), PackedLayout.joined(layouts))

    @cached_property
    def input_ids(self) -> Tensor:
        """Return the ids of all tokens, those that are read once in each of their sequences: (tokens,)"""
        return torch.cat([batch.input_ids for batch in self.batches])

    @cached_property
    def type_ids(self) -> Tensor:
        """Return the types of all tokens: (tokens,)"""
        return torch.cat([batch.type_ids for batch in self.batches])

    @cached_property
    def sizes(self) -> list[int]:
        """Count the tokens that are read of each micro-batch."""
        return [len(layout.position_ids) for layout in self.layouts]

    def split(self, states: Tensor) -> list[Tensor]:
        """Return each micro-batch's states: (tokens read, width) -> (the batch's tokens, width) each"""
        parts = zip(self.layouts, states.split(self.sizes), strict=True)
        return [layout.unfold(part) for layout, part in parts]

    def only(self, numbers: Sequence[int]) -> JointRow:
        """Return the row of some of the micro-batches."""
        if list(numbers) == list(range(len(self.batches))):
            return self
        return JointRow.of([self.batches[n] for n in numbers], [self.layouts[n] for n in numbers])

    def take(self, states: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return the states that `only` the row of these micro-batches holds."""
        parts = states.split(self.sizes)
        return states if len(numbers) == len(parts) else torch.cat([parts[number] for number in numbers])
