"""The statistics against independent programs, closed forms, published tables and planted truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from kaggle_kit.analysis.stats import (
    by_cluster,
    difference_of,
    document_variance,
    equivalence_power,
    holm,
    kept_seeds,
    outliers,
    resampled_differences,
    scores,
)

ONE = np.array([0.71, 0.74, 0.73, 0.69, 0.75])
OTHER = np.array([0.70, 0.70, 0.69, 0.68, 0.72])


def means(values):
    """(seeds, documents) of plain values as the columns total and weight."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def crossed(rng, *, seeds=4, documents=120, seed_sd=0.008, cell_sd=0.10, shift_sd=0.0, difference=0.0):
    """Two arms of a mean; `shift_sd`: how much harder a document is for one arm than for the other."""
    shared = rng.normal(0.7, 0.2, documents)
    arms = []
    for mean in (difference, 0.0):
        seed = rng.normal(0, seed_sd, (seeds, 1))
        cell = rng.normal(0, cell_sd, (seeds, documents))
        arms.append(means(mean + shared + rng.normal(0, shift_sd, documents) + seed + cell))
    return arms


def judged(arms, rng, resamples=200, test="welch"):
    draws = resampled_differences(*arms, resamples, rng)
    return difference_of(scores(arms[0]), scores(arms[1]), document_variance(draws), arms[0].shape[1], test)


def test_without_documents_the_test_is_welchs():
    difference = difference_of(ONE, OTHER, 0.0, 100)
    oracle = scipy_stats.ttest_ind(ONE, OTHER, equal_var=False)
    interval = oracle.confidence_interval(0.95)
    assert difference.p_value == pytest.approx(oracle.pvalue, rel=1e-12)
    assert difference.df == pytest.approx(oracle.df, rel=1e-12)
    assert difference.interval(0.05) == pytest.approx((interval.low, interval.high), rel=1e-12)


@pytest.mark.parametrize("seeds", [3, 5, 8, 10, 15])
def test_without_documents_the_trimmed_test_is_yuens(seeds):
    rng = np.random.default_rng(seeds)
    one, other = rng.normal(0.7, 0.02, seeds), rng.normal(0.68, 0.01, seeds)
    one[0] -= 0.3  # a seed that collapsed
    difference = difference_of(one, other, 0.0, 100, trim=0.2)
    oracle = scipy_stats.ttest_ind(one, other, equal_var=False, trim=0.2)
    assert difference.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert difference.df == pytest.approx(oracle.df, rel=1e-9)
    trimmed = scipy_stats.trim_mean(one, 0.2) - scipy_stats.trim_mean(other, 0.2)
    assert difference.value == pytest.approx(trimmed, rel=1e-9)


def test_a_trimmed_mean_keeps_the_seeds_between():
    assert kept_seeds(np.array([0.7, 0.1, 0.71, 0.9, 0.72]), 0.2).tolist() == [0, 2, 4]
    assert kept_seeds(np.array([0.7, 0.1, 0.71, 0.9]), 0.2).tolist() == [0, 1, 2, 3]  # a fifth of 4 is none


def test_an_outlier_is_more_than_four_deviations_from_its_arm():
    # median .70, absolute deviations 0, .01, .01, .02, .5: their median .01, over .6745 it is .0148
    assert outliers([0.70, 0.71, 0.69, 0.72, 0.20]) == [4]
    assert outliers([0.70, 0.71, 0.69, 0.72, 0.70 - 0.0592]) == []
    assert outliers([0.70, 0.71, 0.69, 0.72, 0.70 - 0.0594]) == [4]
    assert outliers([0.7] * 5) == [] and outliers([0.7] * 4 + [0.8]) == [4]
    assert outliers([0.7, 0.7, 0.2]) == []  # too few to tell


def test_documents_of_a_cluster_are_summed():
    arm = np.arange(12.0).reshape(1, 6, 2)
    summed = by_cluster(arm, ["b", "a", "b", "a", "c", "a"])
    assert summed.tolist() == [[[2 + 6 + 10, 3 + 7 + 11], [0 + 4, 1 + 5], [8, 9]]]
    assert scores(summed) == pytest.approx(scores(arm))


def test_without_documents_the_paired_test_is_the_t_test_of_differences():
    difference = difference_of(ONE, OTHER, 0.0, 100, "paired")
    assert difference.p_value == pytest.approx(scipy_stats.ttest_rel(ONE, OTHER).pvalue, rel=1e-12)


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.08])
def test_equivalence_is_that_of_statsmodels(margin):
    paired = difference_of(ONE, OTHER, 0.0, 100, "paired").equivalence_p(margin)
    assert paired == pytest.approx(ttost_paired(ONE, OTHER, -margin, margin)[0], rel=1e-9)
    unpaired = difference_of(ONE, OTHER, 0.0, 100).equivalence_p(margin)
    oracle = ttost_ind(ONE, OTHER, -margin, margin, usevar="unequal")[0]
    assert unpaired == pytest.approx(oracle, rel=1e-9)


