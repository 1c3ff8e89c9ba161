"""Measures points of the auto-batch search on the run's own model, in a process of its own.

    with MeasuringProcess(config) as process:
        process.layers, process.measure(Point(token_budget=1024, checkpointed=8))

It takes optimiser steps on the run's own longest and shortest sequences, so heads, adapters, gradient copies
and the optimiser's state are all there. Memory is read from the device as a whole.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.plan import TaskRows
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.runtime import GIB, logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.training.autobatch import AutoBatchError, Measured, Point, worst_plan
from kaggle_kit.training.callbacks.base import StudyCallback

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

_probe: "MemoryProbe"  # of a measuring process


class ProbeFailed(AutoBatchError):
    """The measuring process failed or died; the configured budget is still there."""


class MeasuringProcess:
    """A process that holds a run's model, for as long as the block lasts. `layers` are the backbone's."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))

    def __enter__(self) -> "MeasuringProcess":
        try:
            self.layers: int = self._call(_open_probe, self._config)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, point: Point) -> Measured:
        """Return what the point's steps needed. ProbeFailed where the process has failed."""
        measured: Measured = self._call(_measure, point)
        at = f"{point.token_budget} tokens, {point.checkpointed} layers checkpointed"
        found = f"{measured.peak_bytes / GIB:.1f} GiB, {measured.tokens_per_second:.0f} tokens/s"
        logger.info("auto-batch: %s: %s", at, found)
        return measured

    def _call(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return self._pool.submit(function, *given).result()
        except Exception as error:  # whatever a library raises, and the pool where the process has died
            reason = f"{type(error).__name__}: {error}"
            raise ProbeFailed(f"the measuring process failed: {reason[:300]}") from error


class MemoryProbe:
    """A run's model, on which one point after the other can be measured."""

    def __init__(self, exp: "Experiment") -> None:
        self.exp = exp
        self.device = exp.backbone.decisions["device"].value

    def measure(self, point: Point) -> Measured:
        """Return the peak and the speed of worst-case steps; the peak is huge where the memory ran out."""
        self.exp.model.lora.checkpoint_layers(point.checkpointed)
        self._clear()
        resident = used_bytes(self.device)
        watch = _Watch(self.device)
        try:
            tokens = self._train(point, watch)
        except torch.cuda.OutOfMemoryError:
            return Measured(point, sys.maxsize, resident, 0.0)
        finally:
            self._clear()
        return Measured(point, watch.peak, resident, tokens / sum(watch.seconds[1:]))

    def _train(self, point: Point, watch: "_Watch") -> int:
        """Return the tokens of all steps but the first, which makes the optimiser's state and warms up."""
        from kaggle_kit.experiment.training_session import make_trainer

        config, encoded = self.exp.config, self.exp.encoded
        rows = {name: TaskRows(task.lengths, task.groups) for name, task in encoded.items()}
        plan = worst_plan(rows, point.token_budget, seed=config.seed, halved=config.strategy.pcgrad)
        with tempfile.TemporaryDirectory() as folder:
            self.exp.run = RunFolder(Path(folder))
            # the next batch's questions may share nothing, where these do
            make_trainer(self.exp, PlanDataset(plan, encoded, prefixes=False), [watch]).train()
        return sum(sum(step.tokens.values()) for step in plan.steps[1:])

    def _clear(self) -> None:
        self.exp.model.zero_grad(set_to_none=True)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


class _Watch(StudyCallback):
    """The highest reading after any step, and how long each took."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak = 0
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._begun)
        self.peak = max(self.peak, used_bytes(self.device))


def used_bytes(device: str) -> int:
    """Return the bytes in use on the whole device, by whatever process; torch keeps what it has reserved.

    A CPU has no such reading: the memory of this process stands for it.
    """
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free
    return psutil.Process().memory_info().rss


def _open_probe(config: RunConfig) -> int:
    """Build the run's model in this process, which shows nothing of it; returns the backbone's layers."""
    from kaggle_kit.experiment.experiment import Experiment

    global _probe
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    _probe = MemoryProbe(Experiment(config))
    return _probe.exp.model.backbone.config.num_hidden_layers


def _measure(point: Point) -> Measured:
    return _probe.measure(point)
