"""Timing: the figures of requests whose times are known."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.evaluation import timing
from kaggle_kit.evaluation.timing import WARM_UP, Timing, timed


def test_figures_are_those_of_known_seconds():
    row = Timing(np.array([0.1, 0.2, 0.3, 0.4]), batch=2, peak_bytes=3 * 2**20, joules=16.0).row(3.6)
    assert row["texts/s"] == pytest.approx(8)  # eight texts in one second
    assert row["p50 ms"] == pytest.approx(250) and row["p95 ms"] == pytest.approx(385)
    assert row["SD"] == pytest.approx(np.std([20, 10, 20 / 3, 5], ddof=1))
    assert (row["memory MiB"], row["J a text"]) == (3, 2)
    assert row["$ per 1,000"] == pytest.approx(0.125)  # 125 seconds at a tenth of a cent each


def test_a_device_that_does_not_tell_its_energy_has_none():
    assert Timing(np.array([1.0, 1.0]), 1, 0, None).row()["J a text"] is None


def test_requests_go_round_the_texts_and_the_first_ones_are_not_timed(monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def read(texts):
        seen.append(texts)
        clock[0] += 5.0 if len(seen) <= WARM_UP else 0.25

    found = timed(read, ["a", "b", "c"], batch=2, repeats=4)
    assert seen[:3] == [["a", "b"], ["c", "a"], ["b", "c"]] and len(seen) == WARM_UP + 4
    assert found.seconds.tolist() == [0.25] * 4 and found.peak_bytes > 0


@pytest.mark.parametrize("asked", [([], 1, 2), (["a"], 0, 2), (["a"], 1, 1)])
def test_nothing_to_time_is_refused(asked):
    with pytest.raises(ConfigError, match="allowed: at least 1 text, 1 and 2"):
        timed(len, *asked)
