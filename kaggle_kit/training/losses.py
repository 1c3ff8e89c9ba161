"""Weights of the tasks' losses, applied to one micro-batch at a time so that no graph is kept.

    weighting = UncertaintyWeightedLoss(["ner", "relations"])
    weighting.combine("ner", loss, share=tokens / step_tokens).backward()

`combine(task, loss, share)` is what to call backward on. With PCGrad the weights act before the
projection, which gives the same update as after it (positive weights commute), and the uncertainties
are private parameters.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError, nearest

LOG_VARIANCE_RANGE = (-4.0, 4.0)  # of s = log σ²


class EqualLoss(nn.Module):
    """Σ L / number of tasks: the tasks of the run, however many of them a step holds.

    Static weights that are tuned are those of a task's components.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        super().__init__()
        self.tasks = len(list(tasks))

    def combine(self, task: str, loss: Tensor, share: float = 1.0) -> Tensor:
        """Return the micro-batch's part of the task's loss over the number of tasks; `share` is not read."""
        return loss / self.tasks


class UncertaintyWeightedLoss(nn.Module):
    """Homoscedastic uncertainty: 1/(2σ²)·L + log σ per task (Kendall, Gal and Cipolla, CVPR 2018).

    Trained as s = log σ², from s = 0 (weight 1/2); the gradient in s is ½ - ½·exp(-s)·L, so the
    optimum is σ² = L with weight 1/(2L): the losses should be means per token, to be comparable.
    A loss near zero asks for an unbounded weight, and a negative one makes the objective unbounded
    below; both end at `LOG_VARIANCE_RANGE`, a weight of at most ½·e⁴ ≈ 27. The objective
    itself may well be negative, which is harmless.
    """

    def __init__(self, tasks: Iterable[str], learning_rate: float = 1e-2) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        # One parameter per task: a task that is absent from a step has no gradient, rather than a zero
        # gradient under which AdamW's momentum would go on moving it.
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def combine(self, task: str, loss: Tensor, share: float = 1.0) -> Tensor:
        """Return the micro-batch's part of 1/(2σ²)·L + log σ.

        `loss` is the micro-batch's part of the task's loss in this step, and `share` its part of the
        step; the shares of a task add up to 1, so that log σ counts once however the batch is cut.
        """
        if task not in self.log_variances:
            known = sorted(self.log_variances.keys())
            raise ConfigError(
                f"no loss weight for task {task!r}; the tasks are {known}{nearest(task, known)}. "
                "Name every task when the weighting is built"
            )
        log_variance = self.log_variances[task]
        # Project the parameter instead of clamping its value: a clamped value has no gradient outside
        # the range, and a task that got there could never come back.
        with torch.no_grad():
            log_variance.clamp_(*LOG_VARIANCE_RANGE)
        return 0.5 * torch.exp(-log_variance) * loss + 0.5 * share * log_variance

    def weights(self) -> dict[str, float]:
        """Return 1/(2σ²) of each task as it stands."""
        return {task: 0.5 * math.exp(-value.item()) for task, value in self.log_variances.items()}

    def parameter_group(self) -> dict[str, Any]:
        """Return the uncertainties for an optimiser: their own learning rate, and no weight decay.

        A step of AdamW is about the learning rate, whatever the gradient: at an adapter's 2e-4 thousands
        of steps would leave s where it starts. Decay would pull every σ towards 1, every weight towards 1/2.
        """
        return {"params": list(self.parameters()), "lr": self.learning_rate, "weight_decay": 0.0}
