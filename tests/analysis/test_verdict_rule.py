"""The rule on invented tables whose truth is known: right words, few false ones, nothing averaged amiss."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kaggle_kit.analysis.stats import error_of_looks, look_level
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_rule import Rule, Verdict
from kaggle_kit.core.errors import ConfigError

QUICK = Rule(resamples=60)


def means(values):
    return np.stack([values, np.ones_like(values)], axis=-1)


def table(
    rng,
    *,
    truth,
    base=0.7,
    seeds=10,
    documents=80,
    seed_sd=0.008,
    cell_sd=0.1,
    margin=0.03,
    unit=1.0,
    **levels,
):
    """A mean metric of arms that share the difficulty of their documents.

    The total control's best point is its last one and the share control is worse, unless `levels` says how
    good `best_development`, `share` or a `placebo` are; None leaves one out.
    """
    ease = rng.normal(0, 0.15, documents)

    def arm(mean):
        noise = rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, cell_sd, (seeds, documents))
        return means(mean + ease + noise)

    multi_task, total = arm(base + truth), arm(base)
    arms = {"multi_task": multi_task, "total": total, "best_development": total, "share": arm(base - 0.04)}
    arms |= {name: None if level is None else arm(level) for name, level in levels.items()}
    return Table({name: own for name, own in arms.items() if own is not None}, margin, unit)


def beside(multi_task, total, margin=0.01, **settings):
    """A table of two arms, the second one in the place of every control."""
    controls = dict.fromkeys(("total", "best_development", "share"), total)
    return Table({"multi_task": multi_task} | controls, margin, **settings)


def harder(arm, rng, sd=0.03):
    """The arm with some documents harder than they are for others, and some easier."""
    shifted = arm.copy()
    shifted[..., 0] += rng.normal(0, sd, arm.shape[1])
    return shifted


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
    assert gained[Verdict.GENUINE] >= 0.9 * 150 and gained[Verdict.NEGATIVE] == 0
    assert lost[Verdict.NEGATIVE] >= 0.9 * 150 and lost[Verdict.GENUINE] == 0


def test_without_a_difference_transfer_is_seldom_said_in_a_whole_family():
    rng = np.random.default_rng(1)
    said, studies = words(rng, 0.0, studies=120)
    assert studies[Verdict.GENUINE] <= 0.05 * 120
    assert said[Verdict.EXPOSURE] >= 0.5 * 600  # and mostly equivalence can be shown


def test_at_the_very_margin_equivalence_is_seldom_said():
    rng = np.random.default_rng(2)
    said, studies = words(rng, 0.03, studies=120, margin=0.03, seeds=3)
    assert said[Verdict.EXPOSURE] <= 0.05 * 600 and studies[Verdict.EXPOSURE] <= 0.05 * 120


def test_with_few_seeds_no_difference_is_left_undecided_and_not_called_equal():
    said, _ = words(np.random.default_rng(3), 0.0, studies=20, seeds=3, seed_sd=0.03)
    assert said[Verdict.UNDECIDED] >= 0.9 * 100


def test_an_undecided_task_says_how_many_more_seeds_and_they_do_decide():
    rng = np.random.default_rng(6)
    noisy = {"seed_sd": 0.02}
    found = judge({"task": table(rng, truth=0.02, seeds=3, **noisy)}, QUICK, rng)["tasks"]["task"]
    assert found["verdict"] == Verdict.UNDECIDED
    enough = found["seeds"] + found["more_seeds"]
    again = [
        judge({"task": table(rng, truth=found["difference"], seeds=enough, **noisy)}, QUICK, rng, plan=False)
        for _ in range(60)
    ]
    decided = sum(study["tasks"]["task"]["verdict"] != Verdict.UNDECIDED for study in again)
    assert decided >= 0.6 * 60  # asked for 80 %, from a variance estimated on three seeds


def test_over_all_tasks_a_difference_counts_in_units_of_its_task():
    rng = np.random.default_rng(5)
    planted = {
        "f1": table(rng, truth=0.02, cell_sd=0, seed_sd=0.001, margin=0.01, unit=0.8),
        "map": table(rng, truth=0.0, cell_sd=0, seed_sd=0.001, margin=0.02, unit=0.16),
    }
    tables = {
        name: replace(t, arms=t.arms | {"multi_task": harder(t.arms["multi_task"], rng)})
        for name, t in planted.items()
    }
    found = judge(tables, Rule(resamples=2000), rng)
    f1, map_ = (found["tasks"][name]["difference"] for name in ("f1", "map"))
    assert found["overall"]["difference"] == pytest.approx((f1 / 0.8 + map_ / 0.16) / 2, rel=1e-9)
    assert found["overall"]["margin"] == pytest.approx((0.01 / 0.8 + 0.02 / 0.16) / 2, rel=1e-9)
    documents = [found["tasks"][name]["document_variance"] for name in ("f1", "map")]
    together = (documents[0] / 0.8**2 + documents[1] / 0.16**2) / 4
    assert found["overall"]["document_variance"] == pytest.approx(together, rel=0.3)


def test_the_overall_verdict_is_also_given_without_tasks_that_share_notes():
    rng = np.random.default_rng(6)
    tables = {name: table(rng, truth=truth) for name, truth in (("a", 0.0), ("b", 0.0), ("c", 0.09))}
    found = judge(tables, QUICK, rng, left_out=["c"])
    alone = judge({name: tables[name] for name in ("a", "b")}, QUICK, rng)["overall"]
    assert found["overall"]["difference"] == pytest.approx(0.03, abs=0.015)
    assert found["overall_without"]["difference"] == pytest.approx(alone["difference"], rel=1e-9)
    assert "overall_without" not in judge(tables, QUICK, rng)


def test_a_real_but_tiny_difference_is_called_transfer_within_the_margin():
    rng = np.random.default_rng(7)
    tiny = table(rng, truth=0.005, cell_sd=0.0, seed_sd=0.0005, margin=0.05)
    found = judge({"task": tiny}, QUICK, rng)["tasks"]["task"]
    assert (found["verdict"], found["within_margin"]) == (Verdict.GENUINE, True)


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
    tables = {"task": beside(*arms)}
    welch, paired = (
        judge(tables, Rule(test=test, resamples=100), rng)["tasks"]["task"] for test in ("welch", "paired")
    )
    assert paired["verdict"] == Verdict.GENUINE and welch["verdict"] == Verdict.UNDECIDED


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


def test_both_estimands_are_given_and_the_declared_one_decides():
    rng = np.random.default_rng(12)
    collapsed = rng.normal(0.73, 0.004, (10, 60))
    collapsed[4] -= 0.4  # one seed did not learn
    total = means(rng.normal(0.70, 0.004, (10, 60)))
    tables = {"task": beside(means(collapsed), total)}
    mean, trimmed = (
        judge(tables, Rule(resamples=60, estimand=kind), rng)["tasks"]["task"] for kind in ("mean", "trimmed")
    )
    assert (mean["verdict"], trimmed["verdict"]) == (Verdict.UNDECIDED, Verdict.GENUINE)
    assert trimmed["difference"] == pytest.approx(0.03, abs=0.003)
    for found in (mean, trimmed):
        words = {kind: beside["verdict"] for kind, beside in found["estimands"].items()}
        assert words == {"mean": Verdict.UNDECIDED, "trimmed": Verdict.GENUINE}


def test_a_collapsed_seed_leaves_the_document_variance_of_the_trimmed_mean_alone():
    rng = np.random.default_rng(13)
    shift = rng.normal(0, 0.05, 100)
    whole = 0.7 + rng.normal(0, 0.01, (10, 100)) + shift
    collapsed = whole.copy()
    collapsed[0] = np.where(rng.random(100) < 0.5, 0.0, 1.0)  # one seed answers at random
    total = means(0.7 + rng.normal(0, 0.01, (10, 100)))
    variances = [
        judge({"t": beside(means(arm), total)}, Rule(resamples=400, estimand="trimmed"), rng)["tasks"]["t"]
        for arm in (whole, collapsed)
    ]
    one, other = (found["document_variance"] for found in variances)
    assert one == pytest.approx(np.var(shift) / 100, rel=0.35) and other == pytest.approx(one, rel=0.35)


def test_documents_of_one_patient_are_resampled_together():
    rng = np.random.default_rng(14)
    of_patient = np.repeat(rng.normal(0, 0.05, 20), 5)
    arms = [means(0.7 + shift + rng.normal(0, 0.01, (4, 100))) for shift in (of_patient, 0.0)]
    patients = [str(n // 5) for n in range(100)]
    apart, together = (
        judge({"t": beside(*arms, clusters=clusters)}, Rule(resamples=2000), rng)["tasks"]["t"]
        for clusters in (None, patients)
    )
    assert (apart["documents"], together["documents"]) == (100, 20)
    assert together["document_variance"] == pytest.approx(np.var(of_patient) / 20, rel=0.3)
    assert together["document_variance"] / apart["document_variance"] == pytest.approx(5, rel=0.4)


def test_the_other_controls_say_how_many_seeds_they_would_take():
    rng = np.random.default_rng(15)
    tables = {"t": table(rng, truth=0.05, seeds=4, share=0.745)}
    found = judge(tables, QUICK, rng)["tasks"]["t"]
    assert (found["verdict"], found["failed"]) == (Verdict.UNDECIDED, ["share"])
    against = found["contrasts"]["share"]
    assert found["more_seeds"] is None or against["difference"] > 0


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


def test_gains_that_other_controls_explain_in_other_tasks_are_no_transfer_over_all():
    """Every control is beaten by far on average over the tasks, and each task is explained by one of them."""
    rng = np.random.default_rng(18)
    tables = {
        "overtrained": table(rng, truth=0.1, best_development=0.8),
        "share is as good": table(rng, truth=0.1, share=0.8),
    }
    found = judge(tables, QUICK, rng)
    overall = found["overall"]
    means = {name: overall["contrasts"][name]["difference"] for name in overall["contrasts"]}
    assert min(means["total"], means["best_development"], means["share"]) > 0.03
    assert means["strongest"] == pytest.approx(0.0, abs=0.02)
    assert (overall["specification"], overall["verdict"]) == (Verdict.GENUINE, Verdict.UNDECIDED)
    assert (
        overall["failed"] == ["strongest"] and "strongest" not in found["tasks"]["overtrained"]["contrasts"]
    )
