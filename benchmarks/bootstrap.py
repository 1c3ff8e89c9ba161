"""The verdict's resampling at study size: 10,000 resamples for 5 tasks × 10 seeds × 500 documents.

    python -m benchmarks.bootstrap > benchmarks/results/bootstrap.md

Beside it the plain way to the same draws, one resample after the other, on a hundredth of them. Seeds
are resampled in closed form (see `analysis.stats`); drawing them as well, as the plain two-level
bootstrap does, is timed with it.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version

import numpy as np

from kaggle_kit.analysis.stats import document_variance, resampled_differences
from kaggle_kit.evaluation.documents import figure

TASKS, SEEDS, DOCUMENTS, RESAMPLES, ROUNDS = 5, 10, 500, 10_000, 5
LOOP = RESAMPLES // 100


def arm(rng: np.random.Generator) -> np.ndarray:
    """(seeds, documents, columns) of an F1 near 0.7."""
    gold = rng.integers(1, 20, size=(1, DOCUMENTS))
    right = rng.binomial(np.repeat(gold, SEEDS, axis=0), 0.7)
    missed = gold - right
    return np.stack([right, missed, right, missed], axis=-1).astype(float)


def own(arms: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> None:
    for one, other in arms:
        document_variance(resampled_differences(one, other, RESAMPLES, rng))


def own_with_seeds(arms: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> None:
    for one, other in arms:
        draws = resampled_differences(one, other, RESAMPLES, rng)
        seeds = rng.integers(SEEDS, size=draws.shape)
        np.quantile(np.take_along_axis(draws, seeds, axis=1).mean(axis=1), [0.025, 0.975])


def looped(arms: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> None:
    for one, other in arms:
        for _ in range(LOOP):
            drawn = rng.integers(DOCUMENTS, size=DOCUMENTS)
            figure(one[:, drawn].sum(axis=1)) - figure(other[:, drawn].sum(axis=1))


def seconds(work: Callable[..., None]) -> np.ndarray:
    """(rounds, 2): wall seconds, and CPU seconds of all threads, which other programs do not lengthen."""
    rng = np.random.default_rng(0)
    arms = [(arm(rng), arm(rng)) for _ in range(TASKS)]
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter(), time.process_time()
        work(arms, rng)
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.array(taken)


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    rows = {
        "documents resampled, seeds in closed form": seconds(own),
        "documents and seeds resampled": seconds(own_with_seeds),
        f"one resample after the other ({LOOP}, scaled)": seconds(looped) * RESAMPLES / LOOP,
    }
    reference = np.median(next(iter(rows.values()))[:, 1])
    print(f"# {RESAMPLES:,} resamples: {TASKS} tasks × {SEEDS} seeds in two arms × {DOCUMENTS} documents\n")
    print("`python -m benchmarks.bootstrap > benchmarks/results/bootstrap.md`")
    where = f"{platform.machine()}, {cores} core(s); {versions}; Python {platform.python_version()}"
    print(f"· {where} · load {os.getloadavg()[0]:.1f} · {date.today()}\n")
    print("| way | median s | fastest s | median CPU s | ratio of CPU s |\n|---|---:|---:|---:|---:|")
    for name, taken in rows.items():
        wall, cpu = np.median(taken, axis=0)
        print(f"| {name} | {wall:.2f} | {taken[:, 0].min():.2f} | {cpu:.2f} | {cpu / reference:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
