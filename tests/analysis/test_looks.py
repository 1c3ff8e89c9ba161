"""Several looks: Pocock's published constants, closed cases, and what planted noise says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, ttest_ind

from kaggle_kit.analysis.stats import error_of_looks, look_level


@pytest.mark.parametrize(
    ("looks", "constant"),
    [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)],  # Pocock 1977; Jennison, Turnbull 2000
)
def test_equally_spaced_looks_have_pococks_constants(looks, constant):
    level = look_level(0.05, tuple(range(1, looks + 1)))
    assert norm.isf(level / 2) == pytest.approx(constant, abs=6e-4)


def test_one_look_costs_nothing():
    assert look_level(0.05, ()) == look_level(0.05, (8,)) == 0.05
    assert error_of_looks(0.05, (8,)) == pytest.approx(0.05, abs=1e-12)


@pytest.mark.parametrize("looks", [(3, 5, 8), (5, 6), (2, 30)])
def test_the_error_is_that_of_the_multivariate_normal(looks):
    times = np.array(looks, dtype=float)
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    reach = np.full(len(looks), norm.isf(0.025))
    inside = multivariate_normal.cdf(
        reach, mean=np.zeros(len(looks)), cov=correlation, lower_limit=-reach, abseps=1e-7
    )
    assert error_of_looks(0.05, looks) == pytest.approx(1 - inside, abs=2e-4)


def test_three_looks_with_few_seeds_keep_the_error_of_t_tests():
    looks, studies = (3, 5, 8), 6000
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, studies, 8))
    p = np.array([ttest_ind(one[:, :n], other[:, :n], axis=1, equal_var=False).pvalue for n in looks])
    error = np.sqrt(0.05 * 0.95 / studies)
    assert (p.min(axis=0) <= look_level(0.05, looks)).mean() <= 0.05 + 3 * error
    assert (p.min(axis=0) <= 0.05).mean() >= 0.05 + 3 * error  # what stopping at the first p of .05 costs
