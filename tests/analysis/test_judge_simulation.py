"""The benchmark of the judge at toy size: its tables have the truth that they claim, its shares add up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.judge_simulation import (
    BASE,
    TASKS,
    WORDS,
    Runs,
    Setting,
    controls,
    first,
    looks,
    many_comparisons,
    rows,
    simulate,
    table,
    unstable,
)
from kaggle_kit.analysis.stats import scores


@pytest.mark.parametrize("number", [0, TASKS - 1])
@pytest.mark.parametrize("shift_sd", [0.0, 0.03])
def test_the_mean_of_many_tables_is_the_planted_truth(number, shift_sd):
    rng = np.random.default_rng(0)
    setting = Setting("planted", 4, 0.02, shift_sd, {"placebo": 0.01})
    tables = [table(setting, number, rng) for _ in range(300)]
    differences = [scores(t.arms["multi_task"]).mean() - scores(t.arms["total"]).mean() for t in tables]
    error = np.std(differences) / np.sqrt(len(tables))
    assert np.mean(differences) == pytest.approx(0.02, abs=4 * error)
    assert np.mean([scores(t.arms["total"]).mean() for t in tables]) == pytest.approx(BASE, abs=0.005)
    assert np.mean([scores(t.arms["placebo"]).mean() for t in tables]) == pytest.approx(0.71, abs=0.005)
    assert np.mean([scores(t.arms["share"]).mean() for t in tables]) == pytest.approx(0.66, abs=0.005)


def test_a_mixture_has_the_centres_that_it_claims():
    lag = Runs(0.07, 1 / 8, same_mean=True)
    assert lag.centre("mean") == pytest.approx(0.0, abs=3e-4)
    # one in eight is cut off with the lowest fifth: what is left is centred a little below the usual run
    assert 0.0 < lag.centre("trimmed") < 0.07 / 8
    assert Runs(0.3, 0.1).centre("mean") == pytest.approx(-0.03, abs=1e-3)
    assert Runs().centre("trimmed") == pytest.approx(0.0, abs=1e-4)


def test_shares_of_tasks_add_up_and_planted_transfer_is_found_by_most():
    for found in simulate(Setting("planted", 10, 0.04), studies=12, resamples=60).values():
        assert sum(found[word] for word in WORDS) == pytest.approx(1.0)
        assert found["genuine transfer"] >= 0.8 and found["any genuine"] == found["overall"] == 1.0
        assert found["covered"] >= 0.8


def test_every_explanation_of_a_gain_is_recognised():
    found = {s.name: simulate(s, 8, 60)["mean"] for s in controls() if s.seeds == 8}
    assert found["transfer"]["genuine transfer"] >= 0.7
    assert found["permuted labels give the gain, too"]["regularisation"] >= 0.6
    for name in ("an overtrained total control", "its own share of the tokens is as good"):
        assert found[name]["specification"] >= 0.7 and found[name]["genuine transfer"] <= 0.1


def test_looks_take_the_first_seeds_and_every_section_has_its_rows():
    whole = table(Setting("none", 8), 0, np.random.default_rng(0))
    assert {len(arm) for arm in first(whole, 3).arms.values()} == {3}
    assert [line[1] for line in looks(1, 60)] == ["0.0500", "0.0225"]
    assert len(many_comparisons(1, 60)[0]) == 4
    assert len(rows(list(unstable())[:1], 1, 60)) == 2
