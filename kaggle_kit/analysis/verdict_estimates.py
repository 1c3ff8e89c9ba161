"""From tables of scores to estimates and words: every task of a study, and all tasks together.

    found = judge({"semeval2014t7": Table({"multi_task": …, "total": …}, 0.01)}, Rule(), rng)
    found["tasks"]["semeval2014t7"]["verdict"]          # "genuine transfer", …

Pure: arrays in, plain values out, so that simulations go the way that run folders go. The rule is
`verdict_rule`, the statistics are `stats`; here each arm's documents are resampled once, each control is
compared by either estimand (the mean over seeds and the trimmed mean), and the declared one decides.

F1 and MAP have no common scale. Over all tasks each score is divided by its task's unit, the distance from a
trivial baseline to the best published score; the mean of these is judged by the same rule as a family of its
own, and so is its margin made. Each task's documents are resampled by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kaggle_kit.analysis import stats
from kaggle_kit.analysis.stats import Difference, error_of_looks
from kaggle_kit.analysis.verdict_rule import (
    ESTIMANDS,
    PLACEBO_GAIN,
    Contrast,
    Control,
    Decision,
    Rule,
    Verdict,
    decide,
)

MULTI_TASK = "multi_task"


@dataclass(frozen=True)
class Table:
    """One task: what each document adds under each seed, (seeds, documents, columns) for every arm.

    The arms are MULTI_TASK and its controls by name, `total` (the one at its last step) at least; seeds and
    documents stand in the same order in all of them. `margin` is in the metric's own unit, `unit` is what one
    counts over all tasks; documents of one of the `clusters` are resampled together.
    """

    arms: Mapping[str, np.ndarray]
    margin: float
    unit: float = 1.0
    clusters: Sequence[str] | None = None

    def resampled(self, rule: Rule, rng: np.random.Generator) -> Member:
        """Return the member with every arm's scores, as they are and on resampled documents or clusters."""
        arms = self.arms
        if self.clusters is not None:
            arms = {name: stats.by_cluster(arm, self.clusters) for name, arm in arms.items()}
        draws = stats.resampled_scores(np.concatenate(list(arms.values())), rule.resamples, rng)
        parts = np.split(draws, np.cumsum([len(arm) for arm in arms.values()])[:-1], axis=1)
        drawn = {name: Arm(stats.scores(arms[name]), part) for name, part in zip(arms, parts, strict=True)}
        return Member(drawn, arms[MULTI_TASK].shape[1], self.margin)


@dataclass(frozen=True)
class Arm:
    """One arm of one task: (seeds,) scores, and (resamples, seeds) those on resampled documents."""

    scores: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True)
class Member:
    """One member of a family: its arms by name, how many documents are resampled, and its margin."""

    arms: Mapping[str, Arm]
    documents: int
    margin: float

    def differences(self, rule: Rule) -> dict[str, dict[str, Difference]]:
        """Return estimand -> control (or PLACEBO_GAIN) -> the multi-task runs minus it."""
        pairs = {name: (MULTI_TASK, name) for name in self.arms if name != MULTI_TASK}
        pairs |= {PLACEBO_GAIN: (Control.PLACEBO, Control.TOTAL)} if Control.PLACEBO in self.arms else {}
        return {
            kind: {name: self._difference(*pair, rule, kind) for name, pair in pairs.items()}
            for kind in ESTIMANDS
        }

    def _difference(self, first: str, second: str, rule: Rule, estimand: str) -> Difference:
        """Estimate one difference; its document variance is that of the seeds that the estimand keeps."""
        one, other = self.arms[first], self.arms[second]
        trim = stats.TRIM if estimand == "trimmed" else 0.0
        paired = one.scores - other.scores
        seeds = (paired, paired) if rule.test == "paired" else (one.scores, other.scores)
        places, other_places = (stats.kept_seeds(values, trim) for values in seeds)
        variance = stats.document_variance(one.draws[:, places] - other.draws[:, other_places])
        return stats.difference_of(one.scores, other.scores, variance, self.documents, rule.test, trim)


def judge(
    tables: Mapping[str, Table],
    rule: Rule,
    rng: np.random.Generator,
    *,
    left_out: Sequence[str] = (),
    plan: bool = True,
) -> dict[str, Any]:
    """`tasks`: estimates and verdict of each; `overall`: the same over all, in units of published scores.

    `overall_without`: over all but those `left_out`, where any are; it is reported and decides nothing. With
    `plan` also what these seeds could have found and how many it would take.
    """
    members = {task: table.resampled(rule, rng) for task, table in tables.items()}
    result = {"tasks": _family(members, rule, plan)}
    for task, member in members.items():
        result["tasks"][task]["scores"] = {name: arm.scores.tolist() for name, arm in member.arms.items()}
    rest = {task: table for task, table in tables.items() if task not in left_out}
    families = {"overall": tables} | ({"overall_without": rest} if 0 < len(rest) < len(tables) else {})
    for name, family in families.items():
        result |= _family({name: _together(family, members)}, rule, plan)
    return result


