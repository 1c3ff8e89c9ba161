"""From planned rows to tensors: one micro-batch is one flat row of real tokens, no padding.

    batch = make_batch(encoded, PlannedBatch("ner", rows=(4, 0), tokens=61))
    batch.input_ids.shape                       # (61,)

Targets are named by component. Each kind's module in `heads` lists the tensors that its head expects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kaggle_kit.batches.encoded import PASSAGE, EncodedTask
from kaggle_kit.batches.plan import PlannedBatch, StepPlan, shared_prefixes
from kaggle_kit.core.types import Prefix
from kaggle_kit.heads import KINDS
from kaggle_kit.heads.arrays import before, flat, long

Targets = dict[str, Tensor]


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of one task, concatenated. `counts` is how many things each component's loss averages.

    `half` is the plan's: 0 or 1 where the step splits its task's rows in two, else None. `prefixes`, one
    per sequence, say which candidates begin with the same question; empty where none can.
    """

    task: str
    rows: tuple[int, ...]
    input_ids: Tensor  # (tokens,)
    type_ids: Tensor  # (tokens,) 1 in the second half of a pair
    lengths: tuple[int, ...]
    targets: dict[str, Targets]
    counts: dict[str, int]
    overlap_tokens: int
    half: int | None = None
    prefixes: tuple[Prefix, ...] = ()

    @property
    def tokens(self) -> int:
        """Return the number of tokens; every position of the row holds one."""
        return self.input_ids.numel()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MicroBatch:
        """Move ids, types and targets to a device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        targets = {name: {k: move(v) for k, v in target.items()} for name, target in self.targets.items()}
        return replace(self, input_ids=move(self.input_ids), type_ids=move(self.type_ids), targets=targets)


@dataclass(frozen=True)
class Step:
    """One optimiser step's micro-batches, in the plan's order."""

    number: int
    micro_batches: tuple[MicroBatch, ...]

    def by_task(self) -> Iterator[tuple[str, list[MicroBatch]]]:
        """Yield each task with its micro-batches, in the order of the tasks' first ones."""
        tasks = dict.fromkeys(batch.task for batch in self.micro_batches)
        for task in tasks:
            yield task, [batch for batch in self.micro_batches if batch.task == task]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Step:
        """Move every micro-batch to a device."""
        return replace(self, micro_batches=tuple(b.to(device, non_blocking) for b in self.micro_batches))


class PlanDataset(Dataset):
    """The plan as a map-style dataset: item i is optimiser step i, ready for the model.

    Without `prefixes` its batches do not say which tokens their sequences share, so every token is read.
    """

    def __init__(self, plan: StepPlan, encoded: Mapping[str, EncodedTask], *, prefixes: bool = True) -> None:
        self.plan = plan
        self.encoded = dict(encoded)
        self.prefixes = prefixes

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Step:
        planned = self.plan.steps[number].micro_batches
        batches = [make_batch(self.encoded[batch.task], batch) for batch in planned]
        batches = batches if self.prefixes else [replace(batch, prefixes=()) for batch in batches]
        return Step(number, tuple(batches))


def make_batch(encoded: EncodedTask, planned: PlannedBatch) -> MicroBatch:
    """Build the tensors of one planned micro-batch, on the CPU."""
    numbers = list(planned.rows)
    rows = _shortened(encoded.rows(numbers), planned.cut)
    lengths = tuple(int(length) for length in rows["length"])
    starts, parts = before(lengths), encoded.spec.components
    targets = {part.name: KINDS[part.kind].tensors(part, rows, starts) for part in parts}
    type_ids = torch.zeros(sum(lengths), dtype=torch.long)
    prefixes: tuple[Prefix, ...] = ()
    if encoded.beginnings is not None:
        halves = zip(lengths, rows["second"], strict=True)
        type_ids = long(flat(np.arange(length) >= second for length, second in halves))
        units = planned.units or encoded.groups[numbers].tolist()
        prefixes = shared_prefixes(units, encoded.beginnings[numbers], lengths)
    return MicroBatch(
        task=planned.task,
        rows=tuple(planned.rows),
        input_ids=long(flat(rows["input_ids"])),
        type_ids=type_ids,
        lengths=lengths,
        targets=targets,
        counts={part.name: KINDS[part.kind].count(targets[part.name]) for part in parts},
        overlap_tokens=int(np.sum(rows["overlap"])),
        half=planned.half,
        prefixes=prefixes,
    )


def _shortened(rows: dict[str, Any], cut: int) -> dict[str, Any]:
    """The rows without the last one's last `cut` tokens, nor the words that stand there.

    What a component knows of those words is left to its module, which takes the words as they are.
    """
    if not cut:
        return rows
    rows = {name: list(column) for name, column in rows.items()}
    rows["length"][-1] -= cut
    rows["input_ids"][-1] = rows["input_ids"][-1][:-cut]
    if "word_tokens" in rows:
        words = int(np.searchsorted(rows["word_tokens"][-1], rows["length"][-1]))
        for name in PASSAGE:
            rows[name][-1] = rows[name][-1][:words]
    return rows
