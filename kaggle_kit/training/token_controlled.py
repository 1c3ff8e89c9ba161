"""The token-controlled baseline: one task, trained to exactly the tokens of a multi-task run.

    targets = StepTargets.of(sum(step.values()) for step in multi_task_run.steps)
    plan = MultiTaskBatchSampler(rows, replace(settings, targets=targets), seed).plan()
    steps = PlanDataset(plan, encoded)
    trainer = TokenControlledTrainer(model, steps, args, target_tokens=targets.total, task="ner")

If a multi-task model still wins against it, the gain is transfer between tasks and not more data.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.trainer import MultiTaskTrainer


class TokenControlledTrainer(MultiTaskTrainer):
    """Refuses to start unless the plan ends on the target to the token, and says afterwards that it did.

    The plan repeats the task's data under the same schedule, in the steps of the multi-task run where it
    follows that run's targets, and cuts the last sequence. Raises ConfigError naming the plan's tokens and
    the target.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: Dataset,
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
