"""The benchmark of planted transfer on run folders made by hand: it says of a pool what was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import planted_transfer
from benchmarks.planted_transfer import CONDITIONS, TASKS, Pool, as_they_lie, rates, whole_seeds
from kaggle_kit.analysis.verdict_inputs import find_arms
from kaggle_kit.analysis.verdict_rule import ESTIMANDS, Verdict
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.config import compose
from tests.analysis.judged_runs import Factory

GAINS, REMAINS = "semeval2014t7", "semeval2017t3"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("pool"))
    folder = factory.study(seeds=range(1, 7), effect={GAINS: 0.12}, controls=("total", "share", "placebo"))
    factory.multi_task(7)  # whose controls are not trained yet
    return find_runs(folder)


@pytest.fixture(autouse=True)
def few_studies(monkeypatch):
    monkeypatch.setattr(planted_transfer, "STUDIES", 40)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_is_a_multi_task_run_on_practice_data_that_both_arms_can_take(condition):
    chosen = ["experiment=planted", *CONDITIONS[condition]]
    config = compose(task=list(TASKS), strategy="s2_shared", overrides=chosen)
    assert config.practice.transfer == condition
    assert config.practice.lexicon_overlap == (0.0 if condition == "none" else 1.0)
    assert config.training.selection == "last" and config.experiment["margin"]["f1"] == 0.05


def test_a_seed_without_all_its_controls_is_left_out(runs):
    assert {run.facts["seed"] for run in whole_seeds(runs)} == set(range(1, 7))


def test_disjoint_studies_are_judged_from_their_folders(runs):
    words = list(as_they_lie(whole_seeds(runs), 3))
    assert words.count(f"{GAINS}: {Verdict.GENUINE}") == 2
    assert len(words) == 2 * 3  # two studies, each of two tasks and the whole


def test_studies_drawn_from_a_pool_find_what_the_pool_holds(runs):
    pool = Pool.of(find_arms(whole_seeds(runs)))
    for estimand in ESTIMANDS:
        assert pool.truth(GAINS, estimand) == pytest.approx(0.12, abs=0.02)
        found, anything = rates(pool, 5, np.random.default_rng(0))
        assert min(anything) >= 32 / 40
        gains, remains = found[GAINS, estimand], found[REMAINS, estimand]
        assert gains.words[Verdict.GENUINE] >= 32 and gains.specification >= gains.words[Verdict.GENUINE]
        assert remains.words[Verdict.GENUINE] <= 4 and gains.studies == 40
        assert gains.covered >= 32 and remains.covered >= 32


def test_the_truth_of_a_pool_with_a_lagging_run_depends_on_the_estimand(runs):
    pool = Pool.of(find_arms(whole_seeds(runs)))
    lagging = pool.tables[REMAINS].arms["multi_task"].copy()
    lagging[0, :, 0] -= 0.3  # one run of six is 30 points behind
    arms = pool.tables[REMAINS].arms | {"multi_task": lagging}
    table = replace(pool.tables[REMAINS], arms=arms)
    behind = replace(pool, tables=pool.tables | {REMAINS: table})
    assert behind.truth(REMAINS) - pool.truth(REMAINS) == pytest.approx(-0.05)
    assert abs(behind.truth(REMAINS, "trimmed") - pool.truth(REMAINS, "trimmed")) < 0.01


def test_controls_against_controls_hold_no_difference(runs):
    pool = Pool.of(find_arms(whole_seeds(runs))).same_arm()
    assert [pool.truth(task) for task in (GAINS, REMAINS)] == [0.0, 0.0]
    found, anything = rates(pool, 5, np.random.default_rng(0))
    assert Verdict.EXPOSURE in found[REMAINS, "mean"].words and max(anything) <= 4 / 40


def test_a_pool_is_judged_at_the_studys_own_margin_too(runs):
    pool = Pool.of(find_arms(whole_seeds(runs)))
    lines = planted_transfer.judged_rates({"shared": pool}, (0.05, 0.01), np.random.default_rng(0))
    rows = [line.split(" | ") for line in lines if line.startswith("| shared")]
    assert {row[2] for row in rows if row[1] == GAINS} == {"0.05", "0.01"}
    assert {row[1] for row in rows if len(row) == 5} == {"0.05", "0.01"}  # of whole studies
