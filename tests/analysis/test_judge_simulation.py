"""The benchmark of the judge at toy size: its tables have the truth that they claim, its shares add up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.judge_simulation import BASE, TASKS, WORDS, Setting, simulate, summary, table
from kaggle_kit.analysis.stats import scores


@pytest.mark.parametrize("kind", ["f1", "mean"])
@pytest.mark.parametrize("shift_sd", [0.0, 0.03])
def test_the_mean_of_many_tables_is_the_planted_truth(kind, shift_sd):
    rng = np.random.default_rng(0)
    setting = Setting(0.02, seeds=4, shift_sd=shift_sd)
    tables = [table(setting, kind, rng) for _ in range(300)]
    differences = [scores(t.multi_task).mean() - scores(t.control).mean() for t in tables]
    error = np.std(differences) / np.sqrt(len(tables))
    assert np.mean(differences) == pytest.approx(0.02, abs=4 * error)
    assert np.mean([scores(t.control).mean() for t in tables]) == pytest.approx(BASE, abs=0.005)


def test_shares_of_tasks_add_up_and_planted_transfer_is_found_by_most():
    found = simulate(Setting(0.03, seeds=10, shift_sd=0.0), tables=20 * TASKS, resamples=60)
    assert sum(found[word] for word in WORDS) == pytest.approx(1.0)
    assert found["genuine transfer"] >= 0.9 and found["any genuine"] == found["overall"] == 1.0
    assert 0.85 <= found["covered"] <= 1.0


def test_the_summary_names_the_worst_of_every_criterion():
    none, edge = Setting(0.0, 3, 0.0), Setting(0.01, 3, 0.0)
    shares = dict.fromkeys((*WORDS, "any genuine", "any exposure", "covered"), 0.01)
    worst = {**shares, "genuine transfer": 0.04}
    lines = summary([(none, shares), (Setting(0.0, 5, 0.0), worst), (edge, shares)])
    assert "0.040 of tasks" in lines[0]