@pytest.mark.parametrize("margin", [0.045, 0.05, 0.06])
def test_equivalence_agrees_with_the_interval_of_twice_alpha(margin):
    difference = difference_of(ONE, OTHER, 0.0, 100)
    low, high = difference.interval(0.10)
    assert (difference.equivalence_p(margin) <= 0.05) == (-margin < low and high < margin)


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 9):
        p = rng.uniform(size=size) ** 3
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_seeds_to_detect_are_those_of_the_two_sample_power_formula():
    # two arms of standard deviation 0.8, one point apart: d = 1.25
    spread = np.array([-0.8, 0.8]) / np.sqrt(2)
    found = difference_of(spread, spread, 0.0, 100).seeds_to_detect(1.0, 0.05, 0.8)
    assert found == int(np.ceil(TTestIndPower().solve_power(effect_size=1 / 0.8, alpha=0.05, power=0.8)))


def test_the_detectable_effect_is_found_with_the_asked_power():
    spread = np.array([-0.8, 0.8]) / np.sqrt(2)
    difference = replace(difference_of(spread, spread, 0.0, 100), seeds=10)
    effect = difference.detectable(0.05, 0.8)
    power = TTestIndPower().power(effect_size=effect / 0.8, nobs1=10, alpha=0.05)
    assert power == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.06), (5, 0.20), (8, 0.54), (10, 0.70), (15, 0.91)])
def test_power_of_equivalence_is_the_known_one(seeds, power):
    # margin one point, no difference, 0.8 points between seeds of either arm: simulated 0.06 … 0.91
    error = 0.8 * np.sqrt(2 / seeds)
    assert equivalence_power(0.0, 1.0, error, 2 * (seeds - 1), 0.05) == pytest.approx(power, abs=0.02)


def test_no_number_of_seeds_is_enough_where_the_documents_are_too_few():
    few = difference_of(ONE, OTHER, document_variance=0.01**2, documents=20)
    assert few.seeds_to_detect(0.005, 0.05, 0.8) is None
    assert few.seeds_to_equate(0.0, 0.005, 0.05, 0.8) is None
    assert few.seeds_to_detect(0.5, 0.05, 0.8) == 2


def test_identical_arms_differ_by_nothing_and_are_equivalent():
    same = difference_of(np.ones(3), np.ones(3), 0.0, 10)
    assert (same.value, same.p_value, same.equivalence_p(0.01)) == (0.0, 1.0, 0.0)
    apart = difference_of(np.ones(3), np.zeros(3), 0.0, 10)
    assert (apart.p_value, apart.equivalence_p(0.01)) == (0.0, 1.0)


def test_scores_are_those_of_the_summed_documents():
    arm = np.array([[[1, 1, 1, 0], [2, 0, 2, 2]], [[0, 1, 0, 1], [1, 0, 1, 0]]], dtype=float)
    # seed 1: P = 3/4, R = 3/5; seed 2: P = 1/2, R = 1/2
    assert scores(arm) == pytest.approx([2 * 0.75 * 0.6 / 1.35, 0.5])


def test_resampled_documents_are_drawn_for_all_runs_alike():
    rng = np.random.default_rng(0)
    arm = means(rng.normal(size=(3, 50)))
    assert resampled_differences(arm, arm, 300, rng) == pytest.approx(np.zeros((300, 3)))


def test_the_resampled_variance_of_one_seed_is_that_of_a_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 400))
    draws = resampled_differences(means(values), means(np.zeros((2, 400))), 4000, rng)
    assert draws.var(axis=0) == pytest.approx(values.var(axis=1) / 400, rel=0.08)


@pytest.mark.parametrize("shift_sd", [0.0, 0.05])
def test_the_variance_of_documents_is_that_of_the_arms_own_difficulty(shift_sd):
    rng = np.random.default_rng(2)
    found = [judged(crossed(rng, seeds=5, shift_sd=shift_sd), rng).document_variance for _ in range(150)]
    planted = 2 * shift_sd**2 / 120
    assert np.mean(found) == pytest.approx(planted, rel=0.2, abs=1e-5)  # the cells' 3e-5 are not in it


@pytest.mark.parametrize("shift_sd", [0.0, 0.06])
@pytest.mark.parametrize("seeds", [3, 10])
def test_intervals_cover_a_planted_difference(seeds, shift_sd):
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        low, high = judged(
            crossed(rng, seeds=seeds, documents=60, shift_sd=shift_sd, difference=0.01), rng, 100
        ).interval(0.05)
        held += low <= 0.01 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_the_same_generator_gives_the_same_draws():
    arms = crossed(np.random.default_rng(4))
    one, other = (resampled_differences(*arms, 50, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)
