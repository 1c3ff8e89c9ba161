"""The rule on invented tables whose truth is known: right words, few false ones, nothing averaged amiss."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from kaggle_kit.analysis.verdict_rule import EXPOSURE, GENUINE, NEGATIVE, UNDECIDED, Rule, Table, judge
from kaggle_kit.core.errors import ConfigError

QUICK = Rule(resamples=60)


def means(values):
    return np.stack([values, np.ones_like(values)], axis=-1)


def table(rng, *, truth, base=0.7, seeds=10, documents=80, seed_sd=0.008, cell_sd=0.1, margin=0.03):
    """A mean metric of two arms that share the difficulty of their documents."""
    ease = rng.normal(0, 0.15, documents)

    def arm(mean):
        noise = rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, cell_sd, (seeds, documents))
        return means(mean + ease + noise)

    return Table(arm(base + truth), arm(base), margin)


def words(rng, truth, studies, tasks=5, **settings):
    """How often each verdict is said, and in how many studies at least once."""
    said, studies_saying = Counter(), Counter()
    for _ in range(studies):
        tables = {str(n): table(rng, truth=truth, **settings) for n in range(tasks)}
        found = [task["verdict"] for task in judge(tables, QUICK, rng, plan=False)["tasks"].values()]
        said.update(found)
        studies_saying.update(set(found))
    return said, studies_saying


def test_planted_transfer_is_found_and_planted_harm_too():
    rng = np.random.default_rng(0)
    gained, _ = words(rng, 0.03, studies=30)
    lost, _ = words(rng, -0.03, studies=30)
    assert gained[GENUINE] >= 0.9 * 150 and gained[NEGATIVE] == 0
    assert lost[NEGATIVE] >= 0.9 * 150 and lost[GENUINE] == 0


def test_without_a_difference_transfer_is_seldom_said_in_a_whole_family():
    rng = np.random.default_rng(1)
    said, studies = words(rng, 0.0, studies=120)
    assert studies[GENUINE] <= 0.05 * 120
    assert said[EXPOSURE] >= 0.5 * 600  # and mostly equivalence can be shown


def test_at_the_very_margin_equivalence_is_seldom_said():
    rng = np.random.default_rng(2)
    said, studies = words(rng, 0.03, studies=120, margin=0.03, seeds=3)
    assert said[EXPOSURE] <= 0.05 * 600 and studies[EXPOSURE] <= 0.05 * 120


def test_with_few_seeds_no_difference_is_left_undecided_and_not_called_equal():
    said, _ = words(np.random.default_rng(3), 0.0, studies=20, seeds=3, seed_sd=0.03)
    assert said[UNDECIDED] >= 0.9 * 100


def test_an_undecided_task_says_how_many_more_seeds_and_they_do_decide():
    rng = np.random.default_rng(6)
    noisy = {"seed_sd": 0.02}
    found = judge({"task": table(rng, truth=0.02, seeds=3, **noisy)}, QUICK, rng)["tasks"]["task"]
    assert found["verdict"] == UNDECIDED
    enough = found["seeds"] + found["more_seeds"]
    again = [
        judge({"task": table(rng, truth=found["difference"], seeds=enough, **noisy)}, QUICK, rng, plan=False)
        for _ in range(60)
    ]
    decided = sum(study["tasks"]["task"]["verdict"] != UNDECIDED for study in again)
    assert decided >= 0.6 * 60  # asked for 80 %, from a variance estimated on three seeds


def test_over_all_tasks_each_score_is_taken_relative_to_its_own_control():
    rng = np.random.default_rng(5)
    tables = {
        "low": table(rng, truth=0.02, base=0.2, cell_sd=0, seed_sd=0.001, margin=0.01),
        "high": table(rng, truth=0.0, base=0.8, cell_sd=0, seed_sd=0.001, margin=0.02),
    }
    found = judge(tables, QUICK, rng)
    ratios = [
        np.mean(task["scores"]["multi_task"]) / np.mean(task["scores"]["control"]) - 1
        for task in found["tasks"].values()
    ]
    bases = [np.mean(task["scores"]["control"]) for task in found["tasks"].values()]
    assert found["overall"]["difference"] == pytest.approx(np.mean(ratios), rel=1e-9)
    assert found["overall"]["margin"] == pytest.approx((0.01 / bases[0] + 0.02 / bases[1]) / 2, rel=1e-9)


def test_a_control_that_scores_nothing_is_no_baseline():
    rng = np.random.default_rng(6)
    nothing = Table(means(np.full((2, 5), 0.5)), means(np.zeros((2, 5))), 0.01)
    found = judge({"empty": nothing, "task": table(rng, truth=0.0)}, QUICK, rng)
    assert found["overall"] == {
        "verdict": UNDECIDED,
        "reason": "the control of empty scores 0, so nothing can be related to it",
    }


def test_a_real_but_tiny_difference_is_called_transfer_within_the_margin():
    rng = np.random.default_rng(7)
    tiny = table(rng, truth=0.005, cell_sd=0.0, seed_sd=0.0005, margin=0.05)
    found = judge({"task": tiny}, QUICK, rng)["tasks"]["task"]
    assert (found["verdict"], found["within_margin"]) == (GENUINE, True)


def test_p_values_are_adjusted_over_the_family():
    rng = np.random.default_rng(8)
    tables = {str(n): table(rng, truth=0.01) for n in range(5)}
    alone = [judge({n: t}, Rule(resamples=400), np.random.default_rng(9)) for n, t in tables.items()]
    smallest = min(found["tasks"][n]["p_holm"] for found, n in zip(alone, tables, strict=True))
    together = judge(tables, Rule(resamples=400), np.random.default_rng(9))["tasks"]
    assert min(task["p_holm"] for task in together.values()) == pytest.approx(5 * smallest, rel=0.1)


def test_a_paired_rule_uses_what_the_seeds_share():
    rng = np.random.default_rng(10)
    luck = rng.normal(0, 0.05, (6, 1))
    arms = [means(mean + luck + rng.normal(0, 0.01, (6, 60))) for mean in (0.72, 0.70)]
    tables = {"task": Table(*arms, 0.01)}
    welch, paired = (
        judge(tables, Rule(test=test, resamples=100), rng)["tasks"]["task"] for test in ("welch", "paired")
    )
    assert paired["verdict"] == GENUINE and welch["verdict"] == UNDECIDED


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"test": "welsh"}, "did you mean 'welch'"),
        ({"alpha": 5}, "experiment.alpha is 5; allowed"),
        ({"alpha": "5%"}, "alpha is '5%'; allowed: a number"),
        ({"resamples": 0}, "experiment.resamples is 0; allowed: 50 or more, whole"),
        ({"resamples": "many"}, "resamples is 'many'; allowed"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        Rule(**setting)
