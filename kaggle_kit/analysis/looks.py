"""What looking more than once costs, and the level at which several looks keep the error (Pocock 1977).

    look_level(0.05, (3, 5, 8))                 # .0225: each of the three looks is judged at it
    error_of_looks(0.05, (5, 8))                # .078: what a second look at an unchanged level costs

A look is a number of seeds at which the verdict is read, and at which the study may stop. Scores of seeds
are independent, so the test statistics of the looks are a random walk seen at several times; the chance
that it never leaves the band is integrated look by look (Armitage, McPherson and Rowe 1969). The walk is
normal; that t tests with few seeds keep the level as well is what `benchmarks.judge_simulation` shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

NODES = 200  # of the Gauss-Legendre rule on the band: exact to 1e-9 even where looks are one seed apart


@lru_cache
def look_level(alpha: float, looks: Sequence[int]) -> float:
    """The two-sided level of each look at which all looks together have the error alpha."""
    if len(looks) < 2:
        return alpha
    return float(brentq(lambda level: error_of_looks(level, looks) - alpha, alpha / len(looks), alpha))


def error_of_looks(level: float, looks: Sequence[int]) -> float:
    """The chance that any of several looks finds a difference at `level` where there is none."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    reach = norm.isf(level / 2)
    band = reach * np.sqrt(looks[0])  # a sum over n seeds with variance n stays within reach * sqrt(n)
    at, weight = band * places, band * weights
    density = norm.pdf(at, scale=np.sqrt(looks[0]))
    for before, seeds in zip(looks, looks[1:], strict=False):
        band = reach * np.sqrt(seeds)
        then = band * places
        steps = norm.pdf(then[:, None] - at[None, :], scale=np.sqrt(seeds - before))  # (then, at)
        density, at, weight = steps @ (weight * density), then, band * weights
    return float(1 - weight @ density)
