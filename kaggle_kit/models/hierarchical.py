"""S3b: entities first, then relations and reasoning that attend to them.

    model = HierarchicalMTLModel(lora, specs, causal=True, cut=14)

The trunk, the layers below the cut, runs once. The layers above it, the top, run with the level-1
adapter: their output feeds the level-1 heads and is the entity features. For level 2, the trunk's
output attends across to those features and passes the top again, with the level-2 adapter. The shared
adapter is active in both parts, so a pass through any top layer sees shared rank + level rank, and a
cut in the middle spends on two levels what S3a spends on one private adapter.

Cost in passes through the top: one for a task with level-1 components only, two for every other; a
task of level 2 alone still needs the entity features, but with `detach_l1_for_l2` no gradient of them.

What crosses from level 1 to level 2, attention over its entity features or their concatenation, is
low-rank, so that it hardly counts against parameter parity, and ends in a zero matrix, so that level 2
starts as if there were no level 1 (as LoRA's B does). Its inputs are RMS-normalised without parameters:
hidden states of decoders hold values that differ by a factor of thousands.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.adapters import SHARED, SharedPrivateLoRA
from kaggle_kit.models.attention import packed_attention
from kaggle_kit.models.joint_row import JointRow
from kaggle_kit.models.multitask import NO_LEAVES, MultiTaskModel, TaskLeaves
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Stages
from kaggle_kit.models.segments import Segment, segment_linear

Segments = Sequence[Segment]

LEVEL = {1: "level1", 2: "level2"}


class CrossLevelAttention(nn.Module):
    """Each token asks the entity features of its own sequence; a causal backbone asks backwards only."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, rank, bias=False) for _ in range(3))
        self.output = _starts_at_zero(nn.Linear(rank, width, bias=False))

    def forward(
        self, hidden: Tensor, entities: Tensor, layout: PackedLayout, segments: Segments = ()
    ) -> Tensor:
        """Return the addition to level 2's states: (tokens, width), (tokens, width) -> (tokens, width)"""
        hidden, entities = (_normalised(states, self.output) for states in (hidden, entities))
        maps = ((self.query, hidden), (self.key, entities), (self.value, entities))
        query, key, value = (_by_segment(linear, rows, segments)[None, None] for linear, rows in maps)
        mixed, _ = packed_attention(self, query, key, value, None, packed=layout)
        return _by_segment(self.output, mixed[0, :, 0], segments)  # (1, tokens, one head, rank) before

    def weights(self, hidden: Tensor, entities: Tensor, layout: PackedLayout) -> Iterator[Tensor]:
        """Yield the attention weights of each group of the layout: (sequences, queries, keys).

        Rows sum to 1. Those of padding are as meaningless as in the group's own grids.
        """
        query = self.query(_normalised(hidden, self.output))
        key = self.key(_normalised(entities, self.output))
        for number, group in enumerate(layout.groups):
            scores = query[group.queries] @ key[group.keys].transpose(1, 2) * key.shape[-1] ** -0.5
            yield torch.softmax(scores + layout.bias(number, None, scores.dtype)[:, 0], -1)


class CrossLevelConcatenation(nn.Module):
    """Each token gets its own entity features only."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(2 * width, rank, bias=False)
        self.output = _starts_at_zero(nn.Linear(rank, width, bias=False))

    def forward(
        self, hidden: Tensor, entities: Tensor, layout: PackedLayout, segments: Segments = ()
    ) -> Tensor:
        """Return the addition to level 2's states: (tokens, width), (tokens, width) -> (tokens, width)"""
        both = [_normalised(states, self.output) for states in (hidden, entities)]
        down = _by_segment(self.down, torch.cat(both, -1), segments)
        return _by_segment(self.output, F.gelu(down), segments)


CROSS_LEVELS: dict[str, type[nn.Module]] = {
    "attention": CrossLevelAttention,
    "concatenation": CrossLevelConcatenation,
}


def cross_level_parameters(kind: str, width: int, rank: int) -> int:
    """Count the parameters of a cross-level module, in closed form."""
    return {"attention": 4, "concatenation": 3}[kind] * width * rank


def _by_segment(linear: nn.Linear, rows: Tensor, segments: Segments) -> Tensor:
    """(tokens, in) -> (tokens, out), by each segment's stand-in for the weight; by the weight without any."""
    weights = [[segment.leaf(linear.weight)] for segment in segments] or [[linear.weight]]
    return segment_linear(rows, weights, [segment.tokens for segment in segments])


def _starts_at_zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    return linear


def _normalised(states: Tensor, like: nn.Linear) -> Tensor:
    return F.rms_norm(states.to(like.weight.dtype), states.shape[-1:])


