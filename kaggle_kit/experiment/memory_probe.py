"""Measures points of the auto-batch search in a process of its own, one JSON line in, one out.

    python -m kaggle_kit.experiment.memory_probe CONFIG.yaml # then: {"token_budget": 1024, "checkpointed": 8}

It builds the run's own model and takes optimiser steps on its own longest and shortest sequences, so
heads, adapters, gradient copies and the optimiser's state are all there. Memory is read from the
device as a whole.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.plan import TaskRows
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import read_config
from kaggle_kit.experiment import preparation, rounds
from kaggle_kit.models.build import build_model
from kaggle_kit.training.autobatch import Point, worst_plan
from kaggle_kit.training.callbacks.base import StudyCallback

ANSWER = "batch-probe "  # libraries may print, too


class BatchProbe:
    """A run's model, ready to be tried at one point after the other."""

    def __init__(self, config_yaml: Path) -> None:
        self.config = read_config(config_yaml)
        corpora = preparation.open_corpora(self.config)
        specs = preparation.task_specs(self.config, corpora)
        train = preparation.split_samples(self.config, corpora, "train")
        torch.manual_seed(self.config.seed)
        self.loaded = preparation.open_backbone(self.config)
        self.encoded = preparation.encode_split(self.config, train, specs, self.loaded)
        self.network = build_model(self.loaded, specs.values(), self.config.strategy)
        self.device = self.loaded.decisions["device"].value

    def measure(self, point: Point) -> dict[str, Any]:
        """The peak and the speed of worst-case steps; the peak is null where the memory did not suffice."""
        self.network.lora.checkpoint_layers(point.checkpointed)
        self._clear()
        resident = used_bytes(self.device)
        watch = _Watch(self.device)
        try:
            seconds_tokens = self._train(point, watch)
        except torch.cuda.OutOfMemoryError:
            return {"peak": None, "resident": resident, "speed": 0.0}
        finally:
            self._clear()
        seconds, tokens = seconds_tokens
        return {"peak": watch.peak, "resident": resident, "speed": tokens / seconds}

    def _train(self, point: Point, watch: _Watch) -> tuple[float, int]:
        rows = {name: TaskRows(task.lengths, task.groups) for name, task in self.encoded.items()}
        halved = self.config.strategy.pcgrad
        plan = worst_plan(rows, point.token_budget, seed=self.config.seed, halved=halved)
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            # the next batch's questions may share nothing, where these do
            steps = PlanDataset(plan, self.encoded, prefixes=False)
            parts = (self.config, run, self.network, self.loaded, steps)
            rounds.bare_trainer(*parts, callbacks=[watch]).train()
        # the first step makes the optimiser's state and warms the kernels up
        return sum(watch.seconds[1:]), sum(sum(step.tokens.values()) for step in plan.steps[1:])

    def _clear(self) -> None:
        self.network.zero_grad(set_to_none=True)
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

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._begun)
        self.peak = max(self.peak, used_bytes(self.device))


def used_bytes(device: str) -> int:
    """In use on the whole device, by whatever process; what torch has reserved it keeps until asked.

    A CPU has no such reading: the memory of this process stands for it.
    """
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(config_yaml: str) -> None:
    probe = BatchProbe(Path(config_yaml))
    _say({"layers": probe.loaded.backbone.config.num_hidden_layers})
    for line in sys.stdin:
        _say(probe.measure(Point(**json.loads(line))))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{ANSWER}{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
