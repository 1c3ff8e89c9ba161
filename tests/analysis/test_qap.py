"""Mantel's test against brute force over relabellings, on planted truth, and its known power."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import pearsonr

from kaggle_kit.analysis import qap
from kaggle_kit.core.errors import ConfigError

SIZE = "log_size_ratio"


def random_matrix(seed: int, tasks: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tasks, tasks))


def brute_force(y: np.ndarray, x: np.ndarray, statistic) -> tuple[float, float]:
    """Relabels x by loops over cells; the statistic is of two lists of cells."""
    cells = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
    of_y = [y[cell] for cell in cells]
    found = [
        statistic(of_y, [x[order[i], order[j]] for i, j in cells]) for order in permutations(range(len(y)))
    ]
    return found[0], sum(abs(r) >= abs(found[0]) - 1e-9 for r in found) / len(found)


@pytest.mark.parametrize("seed", range(3))
def test_r_and_p_are_those_of_brute_force(seed):
    y, x = random_matrix(seed), random_matrix(seed + 50)
    expected = brute_force(y, x, lambda a, b: pearsonr(a, b).statistic)
    assert qap.mantel(y, x) == pytest.approx(expected)


def test_three_tasks_by_hand():
    y = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=float)
    x = np.array([[0, 9, 2], [9, 0, 2], [2, 2, 0]], dtype=float)
    # The pair that gains is the pair that is alike; 2 of 6 relabellings leave that pair where it is.
    assert qap.mantel(y, x) == pytest.approx((1.0, 2 / 6))
    assert qap.negative_auc(-y, x) == 0.0  # the cells that lose are the most alike
    assert qap.negative_auc(y - 0.5, x) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_partial_r_is_that_of_two_regressions_and_its_p_that_of_brute_force(seed):
    y, x, z = (random_matrix(seed + 100 * k) for k in range(3))
    cells = ~np.eye(5, dtype=bool)

    def residual(values, on):
        design = np.column_stack([np.ones(len(on)), on])
        return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]

    def partial(a, b):
        return pearsonr(residual(np.array(a), z[cells]), residual(np.array(b), z[cells])).statistic

    free = np.zeros((5, 5))
    free[cells] = residual(x[cells], z[cells])
    expected = brute_force(y, free, partial)
    assert qap.mantel(y, x, z) == pytest.approx(expected)
    assert expected[0] == pytest.approx(partial(y[cells], x[cells]))


def test_similarity_that_decides_is_found_at_the_smallest_p_there_is():
    x = random_matrix(1)
    found = {
        p.predictor: p for p in qap.predict(x + 0.1 * random_matrix(2), {"alike": x, SIZE: random_matrix(3)})
    }
    assert found["alike"].r > 0.9
    assert found["alike"].p_given == pytest.approx(qap.smallest_p(5)) == pytest.approx(1 / 120, abs=5e-5)
    assert found["alike"].p_holm == pytest.approx(2 / 120)
    assert found["alike"].auc > 0.9


def test_similarity_that_says_nothing_is_found_as_often_as_alpha_says():
    generator = np.random.default_rng(5)
    found = qap.power(0.0, 5, generator, trials=2000)
    assert 0.03 <= found <= 0.07


def test_a_confounder_that_explains_both_leaves_nothing_for_the_predictor():
    size = random_matrix(1)
    predictors = {"alike": size + 0.3 * random_matrix(2), SIZE: size}
    found = qap.predict(size + 0.3 * random_matrix(3), predictors)
    assert found[0].r > 0.8 and found[0].p <= 0.02
    assert abs(found[0].r_given) < 0.5 and found[0].p_given > 0.05


@pytest.mark.parametrize(("rho", "expected"), [(0.5, 0.35), (0.7, 0.66), (0.9, 0.96)])
def test_the_power_over_five_tasks_is_the_one_found_elsewhere(rho, expected):
    assert qap.power(rho, 5, np.random.default_rng(7), trials=2000) == pytest.approx(expected, abs=0.05)


def test_holms_adjustment_by_hand_leaves_out_what_could_not_be_tested():
    adjusted = qap.holm({"a": 0.01, "b": 0.04, "c": float("nan"), "d": 0.03})
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["d"] == adjusted["b"] == pytest.approx(0.06)
    assert np.isnan(adjusted["c"])


def test_a_constant_or_unmeasured_predictor_has_no_p_and_does_not_widen_the_family():
    unmeasured = random_matrix(4)
    unmeasured[0, 1] = np.nan
    predictors = {"constant": np.ones((5, 5)), "unmeasured": unmeasured, SIZE: random_matrix(3)}
    constant, gap, size = qap.predict(random_matrix(1), predictors)
    assert all(np.isnan(value) for one in (constant, gap) for value in (one.r, one.p_given, one.p_holm))
    assert size.p_holm == size.p


def test_an_incomplete_matrix_is_not_tested_and_the_power_is_simulated_all_the_same():
    transfer = random_matrix(1, tasks=4)
    transfer[0, 1] = np.nan
    predictors = {"alike": random_matrix(2, 4), SIZE: random_matrix(3, 4)}
    with pytest.raises(ConfigError, match="1 of 12 cells of the transfer matrix are missing"):
        qap.predict(transfer, predictors)
    result = qap.exploratory(transfer, predictors, alpha=0.05, seed=1)
    assert result["predictions"] == [] and "1 of 12 cells" in result["because"]
    assert result["exploratory"] and result["smallest_p"] == pytest.approx(1 / 24)
    assert result["power"]["symmetric alone"]["0.9"] > result["power"]["symmetric holm"]["0.9"]
    table = qap.power_table(result).set_index("matrices")
    assert table.loc["symmetric alone", "r = 0.9"] == result["power"]["symmetric alone"]["0.9"]
    assert qap.prediction_table(result).empty


def test_a_complete_matrix_has_a_row_for_every_predictor():
    predictors = {"alike": random_matrix(2), SIZE: random_matrix(3)}
    result = qap.exploratory(random_matrix(1), predictors, alpha=0.05, seed=1)
    table = qap.prediction_table(result).set_index("predictor")
    r, p = qap.mantel(random_matrix(1), predictors["alike"])
    assert list(table.index) == ["alike", SIZE] and tuple(table.loc["alike", ["r", "p"]]) == (r, p)


def test_more_tasks_than_can_be_relabelled_one_by_one_are_refused():
    with pytest.raises(ConfigError, match="9 tasks have 362,880 relabellings; at most 8"):
        qap.mantel(random_matrix(1, 9), random_matrix(2, 9))
