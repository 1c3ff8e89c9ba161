"""Declared seeds and looks: at which level a verdict is read, and when it is interim."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.analysis.looks import error_of_looks, look_level
from kaggle_kit.analysis.verdict_estimates import judge
from kaggle_kit.analysis.verdict_rule import (
    Rule,
)
from kaggle_kit.core.errors import ConfigError
from tests.analysis.test_verdict_rule import QUICK, table


def test_a_second_look_has_its_price_in_the_plan():
    rng = np.random.default_rng(16)
    found = judge({"t": table(rng, truth=0.01, seeds=3, seed_sd=0.02)}, QUICK, rng)["tasks"]["t"]
    seeds = (3, 3 + found["more_seeds"])
    assert found["second_look_error"] == pytest.approx(error_of_looks(0.05, seeds), rel=1e-9) and (
        0.05 < found["second_look_error"] < 0.10
    )


def test_declared_looks_are_judged_at_their_own_level():
    declared = {"seeds": range(1, 9), "looks": (3, 5, 8)}
    rule = Rule(resamples=60, **declared)
    assert rule.level == look_level(0.05, (3, 5, 8)) and Rule().level == 0.05
    found = judge(
        {"t": table(np.random.default_rng(17), truth=0.01, seeds=3)}, rule, np.random.default_rng(0)
    )
    low, high = found["tasks"]["t"]["interval"]
    wide = judge(
        {"t": table(np.random.default_rng(17), truth=0.01, seeds=3)}, QUICK, np.random.default_rng(0)
    )
    assert high - low > np.ptp(wide["tasks"]["t"]["interval"])


@pytest.mark.parametrize(
    ("declared", "found", "interim"),
    [
        ({"seeds": (1, 2, 3)}, (1, 2, 3), False),
        ({"seeds": (1, 2, 3)}, (3, 2, 1), False),
        ({"seeds": (1, 2, 3)}, (1, 2), True),
        ({"seeds": (1, 2, 3)}, (1, 2, 3, 4), True),
        ({"seeds": (1, 2, 3)}, (1, 2, 7), True),
        ({}, (1, 2, 3), True),
        ({"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}, (1, 2, 3), False),
        ({"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}, (2, 3, 4), True),
        ({"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}, (1, 2, 3, 4), True),
    ],
)
def test_a_verdict_on_other_seeds_than_declared_is_interim(declared, found, interim):
    assert bool(Rule(**declared).interim(found)) is interim


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"estimand": "trimed"}, "did you mean 'trimmed'"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [1]}, "at least 2"),
        ({"seeds": ["1", "2"]}, "whole numbers"),
        ({"looks": [3, 5]}, "with 0 declared seeds"),
        ({"seeds": [1, 2, 3], "looks": [2]}, "the last one all"),
        ({"seeds": [1, 2, 3], "looks": [3, 2]}, "rising"),
        ({"seeds": [1, 2, 3], "looks": [1, 3]}, "from 2 up"),
    ],
)
def test_seeds_looks_and_estimand_are_right_or_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        Rule(**setting)
