"""Differences between two arms of runs: estimate, interval, tests, power. Pure functions on arrays.

    draws = resampled_differences(multi_task, control, 10_000, np.random.default_rng(0))
    difference = difference_of(scores(multi_task), scores(control), document_variance(draws), documents=500)
    difference.interval(0.05), difference.p_value, difference.equivalence_p(0.01)
    outliers([0.70, 0.71, 0.31, 0.70, 0.72])      # [2]: the seeds that lie far from their arm
    look_level(0.05, (3, 5, 8))                   # .0225: each of three looks is judged at it
    error_of_looks(0.05, (5, 8))                  # .078: what a second look at an unchanged level costs

An arm is an array (seeds, documents, columns): what each document adds to the metric under each seed, as
`evaluation.documents` has it. Two things vary: the training, by seed, and the test set, by document (both
arms answer the same ones). Resampling both at once counts the noise of each seed-document cell three
times, and n seeds drawn from n vary too little by (n - 1)/n, so such an interval covers too much with few
documents and too little with few seeds (McCullagh 2000, Owen 2007). The two levels are therefore
resampled apart and their variances added:

- seeds: the variance of a resampled mean over seeds is known in closed form; times n/(n - 1) it is that
  of Welch's or the paired t test. The noise of the cells is in it;
- documents: drawn jointly for all seeds of both arms. The covariance between *different* seeds of the
  resampled differences is what the documents contribute; the noise of the cells is not in it.

Degrees of freedom are Satterthwaite's. Where documents do not matter to the difference, the test is
exactly Welch's (or the paired) t test over seed means. With `trim` the means over seeds are trimmed ones and
the test is Yuen's (1974): a run that failed to learn then moves neither the estimate nor its error much.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy  # `stats` and `optimize` load when they are first used
from scipy.special import stdtr, stdtrit  # Student's t: distribution function and its inverse

from kaggle_kit.evaluation.documents import figure

TESTS = ("welch", "paired")
TRIM = 0.2  # of an arm's seeds, cut off at either end by the trimmed mean (Yuen 1974, Wilcox 2012)
OUTLIER_MADS = 4  # median absolute deviations, in units of a normal standard deviation
FEWEST_WITH_OUTLIERS = 5  # seeds: with fewer, the deviation is too uncertain to tell an outlier from luck
NODES = 200  # of the Gauss-Legendre rule on the band: exact to 1e-9 even where looks are one seed apart
MOST_SEEDS = 1000  # where the search for enough seeds gives up
CHUNK = 1000  # resamples held at once


def scores(arm: np.ndarray) -> np.ndarray:
    """Return the metric of each seed's run: (seeds, documents, columns) -> (seeds,)."""
    return figure(arm.sum(axis=1))


