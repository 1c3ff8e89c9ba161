"""Is a probability of 0.8 right eight times in ten? Calibration of scored predictions, beside its null.

    found = Scores.of([(0.9, True, "note 1"), (0.6, False, "note 2"), …])   # or scores_of(error cases)
    summary(found, rng), ece_rows(found, rng)       # gap, Brier; ECE less what a calibrated model shows, p
    found.at(temperature(dev))                      # one scalar, fitted on development data alone

ECE is the mean distance between confidence and share right over bins (Naeini et al. 2015, Guo et al. 2017).
It is above 0 for a perfectly calibrated model, too: .06 at 200 predictions in ten bins. So outcomes are
drawn anew from the very confidences; the mean ECE of these draws is subtracted, and p is the share of draws
that reach the ECE found. Draws are independent: where errors of a document come together, p is too small,
and the interval of the gap, which draws whole documents, says more. A prediction that was never made has no
confidence, so of mentions and relations it is precision that is calibrated, and misses do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logit, softmax
from scipy.stats import binomtest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import UnifiedSample

BINS, DRAWS = 10, 1000
ROUNDING = 2.0**-24  # of a float32 probability: 1 minus this is the highest one below 1
MOST_TEMPERATURE = 100.0  # and its inverse the least
ALPHA = 0.05


@dataclass(frozen=True)
class Scores:
    """Predictions with their probabilities: the class `chosen`, and the one that would be `right`.

    `logits` are (n, classes); `chosen` and `right` are (n,) numbers of classes; `documents` (n,) their ids.
    """

    logits: np.ndarray
    chosen: np.ndarray
    right: np.ndarray
    documents: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[float, bool, str]]) -> Scores:
        """Make them of (probability, whether it is right, document id).

        Raises ConfigError for a score that is no probability.
        """
        probabilities, correct, documents = zip(*rows, strict=True) if (rows := list(rows)) else ((), (), ())
        p = np.array(probabilities, dtype=float)
        if not ((p >= 0) & (p <= 1)).all():
            worst = p[~((p >= 0) & (p <= 1))][0]
            raise ConfigError(f"a score is {worst:g}; calibration takes probabilities from 0 to 1")
        logits = np.column_stack([np.zeros_like(p), logit(p.clip(ROUNDING, 1 - ROUNDING))])
        return cls(logits, np.ones(len(p), int), np.array(correct, int), np.array(documents, str))

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of the chosen class, (n,)."""
        return softmax(self.logits, axis=1)[np.arange(len(self)), self.chosen]

    @property
    def correct(self) -> np.ndarray:
        """Return 1.0 where the chosen class is right, else 0.0, (n,)."""
        return np.equal(self.chosen, self.right).astype(float)

    def at(self, temperature: float | np.ndarray) -> Scores:
        """Return them at a temperature above 0, one for all or one each; above 1 lowers confidence."""
        return replace(self, logits=self.logits / np.reshape(temperature, (-1, 1)))

    def __getitem__(self, chosen: np.ndarray) -> Scores:
        return Scores(self.logits[chosen], self.chosen[chosen], self.right[chosen], self.documents[chosen])


def pair_scores(gold: Sequence[UnifiedSample], predicted: Sequence[UnifiedSample]) -> Scores:
    """Return the probability that a candidate is relevant, and whether it is, of all with a gold label."""
    return Scores.of(
        (told.score, right.relevant, sample.document_id)
        for sample, other in zip(gold, predicted, strict=True)
        for right, told in zip(sample.pairs, other.pairs, strict=True)
        if right.relevant is not None and told.score is not None
    )


def bin_numbers(confidence: np.ndarray, bins: int = BINS, equal_mass: bool = False) -> np.ndarray:
    """Return the bin of each confidence: of equal width, or of about as many predictions.

    A bin holds its upper edge, so 1.0 is in the last one, and equal confidences share a bin.
    """
    parts = np.linspace(0, 1, bins + 1)
    edges = np.quantile(confidence, parts) if equal_mass else parts
    return np.asarray(np.searchsorted(edges[1:-1], confidence))


def ece(found: Scores, bins: int = BINS, equal_mass: bool = False) -> float:
    """Return the expected calibration error: Σ n_b/n |share right − confidence| over bins b."""
    return _error(found.correct - found.confidence, bin_numbers(found.confidence, bins, equal_mass))


