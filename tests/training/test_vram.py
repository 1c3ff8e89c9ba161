"""Memory: growth is told from settling, and a leak is told while the run still trains."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kaggle_kit.training.callbacks import alarms
from kaggle_kit.training.callbacks.alarms import VRAMCallback, leak_verdict

STEPS = np.arange(50, 2050, 50)  # 40 measurements


def watching() -> VRAMCallback:
    callback = VRAMCallback(every=50)
    callback.bind(SimpleNamespace(record={}))
    return callback


def noise(seed: int, sigma: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, len(STEPS))


@pytest.mark.parametrize(
    "gib",
    [
        np.full(len(STEPS), 3.0),
        3.0 + noise(0, 0.05),
        np.where(STEPS < 1300, 3.0, 4.5) + noise(1, 0.01),  # one longer batch: a jump, then level
        3.0 + 1.5 * np.minimum(STEPS, 800) / 800,  # caches fill, then level
        3.0 + 0.2 * np.sin(STEPS / 100),
    ],
    ids=["constant", "noise", "jump", "warm-up", "waves"],
)
def test_memory_that_settles_is_no_leak(gib):
    assert not leak_verdict(STEPS, gib).leaking


def test_memory_that_grows_steadily_leaks_and_the_slope_is_the_planted_one():
    verdict = leak_verdict(STEPS, 3.0 + 0.4 * STEPS / 1000 + noise(2, 0.02))
    assert verdict.leaking
    assert verdict.gib_per_1000_steps == pytest.approx(0.4, abs=0.05)


def test_noise_alone_is_hardly_ever_called_a_leak():
    assert sum(leak_verdict(STEPS, 3.0 + noise(seed, 0.1)).leaking for seed in range(200)) <= 4


def test_a_few_measurements_are_not_judged():
    verdict = leak_verdict(STEPS[:9], 3.0 + STEPS[:9] / 100)
    assert not verdict.leaking
    assert "too few" in verdict.reason


def test_noise_that_is_judged_every_fifty_steps_is_hardly_ever_called_a_leak():
    found = 0
    for seed in range(50):
        gib = 3.0 + noise(seed, 0.05)
        found += any(leak_verdict(STEPS[:n], gib[:n]).leaking for n in range(10, len(STEPS) + 1))
    assert found <= 3


def test_a_leak_is_told_while_the_run_still_trains_and_once(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("kaggle_kit"), "propagate", True)
    growing = iter(3.0 + 0.02 * n for n in range(1000))  # 0.4 GiB per 1,000 steps
    monkeypatch.setattr(alarms, "memory_gib", lambda device: {"allocated": next(growing)})
    callback = watching()
    told = []
    for step in range(50, 1001, 50):
        callback.on_step_end(SimpleNamespace(device=None), SimpleNamespace(global_step=step), None)
        told.append(len(caplog.records))
    assert told == [0] * 9 + [1] * 11  # at step 500, the first that can be judged, and not again
    assert "step 500: memory leaks, +0.400 GiB per 1,000 steps" in caplog.text
    assert callback.trainer.record["leaking"] and callback.summary()["leaking"]


def test_memory_is_measured_every_fifty_steps_only():
    callback = watching()
    arguments = SimpleNamespace(device=torch.device("cpu"))
    for step in range(1, 121):
        callback.on_step_end(arguments, SimpleNamespace(global_step=step), None)
    assert callback.steps == [50, 100]
    assert 0.05 < callback.summary()["peak_gib"]["resident"] < 64
