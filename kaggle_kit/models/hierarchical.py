"""S3b: entities first, then relations and reasoning that attend to them.

    model = HierarchicalMTLModel(lora, specs, causal=True, cut=14)

The trunk, the layers below the cut, runs once. The layers above it, the top, run with the level-1
adapter: their output feeds the level-1 heads and is the entity features. For level 2, the trunk's
output attends across to those features and passes the top again, with the level-2 adapter. The shared
adapter is active in both parts, so a pass through any top layer sees shared rank + level rank, and a
cut in the middle spends on two levels what S3a spends on one private adapter.

Cost in passes through the top: one for a task with level-1 components only, two for every other; a
task of level 2 alone still needs the entity features, but with `detach_l1_for_l2` no gradient of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.adapters import SHARED, SharedPrivateLoRA
from kaggle_kit.models.cross_level import build_cross_level
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.models.stages import Stages

LEVEL = {1: "level1", 2: "level2"}


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
        self.cross = build_cross_level(cross_level, self.backbone.config.hidden_size, cross_level_rank)

    def levels_of(self, task: str) -> set[int]:
        return {part.level for part in self.specs[task].components}

    def adapters_of(self, task: str) -> list[str]:
        top = 2 if 2 in self.levels_of(task) else 1
        return [SHARED, *(LEVEL[level] for level in range(1, top + 1))]

    def activate(self, task: str) -> None:
        """Each pass chooses its own adapters; before the first, the trunk's."""
        self.lora.activate(SHARED)

    def encode(self, batch) -> Tensor:
        """The states of the task's highest level: (tokens, hidden)"""
        states = self.states(batch)
        return states[max(states)]

    def states(self, batch) -> dict[int, Tensor]:
        """Level -> (tokens, hidden), for the levels that the task has components on."""
        self.activate(batch.task)
        layout, levels = self.layout(batch), self.levels_of(batch.task)
        trunk = self.stages.lower(batch, layout)
        wanted = 1 in levels or not self.detach_l1_for_l2
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            entities = self._top(trunk, 1, batch, layout)
        if 2 not in levels:
            return {1: layout.unfold(entities)}
        features = entities.detach() if self.detach_l1_for_l2 else entities
        across = self.cross(trunk, features, layout)
        second = self._top(trunk + across.to(trunk.dtype), 2, batch, layout)
        states = {1: entities, 2: second}
        return {level: layout.unfold(states[level]) for level in sorted(levels)}

    def _top(self, hidden: Tensor, level: int, batch, layout) -> Tensor:
        with self.lora.using(SHARED, LEVEL[level]):
            return self.stages.upper(hidden, batch, layout)

    def _groups(self) -> Iterator[tuple[str, list[nn.Parameter], tuple[str, ...]]]:
        second = tuple(task for task in self.specs if 2 in self.levels_of(task))
        reaches_first = tuple(
            task for task in self.specs if 1 in self.levels_of(task) or not self.detach_l1_for_l2
        )
        tasks = {LEVEL[1]: reaches_first, LEVEL[2]: second}
        for name, parameters, everyone in super()._groups():
            yield name, parameters, tasks.get(name, everyone)
        yield "cross_level", list(self.cross.parameters()), second