def _error(distances: np.ndarray, number: np.ndarray) -> float:
    return float(np.abs(np.bincount(number, weights=distances)).sum() / len(distances))


def ece_rows(
    found: Scores, rng: np.random.Generator, bins: int = BINS, draws: int = DRAWS
) -> list[dict[str, Any]]:
    """Return a row for bins of equal width and one for equal mass: ECE, its null's mean, excess, p."""
    confidence, rows = found.confidence, []
    for words, equal_mass in (("width", False), ("mass", True)):
        number = bin_numbers(confidence, bins, equal_mass)
        seen = _error(found.correct - confidence, number)
        drawn = ((rng.random(len(found)) < confidence) - confidence for _ in range(draws))
        null = np.array([_error(distances, number) for distances in drawn])
        row = {"n": len(found), "bins": f"{bins} of equal {words}", "ECE": seen, "null": null.mean()}
        p = (1 + np.sum(null >= seen - 1e-12)) / (1 + draws)
        rows.append(row | {"excess": seen - null.mean(), "p": float(p)})
    return rows


def summary(found: Scores, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, Any]:
    """Return n, documents, mean confidence, share right, their gap with its 95 % interval, Brier's score.

    The interval draws documents with replacement. A gap above 0 is overconfidence.
    """
    confidence, correct = found.confidence, found.correct
    names, place = np.unique(found.documents, return_inverse=True)
    sums = np.column_stack([np.bincount(place, weights) for weights in (confidence - correct, None)])
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    total, count = (times @ sums).T
    low, high = np.quantile(total / count, [ALPHA / 2, 1 - ALPHA / 2])
    row = {"n": len(found), "documents": len(names), "confidence": confidence.mean()}
    row |= {"share right": correct.mean(), "gap": (confidence - correct).mean(), "low": low, "high": high}
    return row | {"Brier": float(np.mean((confidence - correct) ** 2))}


def reliability_table(found: Scores, bins: int = BINS, equal_mass: bool = False) -> pd.DataFrame:
    """Return a row per bin that is not empty: n, mean confidence, share right, its 95 % Wilson interval."""
    number = bin_numbers(found.confidence, bins, equal_mass)
    each = pd.DataFrame({"bin": number, "confidence": found.confidence, "share right": found.correct})
    table = each.groupby("bin").agg("mean").assign(n=each.groupby("bin").size()).reset_index()
    tests = [binomtest(round(row.n * row[2]), int(row.n)) for row in table.itertuples(index=False)]
    ends = [test.proportion_ci(1 - ALPHA, method="wilson") for test in tests]
    return table.assign(low=[end.low for end in ends], high=[end.high for end in ends])


def temperature(dev: Scores) -> float:
    """Return the T of the highest likelihood on development predictions (Guo et al. 2017).

    NaN where all or none of them are right: then no T says anything.
    """
    if len(set(dev.correct)) < 2:
        return float("nan")
    place = np.arange(len(dev)), dev.right
    bound = np.log(MOST_TEMPERATURE)
    loss = lambda log: -log_softmax(dev.logits * np.exp(-log), axis=1)[place].mean()  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def cross_fitted(found: Scores, half: np.ndarray) -> np.ndarray:
    """Return the temperature of each prediction, (n,), fitted on the documents of the other half, 0 or 1."""
    fitted = [temperature(found[half == 1]), temperature(found[half == 0])]
    return np.where(half == 0, *fitted)


def in_words(what: str, row: dict[str, Any], ece_row: dict[str, Any]) -> str:
    """Say in a sentence what `summary` and a row of `ece_rows` (with `p_holm`, if adjusted) show."""
    gap, low, high = (100 * row[name] for name in ("gap", "low", "high"))
    direction = (
        "overconfident" if low > 0 else "underconfident" if high < 0 else "neither too sure nor unsure"
    )
    p = ece_row.get("p_holm", ece_row["p"])
    verdict = "not calibrated" if p <= ALPHA else "no fault shown"
    return (
        f"{what}: {row['n']:,} predictions in {row['documents']:,} documents are right in "
        f"{row['share right']:.1%} of cases and {row['confidence']:.1%} sure: {direction}, gap {gap:+.1f} "
        f"points ({low:+.1f} to {high:+.1f}). ECE {ece_row['ECE']:.3f}, {ece_row['bins']}; a calibrated one "
        f"would show {ece_row['null']:.3f} (p = {p:.3f}): {verdict}."
    )
