"""The rule on p values alone: which controls genuine transfer takes, which family, which declared seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from kaggle_kit.analysis.verdict_rule import Contrast, Rule, Verdict, decide
from kaggle_kit.core.errors import ConfigError


def contrasts(**p_values):
    """Contrasts with these two-sided p values; a negative one stands for a difference below zero."""
    return {name: Contrast(1.0 if p > 0 else -1.0, abs(p), 1.0) for name, p in p_values.items()}


def decided(level=0.05, **p_values):
    return decide({"task": contrasts(**p_values)}, level)["task"]


ALL = {"total": 0.01, "best_development": 0.02, "share": 0.03}


def test_genuine_transfer_takes_every_control_and_its_p_is_the_largest():
    found = decided(**ALL)
    assert (found.verdict, found.specification, found.transfer_p) == (Verdict.GENUINE, Verdict.GENUINE, 0.03)
    assert found.failed == found.missing == []


@pytest.mark.parametrize("control", ["best_development", "share"])
@pytest.mark.parametrize("p", [0.2, -0.001])
def test_a_gain_that_one_control_withstands_is_undecided_and_that_one_is_named(control, p):
    found = decided(**ALL | {control: p})
    assert (found.verdict, found.specification, found.failed) == (
        Verdict.UNDECIDED,
        Verdict.GENUINE,
        [control],
    )
    assert found.transfer_p == (p if p > 0 else 1.0)


@pytest.mark.parametrize("control", ["best_development", "share"])
def test_without_a_control_no_gain_is_genuine(control):
    found = decided(**{name: p for name, p in ALL.items() if name != control})
    assert (found.verdict, found.specification) == (Verdict.UNDECIDED, Verdict.GENUINE)
    assert (found.failed, found.missing) == ([], [control])


def test_negative_transfer_and_data_exposure_stand_on_the_total_control_alone():
    assert decided(total=-0.01).verdict == Verdict.NEGATIVE
    assert decide({"task": {"total": Contrast(0.0, 0.9, 0.01)}}, 0.05)["task"].verdict == Verdict.EXPOSURE
    assert decided(total=0.2).verdict == Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("placebo", "gain", "verdict"),
    [
        (0.01, 0.5, Verdict.GENUINE),  # better than the placebo
        (0.01, 0.01, Verdict.GENUINE),  # of which a part is regularisation
        (0.6, 0.01, Verdict.REGULARISATION),
        (-0.6, 0.01, Verdict.REGULARISATION),
        (0.6, 0.5, Verdict.UNDECIDED),  # the placebo's gain is not shown either
        (0.6, -0.01, Verdict.UNDECIDED),
    ],
)
def test_a_gain_that_permuted_labels_also_give_is_regularisation(placebo, gain, verdict):
    found = decided(**ALL, placebo=placebo, placebo_gain=gain)
    assert (found.verdict, found.specification) == (verdict, Verdict.GENUINE)
    assert found.failed == ([] if verdict == Verdict.GENUINE else ["placebo"])


def test_tasks_are_one_family_of_their_largest_p_values():
    # Within each control Holm would pass both tasks (.01 and .03 against .025 and .05); the largest
    # p values are .03 and .03, of which the smaller one misses .025.
    family = {
        "one": contrasts(total=0.01, best_development=0.03, share=0.01),
        "two": contrasts(total=0.01, best_development=0.01, share=0.03),
    }
    found = decide(family, 0.05)
    assert [found[name].transfer_p_holm for name in family] == [0.06, 0.06]
    assert [found[name].verdict for name in family] == [Verdict.UNDECIDED, Verdict.UNDECIDED]
    assert [found[name].failed for name in family] == [["best_development"], ["share"]]  # the weakest ones


def test_whatever_control_explains_the_gains_a_study_seldom_says_genuine():
    """The worst case: every task beats two controls by far and the third not at all, not always the same."""
    rng = np.random.default_rng(11)
    studies, said = 4000, 0
    for _ in range(studies):
        family = {}
        for task in range(6):
            p = dict.fromkeys(ALL, 1e-9)
            z = rng.normal()
            p[list(ALL)[task % 3]] = np.copysign(2 * norm.sf(abs(z)), z)
            family[str(task)] = contrasts(**p)
        said += any(found.verdict == Verdict.GENUINE for found in decide(family, 0.05).values())
    assert said / studies <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / studies)  # half the level, as above zero


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