def by_cluster(arm: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """Sum the documents of each cluster: (seeds, documents, columns) -> (seeds, clusters, columns).

    Documents of one patient or one question thread are no independent draws, so clusters are resampled.
    """
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    summed = np.zeros((arm.shape[0], len(names), arm.shape[2]))
    np.add.at(summed, (slice(None), place), arm)
    return summed


def resampled_differences(
    one: np.ndarray, other: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return each seed's score difference on documents drawn with replacement, (resamples, seeds).

    All seeds of both arms see the same draw; `one` and `other` are (seeds, documents, columns).
    """
    resampled = resampled_scores(np.concatenate([one, other]), resamples, rng)
    return resampled[:, : len(one)] - resampled[:, len(one) :]


def resampled_scores(arms: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Score every run on the same drawn documents: (runs, documents, columns) -> (resamples, runs)."""
    runs, documents, columns = arms.shape
    parts = arms.transpose(1, 0, 2).reshape(documents, runs * columns)
    draws = np.empty((resamples, runs))
    for start in range(0, resamples, CHUNK):
        times = _times_drawn(min(CHUNK, resamples - start), documents, rng)
        draws[start : start + CHUNK] = figure((times @ parts).reshape(-1, runs, columns))  # (chunk, runs)
    return draws


def _times_drawn(resamples: int, documents: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many documents as there are; return how often each is drawn, (resamples, documents)."""
    drawn = rng.integers(documents, size=(resamples, documents), dtype=np.int32)
    drawn += np.arange(resamples, dtype=np.int32)[:, None] * documents
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)


def document_variance(draws: np.ndarray) -> float:
    """Return the variance of the mean difference that documents add, from draws (resamples, seeds).

    The mean covariance of the resampled differences of two different seeds, 0 where it is negative.
    """
    seeds = draws.shape[1]
    of_mean, of_one = draws.mean(axis=1).var(), draws.var(axis=0).mean()
    return max(0.0, float((seeds * of_mean - of_one) / (seeds - 1)))


def kept_seeds(values: np.ndarray, trim: float) -> np.ndarray:
    """Return the places that a trimmed mean keeps, in order: all but the lowest and highest `trim`."""
    cut = int(trim * len(values))
    return np.sort(np.argsort(values, kind="stable")[cut : len(values) - cut])


def outliers(values: Sequence[float]) -> list[int]:
    """Return the places of values more than OUTLIER_MADS median absolute deviations from their median.

    None among fewer than FEWEST_WITH_OUTLIERS values.
    """
    if len(values) < FEWEST_WITH_OUTLIERS:
        return []
    found = np.asarray(values, dtype=float)
    distance = np.abs(found - np.median(found))
    deviation = float(scipy.stats.median_abs_deviation(found, scale="normal"))
    return np.flatnonzero(distance > OUTLIER_MADS * deviation + 1e-12).tolist()


def difference_of(
    one: np.ndarray,
    other: np.ndarray,
    document_variance: float,
    documents: int,
    test: str = "welch",
    trim: float = 0.0,
) -> Difference:
    """Estimate the difference of two arms from their scores, (seeds,) each and in the same order of seeds."""
    samples = [one - other] if test == "paired" else [one, other]
    (value, *subtracted), variances = zip(*(_mean(sample, trim) for sample in samples), strict=True)
    total, squares = sum(variances), sum(variance**2 for variance in variances)
    per_seed = total**2 / squares if squares else float(len(variances))
    seeds, kept = len(one), len(kept_seeds(one, trim)) / len(one)
    value -= sum(subtracted)
    return Difference(value, seeds, seeds * total, per_seed, document_variance, documents, kept)


def _mean(values: np.ndarray, trim: float) -> tuple[float, float]:
    """Return the (trimmed) mean of values and its squared standard error, from winsorised variance."""
    ordered, count, cut = np.sort(values), len(values), int(trim * len(values))
    kept = ordered[cut : count - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    squared_error = winsorised.var(ddof=1) * (count - 1) / (len(kept) * (len(kept) - 1))
    return float(kept.mean()), float(squared_error)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of means over `seeds` seeds; its variance is seed_variance / seeds + document_variance."""

    value: float
    seeds: int
    seed_variance: float  # of one seed: both arms' variances, or that of the paired differences
    df_per_seed: float  # degrees of freedom of seed_variance, over the kept seeds - 1: from 1 to 2
    document_variance: float  # of the mean over this many documents, or clusters of them
    documents: int
    kept: float = 1.0  # share of an arm's seeds that a trimmed mean keeps

    @property
    def standard_error(self) -> float:
        """Return the standard error over seeds and documents, in the metric's own unit."""
        return math.sqrt(self.seed_variance / self.seeds + self.document_variance)

    @property
    def df(self) -> float:
        """Return Satterthwaite's degrees of freedom."""
        of_seeds, df_seeds = self.seed_variance / self.seeds, self.df_per_seed * (self.kept * self.seeds - 1)
        spread = of_seeds**2 / df_seeds + self.document_variance**2 / max(1, self.documents - 1)
        return (of_seeds + self.document_variance) ** 2 / spread if spread else df_seeds

    @property
    def p_value(self) -> float:
        """Return the p of the two-sided test of no difference."""
        return min(1.0, 2 * self._tail(abs(self.value)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the ends of the two-sided interval of confidence 1 - alpha."""
        half = float(stdtrit(self.df, 1 - alpha / 2)) * self.standard_error
        return self.value - half, self.value + half

    def equivalence_p(self, margin: float) -> float:
        """Return the larger p of two one-sided tests of a difference within ± margin (Schuirmann 1987).

        At most alpha exactly where the interval of confidence 1 - 2 alpha lies inside the margin.
        """
        return self._tail(margin - abs(self.value))

    def detectable(self, alpha: float, power: float) -> float:
        """Return the smallest true difference that the two-sided test finds with this power and seeds."""
        quantiles = stdtrit(self.df, 1 - alpha / 2) + stdtrit(self.df, power)
        return float(quantiles) * self.standard_error

    def seeds_to_detect(self, effect: float, alpha: float, power: float) -> int | None:
        """Return the fewest seeds that find a true difference `effect`; None where no number is enough."""
        return self._fewest(lambda d: difference_power(effect, d.standard_error, d.df, alpha) >= power)

    def seeds_to_equate(self, effect: float, margin: float, alpha: float, power: float) -> int | None:
        """Return the fewest seeds that show a true difference `effect` within ± margin; None as above."""
        return self._fewest(
            lambda d: equivalence_power(effect, margin, d.standard_error, d.df, alpha) >= power
        )

    def _tail(self, distance: float) -> float:
        if self.standard_error == 0.0:
            return 0.5 if distance == 0.0 else float(distance < 0)
        return float(stdtr(self.df, -distance / self.standard_error))

    def _fewest(self, enough: Callable[[Difference], bool]) -> int | None:
        """Return the fewest seeds that are `enough`, which stays true with more; None if no number is."""
        counts = range(2, MOST_SEEDS + 1)
        place = bisect_left(counts, True, key=lambda n: bool(enough(replace(self, seeds=n))))
        return counts[place] if place < len(counts) else None


def difference_power(effect: float, error: float, df: float, alpha: float) -> float:
    """Return the power of the two-sided t test at a true difference to find its direction."""
    if error == 0.0:
        return float(effect != 0.0)
    return float(scipy.stats.nct.sf(stdtrit(df, 1 - alpha / 2), df, abs(effect) / error))


def equivalence_power(effect: float, margin: float, error: float, df: float, alpha: float) -> float:
    """Return the power of the two one-sided tests, over the estimated standard error (Phillips 1990)."""
    if error == 0.0:
        return float(abs(effect) < margin)
    estimated = np.sqrt(scipy.stats.chi2.ppf((np.arange(400) + 0.5) / 400, df) / df)  # over the true one
    reach = stdtrit(df, 1 - alpha) * estimated
    upper = scipy.stats.norm.cdf((margin - effect) / error - reach)
    lower = scipy.stats.norm.cdf((-margin - effect) / error + reach)
    return float(np.clip(upper - lower, 0, None).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values over their family (Holm 1979) and return them in the given order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()  # statsmodels' multipletests takes milliseconds a call


@lru_cache
def look_level(alpha: float, looks: Sequence[int]) -> float:
    """Return the two-sided level of each look at which all looks together err with alpha (Pocock 1977).

    A look is a number of seeds at which the verdict is read, and at which the study may stop.
    """
    if len(looks) < 2:
        return alpha
    beyond = lambda level: error_of_looks(level, looks) - alpha  # noqa: E731
    return float(scipy.optimize.brentq(beyond, alpha / len(looks), alpha))


def error_of_looks(level: float, looks: Sequence[int]) -> float:
    """Return the chance that any of several looks finds a difference at `level` where there is none.

    Scores of seeds are independent, so the test statistics of the looks are a random walk seen at several
    times; the chance that it never leaves the band is integrated look by look (Armitage, McPherson and Rowe
    1969). The walk is normal; that t tests with few seeds keep the level is what `judge_simulation` shows.
    """
    places, weights = np.polynomial.legendre.leggauss(NODES)
    reach = scipy.stats.norm.isf(level / 2)
    band = reach * np.sqrt(looks[0])  # a sum over n seeds with variance n stays within reach * sqrt(n)
    at, weight = band * places, band * weights
    density = scipy.stats.norm.pdf(at, scale=np.sqrt(looks[0]))
    for before, seeds in zip(looks, looks[1:], strict=False):
        band = reach * np.sqrt(seeds)
        then = band * places
        steps = scipy.stats.norm.pdf(then[:, None] - at, scale=np.sqrt(seeds - before))  # (then, at)
        density, at, weight = steps @ (weight * density), then, band * weights
    return float(1 - weight @ density)
