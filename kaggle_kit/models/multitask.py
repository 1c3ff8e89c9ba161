"""Backbone, adapters and heads as one module that turns a micro-batch into losses or logits.

    model = build_model(loaded, specs, config.strategy)
    outputs = model(batch)                     # component -> logits
    loss_sums = model.losses(batch, outputs)   # component -> scalar sum

One class serves S1 (one adapter), S2 (one shared by all tasks), A2 (one per task, none shared), S3a (shared
+ private, fused) and S4 (the same in two phases), and S1 and S2 on a backbone that trains as a whole.
`parameter_groups` says which tasks touch what, so that PCGrad projects within what is shared, nowhere else.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Kind, TaskSpec
from kaggle_kit.heads import build_head
from kaggle_kit.models.adapters import BACKBONE, PRIVATE, SHARED, SharedPrivateLoRA, private
from kaggle_kit.models.joint_row import JointRow
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Reader
from kaggle_kit.models.segments import Leaves, Segment

TaskLeaves = Mapping[str, Leaves]  # by task
NO_LEAVES: TaskLeaves = {}


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the same tasks touch. Only groups of several tasks can hold a conflict."""

    parameters: tuple[nn.Parameter, ...]
    tasks: tuple[str, ...]


class MultiTaskModel(nn.Module):
    """One backbone for all tasks, one head per component. The backbone runs on unpadded rows.

    A `decoder` that is not `causal` looks both ways for every task that has more to do than to rank.
    """

    def __init__(
        self,
        lora: SharedPrivateLoRA,
        specs: Iterable[TaskSpec],
        *,
        causal: bool,
        decoder: bool | None = None,  # None: as `causal` says
    ) -> None:
        super().__init__()
        self.lora = lora
        self.reader = Reader(lora.base)
        self.causal = causal
        self.decoder = causal if decoder is None else decoder
        self.private_off = False  # the first phase of S4 trains without private adapters
        self.specs = {spec.name: spec for spec in specs}
        width = self.backbone.config.hidden_size
        self.heads = nn.ModuleDict()
        for name, spec in self.specs.items():
            heads = {part.name: build_head(part, width, decoder=self.decoder) for part in spec.components}
            self.heads[name] = nn.ModuleDict(heads)

    @property
    def backbone(self) -> PeftModel | PreTrainedModel:
        """Return the frozen backbone with its adapters, as PEFT wraps it, or the one that trains itself."""
        return self.lora.peft

    def activate(self, task: str) -> None:
        """Let the next forward pass use the task's adapters; this costs one assignment."""
        self.lora.activate(*self.adapters_of(task))

    def adapters_of(self, task: str) -> list[str]:
        """List the adapters that a task's tokens pass through."""
        mine = () if self.private_off else (private(task),)
        return [name for name in self.lora.ranks if not name.startswith(PRIVATE) or name in mine]

    def encode(self, batch: Any) -> Tensor:
        """Read a micro-batch's last hidden states, of its task's highest level: (tokens, hidden)"""
        states = self.states(batch)
        return states[max(states)]

    def layout(self, batch: Any) -> PackedLayout:
        """Lay a micro-batch out as one row; what its sequences share is read once where the task allows."""
        causal = self.is_causal(batch.task)
        prefixes = batch.prefixes if self.shares(batch.task) else ()
        return PackedLayout.of(batch.lengths, causal=causal, prefixes=prefixes, device=batch.input_ids.device)

    def is_causal(self, task: str) -> bool:
        """Return whether the task's tokens look backwards only, so that sequences may share a beginning."""
        ranks = all(part.kind is Kind.RANKING for part in self.specs[task].components)
        return self.causal or (self.decoder and ranks)

    def shares(self, task: str) -> bool:
        """Return whether a beginning that the task's sequences have in common is read once."""
        return self.is_causal(task) and self.reader.packs

    def row_kind(self, task: str) -> Hashable:
        """Return what micro-batches of two tasks must have in common to be read as one row."""
        return self.is_causal(task), sum(self.lora.ranks[name] for name in self.adapters_of(task))

    def states(self, batch: Any) -> dict[int, Tensor]:
        """Return level -> the states that its heads read; without a hierarchy both levels read the same."""
        return self.read([batch])[0]

    def read(self, batches: Sequence[Any], leaves: TaskLeaves = NO_LEAVES) -> list[dict[int, Tensor]]:
        """Return each micro-batch's `states`, all by one forward pass over one row.

        Several must be of one `row_kind`. `leaves` are a task's stand-ins for shared parameters, which then
        hold that task's gradient.
        """
        row = JointRow.of(batches, [self.layout(batch) for batch in batches])
        with self.lora.using_segments(self.segments(row, leaves, self.adapters_of)):
            hidden = self.reader(row, row.layout)
        return [{1: states, 2: states} for states in row.split(hidden)]

    def segments(
        self, row: JointRow, leaves: TaskLeaves, adapters: Callable[[str], Sequence[str]]
    ) -> list[Segment]:
        """Return a segment per micro-batch of the row, with the adapters of its task."""
        tasks = [batch.task for batch in row.batches]
        return [
            Segment(tokens, tuple(adapters(task)), leaves.get(task, {}))
            for task, tokens in zip(tasks, row.sizes, strict=True)
        ]

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the logits of every component of the micro-batch's task."""
        return self.logits(batch, self.states(batch))

    def logits(self, batch: Any, states: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return what the heads of the micro-batch's task make of its states."""
        heads = self.heads[batch.task]
        return {
            part.name: heads[part.name](states[part.level], batch.targets[part.name])
            for part in self.specs[batch.task].components
            if part.name in batch.targets
        }

    def losses(self, batch: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss sum of each component, not yet divided by `batch.counts`."""
        heads = self.heads[batch.task]
        return {name: heads[name].loss(logits, batch.targets[name]) for name, logits in outputs.items()}

    def parameter_groups(self) -> dict[str, ParameterGroup]:
        """Group what may train: `backbone`, `shared`, `private:<task>`, `fusion:<task>`, `heads:<task>`."""
        groups = {name: ParameterGroup(tuple(part), tasks) for name, part, tasks in self._groups()}
        return {name: group for name, group in groups.items() if group.parameters}

    def train_only(self, names: Iterable[str]) -> None:
        """Freeze every group but these. Raises ConfigError for a name that is no group."""
        groups, names = self.parameter_groups(), set(names)
        if unknown := sorted(names - groups.keys()):
            raise ConfigError(f"no parameter group {', '.join(unknown)}; there are {', '.join(groups)}")
        for name, group in groups.items():
            for parameter in group.parameters:
                parameter.requires_grad_(name in names)

    def reached_by(self, tasks: Iterable[str]) -> list[str]:
        """List the parameter groups that a token of one of these tasks passes through."""
        tasks = set(tasks)
        return [name for name, group in self.parameter_groups().items() if tasks.intersection(group.tasks)]

    def pretrain_shared(self) -> None:
        """Start S4's first phase: the shared adapter and the heads learn; private adapters take no part."""
        self.private_off = True
        learning = {SHARED, *(f"heads:{task}" for task in self.specs)}
        self.train_only(name for name in self.parameter_groups() if name in learning)

    def adapt(self, shared: str = "frozen") -> None:
        """Start S4's second phase: all but the shared adapter learns; `shared` is frozen or continued."""
        self.private_off = False
        frozen = set() if shared == "continued" else {SHARED}
        self.train_only(self.parameter_groups().keys() - frozen)

    def _groups(self) -> Iterator[tuple[str, list[nn.Parameter], tuple[str, ...]]]:
        """(name, parameters, tasks that touch them)"""
        everyone = tuple(self.specs)
        yield BACKBONE, list(self.lora.whole.values()), everyone
        for adapter in self.lora.ranks:
            task = adapter.removeprefix(PRIVATE)
            if adapter.startswith(PRIVATE):
                yield f"private:{task}", self.lora.parameters_of(adapter), (task,)
                yield f"fusion:{task}", self.lora.fusion_of(adapter), (task,)
            else:
                yield adapter, self.lora.parameters_of(adapter), everyone
        for task in everyone:
            yield f"heads:{task}", list(self.heads[task].parameters()), (task,)
