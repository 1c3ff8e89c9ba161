"""Executes a step plan. `MultiTaskTrainer.training_step` is the whole method on one screen.

    trainer = MultiTaskTrainer(model, PlanDataset(plan, encoded), training_arguments(...))
    trainer.train()

It extends the HuggingFace `Trainer` at few seams: one dataset item is one optimiser step, in the
plan's order; the loss is divided by what was counted, so the effective batch never depends on the
micro-batch; the optimiser gets an explicit list of parameters, because switching PEFT adapters flips
`requires_grad`. Schedule, gradient scaler, clipping, callbacks and logging stay the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from kaggle_kit.core.schema import TrainingConfig
from kaggle_kit.training.tokens import TokenTracker


class MultiTaskTrainer(Trainer):
    """Trains a `MultiTaskModel` on a `PlanDataset`, counting every token."""

    def __init__(
        self,
        model: nn.Module,
        steps: Dataset,
        args: TrainingArguments,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=steps, data_collator=_only_item, callbacks=list(callbacks)
        )
        self.tokens = TokenTracker(steps.plan.tasks)
        self.record: dict[str, Any] = {}  # what the step just done leaves for the log
        for callback in callbacks:
            if hasattr(callback, "bind"):
                callback.bind(self)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        """One optimiser step's gradients: each task forward and backward over its micro-batches."""
        model.train()
        step = inputs.to(self.args.device)
        losses = {task: self._backward(model, batches) for task, batches in step.by_task()}
        self.tokens.count(step.micro_batches)
        self.record = {"losses": losses}
        return torch.tensor(sum(losses.values()), device=self.args.device)

    def _backward(self, model: nn.Module, batches: Sequence[Any]) -> float:
        """Adds one task's gradient; returns its loss, the mean over all that its micro-batches count."""
        counted = {name: sum(batch.counts[name] for batch in batches) for name in batches[0].counts}
        total = 0.0
        for batch in batches:
            with self.compute_loss_context_manager():
                sums = model.losses(batch, model(batch))
                loss = sum(sums[name] / max(1, counted[name]) for name in sums)
            self.accelerator.backward(loss)
            total += loss.item()
        return total

    # --- seams of the library ----------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(trainable, weight_decay=self.args.weight_decay, **options)
        return self.optimizer

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the library's estimate knows padded batches only

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        norm = super()._clip_grad_norm(model)
        self.record["grad_norm"] = float(norm)
        return norm


def _only_item(items: list[Any]) -> Any:
    (item,) = items
    return item


def training_arguments(
    training: TrainingConfig, *, steps: int, output_dir: Path, seed: int, device: str, float16: bool
) -> TrainingArguments:
    """The library's arguments for a plan of `steps` optimiser steps."""
    return TrainingArguments(
        output_dir=str(output_dir),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item of the plan
        gradient_accumulation_steps=1,  # the plan's micro-batches accumulate inside the step
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(training.warmup * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=seed,
        use_cpu=device == "cpu",
        fp16=float16 and device != "cpu",
        save_strategy="no",
        eval_strategy="no",
        logging_steps=max(1, min(50, steps // 10)),
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
    )
