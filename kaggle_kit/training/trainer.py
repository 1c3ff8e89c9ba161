"""Executes a step plan. `MultiTaskTrainer.training_step` is the whole method on one screen.

    trainer = MultiTaskTrainer(model, PlanDataset(plan, encoded), training_arguments(...))
    trainer.train()

It extends the HuggingFace `Trainer` at few seams: one dataset item is one optimiser step, in the
plan's order; the loss is divided by what was counted, so the effective batch never depends on the
micro-batch; the optimiser also moves the loss weights that are learnt; checkpoints are the study's own
(`resume.py`). Schedule, gradient scaler, clipping, callbacks and logging stay the library's.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.loading import assert_trainable_float32
from kaggle_kit.models.multitask import MultiTaskModel, TaskLeaves
from kaggle_kit.training.gradients import TaskTotals, batch_losses, read_together, shared_groups, weighted_sum
from kaggle_kit.training.losses import EqualLoss, UncertaintyWeightedLoss
from kaggle_kit.training.pcgrad import PCGradOptimizer
from kaggle_kit.training.resolvers import RESOLVERS
from kaggle_kit.training.resume import ResumableMixin
from kaggle_kit.training.tokens import TokenTracker


class MultiTaskTrainer(ResumableMixin, Trainer):
    """Trains a `MultiTaskModel` on a `PlanDataset`, counting every token.

    `weighting` weighs the tasks' losses (default: equally). `pcgrad_seed` turns gradient surgery on
    for the parameters that several tasks touch; `conflict_resolution` is one of `RESOLVERS`,
    and with `gradient_per="component"` the components of a task are told apart like tasks.
    """

    optimizer: torch.optim.Optimizer  # None until it is created

    def __init__(
        self,
        model: MultiTaskModel,
        steps: PlanDataset,
        args: TrainingArguments,
        callbacks: Sequence[TrainerCallback] = (),
        weighting: EqualLoss | UncertaintyWeightedLoss | None = None,
        pcgrad_seed: int | None = None,
        conflict_resolution: str = "pcgrad",
        gradient_per: str = "task",
    ) -> None:
        one_step = itemgetter(0)  # one item of the dataset
        super().__init__(model, args, one_step, steps, callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)  # what the library puts where there is no bar
        self.weighting = (weighting or EqualLoss(steps.plan.tasks)).to(args.device)
        self.pcgrad: PCGradOptimizer | None = None
        self.reached: dict[str, list[str]] = {}  # task -> the groups of parameters that it reaches
        self.pcgrad_seed, self.resolver = pcgrad_seed, RESOLVERS[conflict_resolution]
        self.parts: dict[str, list[str]] = {}  # of the tasks with several gradients: their components
        if pcgrad_seed is not None and gradient_per == "component":
            several = {task: [part.name for part in spec.components] for task, spec in model.specs.items()}
            self.parts = {task: names for task, names in several.items() if len(names) > 1}
        self.tokens = TokenTracker(steps.plan.tasks, sharing=filter(model.shares, model.specs))
        self.record: dict[str, Any] = {}  # what the step just done leaves for the log
        for callback in callbacks:
            if hasattr(callback, "bind"):
                callback.bind(self)

    def training_step(
        self, model: MultiTaskModel, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the gradients of one optimiser step and return the summed loss, a scalar.

        The step's micro-batches, of whatever tasks, are read as one row: one forward and one backward pass.
        With PCGrad each task multiplies by its own leaves of what is shared, so that its gradient comes
        apart; all are projected and combined once, at the end. What follows (unscale, clip, step,
        schedule) is the library's.
        """
        model.train()
        self.weighting.zero_grad()
        step = inputs.to(self.args.device)
        totals = {task: TaskTotals.of(model, batches) for task, batches in step.by_task()}
        reached = {task: self.reached.get(task, []) for task in totals}
        leaves = self.pcgrad.leaves(reached, self.parts) if self.pcgrad else {}
        losses = {task: torch.zeros((), device=self.args.device) for task in totals}
        rows = read_together(model, step.micro_batches, self.train_dataset.plan.settings.token_budget)
        for row, previous in zip(rows, [None, *rows], strict=False):
            if self.pcgrad and previous and (previous[0].half, row[0].half) == (0, 1):
                self.pcgrad.halve({batch.task for batch in step.micro_batches if batch.half == 1})
            for task, loss in self._backward(model, row, totals, leaves):
                losses[task] += loss
        conflicts = self.pcgrad.combine() if self.pcgrad else None

        self.tokens.count(rows)
        total = torch.stack(list(losses.values()))
        self.record = {"losses": dict(zip(losses, total.tolist(), strict=True))}
        if conflicts:
            self.record |= {"conflicts": conflicts.record(), "nonfinite": conflicts.nonfinite}
        return total.sum()

    def _backward(
        self, model: MultiTaskModel, row: Sequence[Any], totals: Mapping[str, TaskTotals], leaves: TaskLeaves
    ) -> list[tuple[str, Tensor]]:
        """Add the gradients of a row of micro-batches; return the task and loss of each, before weighting.

        The loss of a component is its mean over everything that the task's micro-batches count in this
        step, so cutting the step into more or fewer micro-batches and rows changes nothing.
        """
        found: list[tuple[str, Tensor]] = []
        turns: dict[int, list[Tensor]] = defaultdict(list)  # number of a task's part -> losses
        with self.compute_loss_context_manager():
            for batch, states in zip(row, model.read(row, leaves), strict=True):
                task = batch.task
                parts = batch_losses(model, batch, states, totals[task])
                share = batch.tokens / totals[task].tokens
                for number, several in self._apart(task, parts).items():
                    loss = weighted_sum(model, task, several)
                    turns[number].append(self.weighting.combine(task, loss, share=share))
                    found.append((task, loss.detach()))
                    share = 0.0  # what does not depend on the loss counts once
        if self.pcgrad and row[0].half == 0 and len(parts) > 1 and task not in self.pcgrad.compared:
            self.pcgrad.compare(task, {name: self._scaled(part) for name, part in parts.items()})
        for number in sorted(turns, reverse=True):
            if self.pcgrad and self.parts:
                self.pcgrad.turn_to(number)
            self.accelerator.backward(torch.stack(turns[number]).sum(), retain_graph=number > min(turns))
        return found

    def _apart(self, task: str, losses: Mapping[str, Tensor]) -> dict[int, Mapping[str, Tensor]]:
        """Return by turn the losses that have one gradient: all of a task's, or a component's."""
        if task not in self.parts:
            return {0: losses}
        return {self.parts[task].index(name): {name: loss} for name, loss in losses.items()}

    def _scaled(self, loss: Tensor) -> Tensor:
        """Return the loss as float16 needs it, so that small gradients do not vanish."""
        scaler = self.accelerator.scaler
        return loss if scaler is None else scaler.scale(loss)

    # --- seams of the library ----------------------------------------------------------------------

    def create_accelerator_and_postprocess(self) -> None:
        """Record the gradient norm where the accelerator clips: the one place that all versions share."""
        super().create_accelerator_and_postprocess()
        clip = self.accelerator.clip_grad_norm_

        def clip_and_record(*args: Any, **options: Any) -> Tensor:
            norm = clip(*args, **options)
            self.record["grad_norm"] = float(norm)
            return norm

        self.accelerator.clip_grad_norm_ = clip_and_record

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: Any) -> tuple[list, None]:
        """Return the next items, and no item count: the loss is divided in `_backward`."""
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW over what trains and the learnt loss weights; set up PCGrad over what tasks share.

        With `args.head_learning_rate` the heads are a group of their own; the schedule scales both alike.
        Raises ConfigError for a parameter that trains in anything but float32.
        """
        if self.optimizer is None:
            assert_trainable_float32(self.model)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = self._rate_groups()
            if isinstance(self.weighting, UncertaintyWeightedLoss):
                groups.append(self.weighting.parameter_group())
            self.optimizer = kind(groups, **options)
            if self.pcgrad_seed is not None:
                generator = torch.Generator().manual_seed(self.pcgrad_seed)
                shared = shared_groups(self.model)
                self.pcgrad = PCGradOptimizer(self.optimizer, shared, generator, **self.resolver)
                self.reached = {task: self.model.reached_by([task]) for task in self.model.specs}
        return self.optimizer

    def _rate_groups(self) -> list[dict[str, Any]]:
        """Return the trainable parameters, the heads apart where they have a learning rate of their own."""
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        rate = getattr(self.args, "head_learning_rate", None)
        heads = set() if rate is None else {id(parameter) for parameter in self.model.heads.parameters()}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trainable if id(p) not in heads]},
            {"params": [p for p in trainable if id(p) in heads], "lr": rate},
        ]
        return [group | {"weight_decay": self.args.weight_decay} for group in groups if group["params"]]

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: the library's estimate knows padded batches only."""
        return 0  # the library's estimate knows padded batches only


