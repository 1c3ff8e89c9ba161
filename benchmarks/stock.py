"""The stock way to do S1: HuggingFace Trainer and PEFT, on exactly the engine's tokens and labels.

    trainer = stock_trainer(config, encoded, source, batch=16, clock=clock, folder=out, grouped=True)
    trainer.train()
    AsNetwork(trainer.model, encoded.spec)            # its outputs in the engine's shape, to be scored

One component per task, of words (token classification) or ranking (sequence classification). The backbone
drops what `training.backbone_dropout` says, by torch's own dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from benchmarks.measuring import Clock
from kaggle_kit.batches.batch import make_batch
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import PlannedBatch
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.tags import tag_names
from kaggle_kit.core.types import Kind, TaskSpec
from kaggle_kit.heads import build_head

IGNORED = -100
# What makes the stock trainer faster: matrix products in bfloat16, torch.compile, rows without padding. The
# last serves models that read causally, of which transformers finds the bounds of sequences in the positions.
FASTER = ("bf16", "compiled", "flat")


def examples(encoded: EncodedTask) -> list[dict[str, Any]]:
    """The rows as the stock collators take them."""
    (part,) = encoded.spec.components
    made = []
    for row in range(len(encoded)):
        batch = make_batch(encoded, PlannedBatch(encoded.spec.name, (row,), int(encoded.lengths[row])))
        target = batch.targets[part.name]
        example = {"input_ids": batch.input_ids.tolist(), "token_type_ids": batch.type_ids.tolist()}
        if part.kind is Kind.RANKING:
            example["labels"] = int(target["labels"][0])
        else:
            labels = torch.full((batch.tokens,), IGNORED)
            labels[target["index"]] = target["labels"]
            example["labels"] = labels.tolist()
        made.append(example | {"attention_mask": [1] * batch.tokens})
    return made


class CountingTrainer(Trainer):
    """The stock trainer; only the clock is told what it reads."""

    def training_step(self, model, inputs, *args, **kwargs):
        ids = inputs["input_ids"]
        self.clock.count(int(inputs.get("attention_mask", torch.ones_like(ids)).sum()), ids.numel())
        return super().training_step(model, inputs, *args, **kwargs)


def stock_model(config: RunConfig, spec: TaskSpec, source: str) -> nn.Module:
    """PEFT's documented recipe: the task's Auto class, LoRA by `task_type`, the head trained with it."""
    (part,) = spec.components
    ranking = part.kind is Kind.RANKING
    kind = AutoModelForSequenceClassification if ranking else AutoModelForTokenClassification
    classes = 2 if ranking else len(tag_names(part.labels, part.scheme))
    base = kind.from_pretrained(source, num_labels=classes)
    if (probability := config.training.backbone_dropout) is not None:
        for module in base.base_model.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability
    settings = config.model.lora
    lora = LoraConfig(
        task_type="SEQ_CLS" if ranking else "TOKEN_CLS",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
    )
    return get_peft_model(base, lora)


def stock_trainer(
    config: RunConfig,
    encoded: EncodedTask,
    source: str,
    *,
    batch: int,
    clock: Clock,
    folder: Path,
    grouped: bool,
    faster: str = "",
) -> Trainer:
    """Ready to train, with the engine's learning rate, schedule, clipping and number of steps.

    `faster` is one of FASTER, or nothing.
    """
    training = config.training
    tokenizer = AutoTokenizer.from_pretrained(source)
    ranking = encoded.spec.components[0].kind is Kind.RANKING
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=batch,
        train_sampling_strategy="group_by_length" if grouped else "random",
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=config.seed,
        use_cpu=config.profile.device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=faster == "bf16",
        torch_compile=faster == "compiled",
    )
    collator = (DataCollatorWithPadding if ranking else DataCollatorForTokenClassification)(tokenizer)
    if faster == "flat":
        collator = DataCollatorWithFlattening()
    trainer = CountingTrainer(
        model=stock_model(config, encoded.spec, source),
        args=arguments,
        train_dataset=examples(encoded),
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.clock = clock
    return trainer


class AsNetwork(nn.Module):
    """The stock model seen through the engine's interface, so that both are scored by the same code."""

    def __init__(self, model: nn.Module, spec: TaskSpec) -> None:
        super().__init__()
        (self.part,) = spec.components
        self.model = model
        head = build_head(self.part, model.config.hidden_size, decoder=False)  # decodes; its weights sleep
        self.heads = nn.ModuleDict({spec.name: nn.ModuleDict({self.part.name: head})})

    def states(self, batch) -> dict[int, Tensor]:
        """What the head reads is its own output: (sequences, 2), or one row of classes for every token."""
        mask = torch.arange(max(batch.lengths))[None] < torch.tensor(batch.lengths)[:, None]
        inputs = {"input_ids": _grid(batch.input_ids, mask), "attention_mask": mask.long()}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = _grid(batch.type_ids, mask)
        logits = self.model(**inputs).logits
        return {self.part.level: logits if self.part.kind is Kind.RANKING else logits[mask]}

    def logits(self, batch, states) -> dict[str, Tensor]:
        found = states[self.part.level]
        if self.part.kind is Kind.RANKING:
            return {self.part.name: found[:, 1] - found[:, 0]}
        return {self.part.name: found[batch.targets[self.part.name]["index"]]}


def _grid(row: Tensor, mask: Tensor) -> Tensor:
    grid = torch.zeros(mask.shape, dtype=row.dtype)
    grid[mask] = row
    return grid


def token_weighted_mean(lengths: Sequence[int]) -> float:
    """Mean length of the sequence that a token lies in."""
    return sum(length * length for length in lengths) / sum(lengths)
