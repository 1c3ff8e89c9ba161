"""Memory in use and whether it leaks, every 50 steps; a leak is told while the run can still be saved.

trainer = MultiTaskTrainer(..., callbacks=[VRAMCallback(), RunLogCallback(run)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from scipy.stats import theilslopes

from kaggle_kit.core.runtime import GIB, logger
from kaggle_kit.training.callbacks.base import StudyCallback

MINIMUM = 10  # measurements, 500 steps: five points of noise rise one by one once in 120 times


@dataclass(frozen=True)
class LeakVerdict:
    leaking: bool
    gib_per_1000_steps: float
    reason: str


def leak_verdict(steps: Sequence[int], gib: Sequence[float], allowed: float = 0.1) -> LeakVerdict:
    """Does memory still grow by more than `allowed` GiB in 1,000 steps?

    The Theil–Sen slope (median over all pairs of measurements, so a single jump does not move it) of
    the later half of the run: caches fill and the longest batch comes early on. It leaks when the
    lower end of the slope's 99 % interval (Sen 1968) exceeds `allowed`.
    """
    if len(gib) < MINIMUM:
        return LeakVerdict(False, 0.0, f"{len(gib)} measurements are too few to judge; need {MINIMUM}")
    later = slice(len(gib) // 2, None)
    slope, _, low, high = (1000 * float(v) for v in theilslopes(gib[later], steps[later], alpha=0.99))
    leaking = low > allowed
    reason = (
        f"{slope:+.3f} GiB per 1,000 steps (99 % interval {low:+.3f} to {high:+.3f}) "
        f"over steps {steps[later][0]} to {steps[-1]}; allowed {allowed:g}"
    )
    return LeakVerdict(leaking, slope, reason)


def memory_gib(device: torch.device) -> dict[str, float]:
    """GiB in use. On a GPU: by tensors, by torch's allocator, and by everything on the device; on a CPU:
    what of this process is resident."""
    if device.type != "cuda":
        return {"resident": psutil.Process().memory_info().rss / GIB}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.memory_allocated(device) / GIB,
        "reserved": torch.cuda.memory_reserved(device) / GIB,
        "device": (total - free) / GIB,
    }


class VRAMCallback(StudyCallback):
    """Logs `memory_gib` and whether it leaks every `every` steps; the summary: the peak, the last verdict.

    The verdict is on the memory of tensors (on a CPU: of the process), because the allocator's own
    cache may grow without any leak. A leak is warned of at once, and does not stop the run.
    """

    remembered = ("steps", "gib")
    figures_at_step_end = True

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.steps: list[int] = []
        self.gib: list[dict[str, float]] = []
        self._warned = False  # in this session

    @property
    def verdict(self) -> LeakVerdict:
        return leak_verdict(self.steps, [next(iter(measured.values())) for measured in self.gib])

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step % self.every == 0:
            self.steps.append(state.global_step)
            self.gib.append(memory_gib(args.device))
            verdict = self.verdict
            self.trainer.record |= {"memory_gib": self.gib[-1], "leaking": verdict.leaking}
            if verdict.leaking and not self._warned:
                logger.warning("step %d: memory leaks, %s", state.global_step, verdict.reason)
            self._warned |= verdict.leaking

    def summary(self) -> dict[str, Any]:
        if not self.gib:
            return {}
        peak = {name: max(measured[name] for measured in self.gib) for name in self.gib[0]}
        return {"peak_gib": peak, **asdict(self.verdict)}