def _together(tables: Mapping[str, Table], members: Mapping[str, Member]) -> Member:
    """Return all tasks as one: the mean over tasks of score over unit, for each seed and each resample.

    The `strongest` arm takes of each task the control that scored best, whichever it is.
    """
    arms = {task: members[task].arms for task in tables}
    names = [name for name in next(iter(arms.values())) if all(name in own for own in arms.values())]
    arm_of = {name: dict.fromkeys(tables, name) for name in names}
    arm_of[Control.STRONGEST] = {}
    for task, own in arms.items():
        means = {name: arm.scores.mean() for name, arm in own.items() if name != MULTI_TASK}
        arm_of[Control.STRONGEST][task] = max(means, key=means.__getitem__)

    def mean(figure: str, of: Mapping[str, str]) -> np.ndarray:
        return np.mean([getattr(arms[t][of[t]], figure) / table.unit for t, table in tables.items()], axis=0)

    together = {name: Arm(mean("scores", of), mean("draws", of)) for name, of in arm_of.items()}
    margin = float(np.mean([table.margin / table.unit for table in tables.values()]))
    return Member(together, min(members[task].documents for task in tables), margin)


def _family(members: Mapping[str, Member], rule: Rule, plan: bool) -> dict[str, dict[str, Any]]:
    """Return each member's estimates and verdict, by the declared estimand and beside it by the other one."""
    differences = {name: member.differences(rule) for name, member in members.items()}
    estimates: dict[str, dict[str, Any]] = {kind: {} for kind in ESTIMANDS}
    decisions = {}
    for kind in ESTIMANDS:
        contrasts = {}
        for name, own in differences.items():
            margin = members[name].margin
            found = {control: _estimates(one, margin, rule) for control, one in own[kind].items()}
            estimates[kind][name] = found
            contrasts[name] = {control: Contrast.of(one) for control, one in found.items()}
        decisions[kind] = decide(contrasts, rule.level)
    result = {}
    for name, member in members.items():
        estimands = {}
        for kind in ESTIMANDS:
            estimands[kind] = asdict(decisions[kind][name]) | estimates[kind][name][Control.TOTAL]
        own = estimands[rule.estimand]
        within = {"within_margin": own["equivalence_p_holm"] <= rule.level}
        result[name] = {**own, **within, "contrasts": estimates[rule.estimand][name], "estimands": estimands}
        if plan:
            own_differences, decision = differences[name][rule.estimand], decisions[rule.estimand][name]
            result[name] |= _plan(own_differences, member.margin, rule, decision, len(members))
    return result


def _estimates(difference: Difference, margin: float, rule: Rule) -> dict[str, Any]:
    return {
        "difference": difference.value,
        "interval": list(difference.interval(rule.level)),
        "equivalence_interval": list(difference.interval(2 * rule.level)),
        "margin": margin,
        "standard_error": difference.standard_error,
        "degrees_of_freedom": difference.df,
        "seed_variance": difference.seed_variance,
        "document_variance": difference.document_variance,
        "seeds": difference.seeds,
        "documents": difference.documents,
        "p_value": difference.p_value,
        "p_value_on_these_documents": replace(difference, document_variance=0.0).p_value,
        "equivalence_p": difference.equivalence_p(margin),
    }


def _plan(
    against: Mapping[str, Difference], margin: float, rule: Rule, decision: Decision, members: int
) -> dict[str, Any]:
    """Return the effects that these seeds can find, and the seeds needed, at Holm's strictest level.

    `more_seeds`: until the tests that left it undecided decide with `rule.power`, were the differences what
    they are estimated to be; None where no number of seeds would. `second_look_error`: the error of a test
    that is read now and once more with them, at an unchanged level.
    """
    total, ask = against[Control.TOTAL], (rule.level / members, rule.power)
    plan: dict[str, Any] = {
        "planning_alpha": ask[0],
        "minimum_detectable_effect": total.detectable(*ask),
        "seeds_to_detect_margin": total.seeds_to_detect(margin, *ask),
        "seeds_to_equate_no_difference": total.seeds_to_equate(0.0, margin, *ask),
    }
    gained = decision.specification == Verdict.GENUINE
    if decision.verdict != Verdict.UNDECIDED or (decision.missing and gained):
        return plan
    if gained:  # against the controls that failed
        failed = [against[control] for control in decision.failed]
        each = [d.seeds_to_detect(d.value, *ask) if d.value > 0 else None for d in failed]
        enough = None if None in each else max(seeds for seeds in each if seeds is not None)
    else:
        ways = (total.seeds_to_detect(total.value, *ask), total.seeds_to_equate(total.value, margin, *ask))
        enough = min((seeds for seeds in ways if seeds is not None), default=None)
    plan["more_seeds"] = more = enough and max(1, enough - total.seeds)
    if more:
        plan["second_look_error"] = error_of_looks(rule.level, (total.seeds, total.seeds + more))
    return plan