class HierarchicalMTLModel(MultiTaskModel):
    """Expects adapters `shared` (all layers), `level1` and `level2` (layers from `cut` up)."""

    def __init__(
        self,
        lora: SharedPrivateLoRA,
        specs: Iterable[TaskSpec],
        *,
        causal: bool,
        decoder: bool | None = None,
        cut: int,
        cross_level: str = "attention",
        cross_level_rank: int = 16,
        detach_l1_for_l2: bool = False,
    ) -> None:
        super().__init__(lora, specs, causal=causal, decoder=decoder)
        self.stages = Stages(self.reader, cut)
        self.detach_l1_for_l2 = detach_l1_for_l2
        self.cross = CROSS_LEVELS[cross_level](self.backbone.config.hidden_size, cross_level_rank)

    def levels_of(self, task: str) -> set[int]:
        """Return the levels, 1 or 2, on which the task has components."""
        return {part.level for part in self.specs[task].components}

    def adapters_of(self, task: str) -> list[str]:
        """Return the shared adapter and those of the levels up to the task's highest."""
        return [SHARED, *(LEVEL[level] for level in range(1, max(self.levels_of(task)) + 1))]

    def activate(self, task: str) -> None:
        """Activate the trunk's adapter; each pass through the top then chooses its own."""
        self.lora.activate(SHARED)

    def row_kind(self, task: str) -> Hashable:
        """Return whether the task is causal: whatever its levels, it passes through the same adapters."""
        return self.is_causal(task)

    def read(self, batches: Sequence[Any], leaves: TaskLeaves = NO_LEAVES) -> list[dict[int, Tensor]]:
        """Return of each micro-batch level -> (tokens, hidden), for the levels that its task has.

        The trunk runs once, the top once for level 1 and once more for those that have a level 2.
        """
        row = JointRow.of(batches, [self.layout(batch) for batch in batches])
        with self._using(row, leaves, SHARED):
            trunk = self.stages.lower(row, row.layout)
        levels = [self.levels_of(batch.task) for batch in batches]
        entities = self._entities(row, trunk, leaves)
        states = [{1: one} for one in row.split(entities)]
        second = [number for number, several in enumerate(levels) if 2 in several]
        if second:
            reads = row.only(second)
            below, features = row.take(trunk, second), row.take(entities, second)
            features = features.detach() if self.detach_l1_for_l2 else features
            across = self.cross(below, features, reads.layout, self.segments(reads, leaves, self.adapters_of))
            above = self._top(reads, below + across.to(below.dtype), 2, leaves)
            for number, one in zip(second, reads.split(above), strict=True):
                states[number][2] = one
        return [{level: one[level] for level in sorted(own)} for one, own in zip(states, levels, strict=True)]

    def _entities(self, row: JointRow, trunk: Tensor, leaves: TaskLeaves) -> Tensor:
        """The top's states for level 1; without a gradient where nothing that is trained reads it."""
        learns = [not self.detach_l1_for_l2 or 1 in self.levels_of(batch.task) for batch in row.batches]
        if len(set(learns)) == 1:
            with torch.set_grad_enabled(learns[0] and torch.is_grad_enabled()):
                return self._top(row, trunk, 1, leaves)
        parts: list[Tensor | None] = [None] * len(learns)
        for gradient in (True, False):
            numbers = [number for number, one in enumerate(learns) if one == gradient]
            reads = row.only(numbers)
            with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
                above = self._top(reads, row.take(trunk, numbers), 1, leaves)
            for number, part in zip(numbers, above.split(reads.sizes), strict=True):
                parts[number] = part
        return torch.cat([part for part in parts if part is not None])

    def _top(self, row: JointRow, hidden: Tensor, level: int, leaves: TaskLeaves) -> Tensor:
        with self._using(row, leaves, SHARED, LEVEL[level]):
            return self.stages.upper(hidden, row, row.layout)

    def _using(self, row: JointRow, leaves: TaskLeaves, *names: str) -> AbstractContextManager[None]:
        return self.lora.using_segments(self.segments(row, leaves, lambda _: names))

    def _groups(self) -> Iterator[tuple[str, list[nn.Parameter], tuple[str, ...]]]:
        second = tuple(task for task in self.specs if 2 in self.levels_of(task))
        first = tuple(task for task in self.specs if 1 in self.levels_of(task) or not self.detach_l1_for_l2)
        tasks = {LEVEL[1]: first, LEVEL[2]: second}
        for name, parameters, everyone in super()._groups():
            yield name, parameters, tasks.get(name, everyone)
        yield "cross_level", list(self.cross.parameters()), second
