"""How fast texts are read: rate, latency, memory, energy and cost, over repeated requests.

    found = timed(read, texts, batch=8)         # read: a list of texts -> anything
    found.row(dollars_per_hour=0.35)

A request is `batch` texts; requests go through the texts in a circle. The first ones only warm up. Latency is
the time of a whole request, from strings to predictions on the CPU, so a GPU has finished by then.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle, islice
from typing import Any

import numpy as np
import psutil
import torch

from kaggle_kit.core.errors import ConfigError

REPEATS, WARM_UP = 30, 3  # requests; with fewer a 95th percentile says nothing
MIB, HOUR, NOTES = 2**20, 3600, 1000


@dataclass(frozen=True)
class Timing:
    """`seconds` of each request; `peak_bytes` while they ran: what a GPU had allocated, else the process."""

    seconds: np.ndarray
    batch: int
    peak_bytes: int
    joules: float | None  # of all requests; None where the device does not tell

    def row(self, dollars_per_hour: float = 0.0) -> dict[str, Any]:
        """Return texts a second (with the standard deviation over requests), latency in ms, MiB, J and $."""
        rates = self.batch / self.seconds
        mean = self.batch * len(self.seconds) / self.seconds.sum()
        low, high = 1000 * np.quantile(self.seconds, [0.5, 0.95])
        energy = None if self.joules is None else self.joules / (self.batch * len(self.seconds))
        return {
            "batch": self.batch,
            "texts/s": float(mean),
            "SD": float(rates.std(ddof=1)),
            "p50 ms": float(low),
            "p95 ms": float(high),
            "memory MiB": self.peak_bytes / MIB,
            "J a text": energy,
            "$ per 1,000": NOTES / mean / HOUR * dollars_per_hour,
        }


def timed(
    read: Callable[[list[Any]], Any], texts: Sequence[Any], batch: int, repeats: int = REPEATS
) -> Timing:
    """Time `repeats` requests of `batch` texts. Raises ConfigError for no text or fewer than two requests."""
    if not texts or batch < 1 or repeats < 2:
        raise ConfigError(
            f"{len(texts)} texts, batch {batch}, {repeats} repeats; allowed: at least 1 text, 1 and 2"
        )
    circle = cycle(texts)
    for _ in range(WARM_UP):
        read(list(islice(circle, batch)))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds, resident, before = [], 0, _joules()
    for _ in range(repeats):
        request = list(islice(circle, batch))
        start = time.perf_counter()
        read(request)
        seconds.append(time.perf_counter() - start)
        resident = max(resident, psutil.Process().memory_info().rss)
    after = _joules()
    spent = None if before is None or after is None else after - before
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident
    return Timing(np.array(seconds), batch, peak, spent)


def _joules() -> float | None:
    """Return what the GPU has used since its driver was loaded; None without one, or where it cannot tell."""
    try:
        pynvml = import_module("pynvml")  # of the package nvidia-ml-py, where somebody has installed it
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000  # it counts in mJ
    except Exception:  # no package, no driver, or a device without the counter: each has an error of its own
        return None