class TokenControlledTrainer(MultiTaskTrainer):
    """Trains one task to exactly the tokens of a multi-task run: the token-controlled baseline.

        targets = StepTargets.of(sum(step.values()) for step in multi_task_run.steps)
        plan = MultiTaskBatchSampler(rows, replace(settings, targets=targets), seed).plan()
        steps = PlanDataset(plan, encoded)
        trainer = TokenControlledTrainer(model, steps, args, target_tokens=targets.total, task="ner")

    If a multi-task model still wins against it, the gain is transfer between tasks and not more data. The
    plan repeats the task's data under the same schedule, in the steps of the multi-task run where it follows
    that run's targets, and cuts the last sequence. Raises ConfigError, naming the plan's tokens and the
    target, unless the plan ends on the target to the token.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        steps: PlanDataset,
        args: TrainingArguments,
        *,
        target_tokens: int,
        task: str,
        **options: Any,
    ) -> None:
        self.count = steps.plan.settings.count
        if (planned := steps.plan.counted(self.count)) != {task: target_tokens}:
            raise ConfigError(
                f"the plan trains {planned}, not {{{task!r}: {target_tokens}}}; "
                "plan it with PlanSettings(target_tokens=…) and one task"
            )
        super().__init__(model, steps, args, **options)
        self.target_tokens = target_tokens
        self.task = task

    @property
    def parity_error(self) -> int:
        """Tokens trained so far minus the target: 0 once the run is done, and goes into its record."""
        counted = self.tokens.total if self.count == "presented" else self.tokens.computed
        return counted[self.task] - self.target_tokens
