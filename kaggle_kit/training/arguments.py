"""The library's training arguments for a step plan: one plan item a step, nothing random, no stock saves.

training_arguments(config.training, steps=len(plan), output_dir=run.checkpoints, seed=42, device="cpu")
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from kaggle_kit.core.schema import TrainingConfig


@dataclass
class StudyArguments(TrainingArguments):
    """The library's, and the learning rate of the heads: None for that of everything else."""

    head_learning_rate: float | None = None


def training_arguments(
    training: TrainingConfig,
    *,
    steps: int,
    output_dir: Path,
    seed: int,
    device: str,
    float16: bool = False,
    report_to: str = "none",
) -> StudyArguments:
    """Return arguments for `steps` optimiser steps. `float16`: autocast with a gradient scaler, on a GPU."""
    arguments = StudyArguments(
        output_dir=str(output_dir),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item of the plan
        gradient_accumulation_steps=1,  # the plan's micro-batches accumulate inside the step
        # The fused kernel takes the scaler's step itself, so that nobody sees which steps were skipped.
        optim="adamw_torch" if float16 else "adamw_torch_fused",
        learning_rate=training.learning_rate,
        head_learning_rate=training.head_learning_rate,
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
        report_to=report_to,
        disable_tqdm=True,  # ProgressCallback says where it is
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,  # a NaN must be seen, not averaged away
    )
    if arguments.n_gpu > 1:  # the library would spread the run over all of them (DataParallel)
        arguments._n_gpu = 1
    return arguments
