"""Calibration against closed forms, scikit-learn, and planted truth: calibrated and overconfident models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from kaggle_kit.analysis.calibration import (
    Scores,
    bin_numbers,
    cross_fitted,
    ece,
    ece_rows,
    in_words,
    pair_scores,
    reliability_table,
    summary,
    temperature,
)
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Access, RankedPair, UnifiedSample

PLANTED = 2.0  # times the true logits


def drawn(seed: int, sharpness: float = 1.0, n: int = 400) -> Scores:
    """Outcomes of known log-odds, reported at `sharpness` times these: 1 is calibrated, above it too sure."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.5, 1.5, size=n)
    right = rng.random(n) < expit(odds)
    return Scores.of(
        zip(expit(sharpness * odds), right, (f"d{place // 5}" for place in range(n)), strict=True)
    )


def p_value(found: Scores, seed: int) -> list[float]:
    return [row["p"] for row in ece_rows(found, np.random.default_rng(seed), draws=200)]


def test_four_predictions_by_hand():
    """.95 is right in one of two: |.5 - .95| = .45; .25 in none of two: .25. Mean over the four: .35."""
    found = Scores.of([(0.95, True, "a"), (0.95, False, "a"), (0.25, False, "b"), (0.25, False, "b")])
    number = bin_numbers(found.confidence)
    assert number.tolist() == [9, 9, 2, 2]
    assert ece(found) == pytest.approx(0.35)
    row = summary(found, np.random.default_rng(0))
    assert (row["n"], row["documents"], row["share right"]) == (4, 2, 0.25)
    assert row["gap"] == pytest.approx(0.6 - 0.25) and row["low"] <= row["gap"] <= row["high"]
    assert row["Brier"] == pytest.approx((0.05**2 + 0.95**2 + 2 * 0.25**2) / 4)


@pytest.mark.parametrize(("equal_mass", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_bins_and_brier_are_those_of_scikit_learn(equal_mass, strategy):
    found = drawn(1, PLANTED)
    table = reliability_table(found, 10, equal_mass)
    share, confidence = calibration_curve(found.correct, found.confidence, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(table["share right"], share)
    np.testing.assert_allclose(table["confidence"], confidence)
    assert (table["low"] <= table["share right"]).all() and table["n"].sum() == len(found)
    brier = summary(found, np.random.default_rng(0), draws=10)["Brier"]
    assert brier == pytest.approx(brier_score_loss(found.correct, found.confidence))


def test_certainty_is_in_the_last_bin_and_equal_confidences_share_one():
    assert bin_numbers(np.array([0.0, 1.0]), 10).tolist() == [0, 9]
    assert len(set(bin_numbers(np.full(50, 0.7), 10, equal_mass=True))) == 1


def test_the_null_is_what_a_calibrated_model_shows_and_is_taken_off():
    """Of a bin's sum of y - p the expected size is √(2/π Σ p(1 - p)), for it is nearly normal."""
    samples = [drawn(seed, n=200) for seed in range(40)]
    rows = [ece_rows(found, np.random.default_rng(100), draws=200)[0] for found in samples]
    for found, row in zip(samples, rows, strict=True):
        p = found.confidence
        spread = np.sqrt(2 / np.pi * np.bincount(bin_numbers(p), weights=p * (1 - p)))
        assert row["null"] == pytest.approx(spread.sum() / 200, rel=0.1)
    assert abs(np.mean([row["excess"] for row in rows])) < 0.008
    assert all(row["excess"] == pytest.approx(row["ECE"] - row["null"]) for row in rows)


def test_a_calibrated_model_raises_at_most_the_declared_alarms_and_an_overconfident_one_is_found():
    silent = np.array([p_value(drawn(seed), 10_000 + seed) for seed in range(400)])
    assert (silent <= 0.05).mean(axis=0).max() <= 0.072  # 5 % and two standard errors of 400 draws
    found = np.array([p_value(drawn(seed, PLANTED), seed) for seed in range(20)])
    assert (found <= 0.05).all()


def test_the_planted_temperature_is_found_on_dev_and_mends_other_predictions():
    fitted = temperature(drawn(1, PLANTED, n=4000))
    assert fitted == pytest.approx(PLANTED, rel=0.1)
    fresh = drawn(2, PLANTED, n=4000)
    before, after = (ece(s) for s in (fresh, fresh.at(fitted)))
    assert after < 0.5 * before
    assert p_value(fresh.at(fitted), 0)[0] > 0.05
    assert temperature(drawn(3, n=4000)) == pytest.approx(1.0, rel=0.1)


def test_the_temperature_of_words_is_that_of_all_their_tags():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, size=(4000, 4))
    odds = np.exp(logits)
    right = (rng.random((4000, 1)) > (odds / odds.sum(1, keepdims=True)).cumsum(1)).sum(1)
    words = Scores(3 * logits, logits.argmax(1), right, np.array(["d"] * 4000))
    assert temperature(words) == pytest.approx(3.0, rel=0.1)
    assert words.at(3.0).confidence.mean() == pytest.approx(words.correct.mean(), abs=0.02)


def test_a_document_never_decides_on_its_own_temperature():
    sure, unsure = drawn(1, 3.0, n=2000), drawn(2, 0.5, n=2000)
    both = Scores(
        *(np.concatenate(parts) for parts in zip(*(vars(s).values() for s in (sure, unsure)), strict=True))
    )
    half = np.repeat([0, 1], 2000)
    fitted = cross_fitted(both, half)
    assert set(fitted[:2000]) == {temperature(unsure)} and set(fitted[2000:]) == {temperature(sure)}


def test_no_temperature_says_anything_where_all_predictions_are_right():
    assert np.isnan(temperature(Scores.of([(0.9, True, "d"), (0.8, True, "d")])))


def test_a_score_that_is_no_probability_is_refused():
    with pytest.raises(ConfigError, match="1.5"):
        Scores.of([(0.5, True, "d"), (1.5, True, "d")])


def test_candidates_count_by_their_probability_and_gold_that_is_withheld_does_not():
    gold = [RankedPair("q", "1", "", 1, relevant=True), RankedPair("q", "2", "", 2, relevant=None)]
    told = [RankedPair("q", "1", "", 1, relevant=False, score=0.3), RankedPair("q", "2", "", 2, score=0.9)]
    sides = ([UnifiedSample("q", None, "dev", Access.PUBLIC, pairs=tuple(pairs))] for pairs in (gold, told))
    found = pair_scores(*sides)
    assert found.confidence == pytest.approx([0.3]) and found.correct.tolist() == [1.0]


def test_the_sentence_names_the_direction_and_the_null():
    found = drawn(1, PLANTED)
    row, (width, _) = summary(found, np.random.default_rng(0)), ece_rows(found, np.random.default_rng(0))
    said = in_words("notes, mentions", row, width)
    assert said.startswith("notes, mentions: 400 predictions in 80 documents") and "not calibrated" in said
    assert "overconfident" in in_words("x", row | {"low": 0.01}, width)
    assert "no fault" in in_words("x", row, width | {"p_holm": 0.5})
