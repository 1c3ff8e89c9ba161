"""From tables of scores to estimates and words: every task of a study, and all tasks together.

    found = judge({"semeval2014t7": Table(multi_task, total, 0.01, {"share": share, ...})}, Rule(), rng)
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
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kaggle_kit.analysis.looks import error_of_looks
from kaggle_kit.analysis.stats import (
    TRIM,
    Difference,
    by_cluster,
    difference_of,
    document_variance,
    kept_seeds,
    resampled_scores,
    scores,
)
from kaggle_kit.analysis.verdict_rule import (
    ESTIMANDS,
    GENUINE,
    PLACEBO,
    PLACEBO_GAIN,
    STRONGEST,
    TOTAL,
    UNDECIDED,
    Contrast,
    Decision,
    Rule,
    decide,
)

MULTI_TASK = "multi_task"
DECISION = ("verdict", "specification", "failed", "missing", "transfer_p", "transfer_p_holm")


@dataclass(frozen=True)
class Table:
    """One task: what each document adds under each seed, (seeds, documents, columns) for every arm.

    Seeds and documents stand in the same order in all of them. `margin` is in the metric's own unit, `unit`
    is what one counts over all tasks; documents of one of the `clusters` are resampled together.
    """

    multi_task: np.ndarray
    control: np.ndarray  # of the total tokens, at its last step
    margin: float
    others: Mapping[str, np.ndarray] = field(default_factory=dict)  # best_development, share, placebo
    unit: float = 1.0
    clusters: Sequence[str] | None = None

    @property
    def documents(self) -> int:
        """How many are resampled: documents, or clusters of them."""
        return self.control.shape[1] if self.clusters is None else len(set(self.clusters))

    def arms(self) -> dict[str, np.ndarray]:
        arms = {MULTI_TASK: self.multi_task, TOTAL: self.control, **self.others}
        if self.clusters is None:
            return arms
        return {name: by_cluster(arm, self.clusters) for name, arm in arms.items()}


@dataclass(frozen=True)
class Arm:
    """One arm of one task: (seeds,) scores, and (resamples, seeds) those on resampled documents."""

    scores: np.ndarray
    draws: np.ndarray


Differences = Mapping[str, Mapping[str, Difference]]  # control (or PLACEBO_GAIN) -> estimand


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
    arms = {task: _resampled(table, rule, rng) for task, table in tables.items()}
    found = {task: _differences(arms[task], table.documents, rule) for task, table in tables.items()}
    margins = {task: table.margin for task, table in tables.items()}
    judged = {"tasks": _family(found, margins, rule, plan)}
    for task in tables:
        judged["tasks"][task]["scores"] = {name: arm.scores.tolist() for name, arm in arms[task].items()}
    families = {"overall": tables}
    if rest := {task: table for task, table in tables.items() if left_out and task not in left_out}:
        families["overall_without"] = rest
    for name, family in families.items():
        documents = min(table.documents for table in family.values())
        together = _differences(_together(family, arms), documents, rule)
        margin = float(np.mean([table.margin / table.unit for table in family.values()]))
        judged |= _family({name: together}, {name: margin}, rule, plan)
    return judged


def _resampled(table: Table, rule: Rule, rng: np.random.Generator) -> dict[str, Arm]:
    arms = table.arms()
    draws = resampled_scores(np.concatenate(list(arms.values())), rule.resamples, rng)
    ends = np.cumsum([len(arm) for arm in arms.values()])[:-1]
    parts = np.split(draws, ends, axis=1)
    return {name: Arm(scores(arm), part) for (name, arm), part in zip(arms.items(), parts, strict=True)}


def _together(tables: Mapping[str, Table], arms: Mapping[str, Mapping[str, Arm]]) -> dict[str, Arm]:
    """Arms over all tasks: the mean over tasks of score over unit, for each seed and each resample.

    The `strongest` arm takes of each task the control that scored best, whichever it is.
    """
    controls = {task: [name for name in arms[task] if name != MULTI_TASK] for task in tables}
    names = [name for name in next(iter(arms.values())) if all(name in arms[task] for task in tables)]
    chosen = {name: dict.fromkeys(tables, name) for name in names}
    chosen[STRONGEST] = {
        task: max(own, key=lambda name, task=task: arms[task][name].scores.mean())
        for task, own in controls.items()
    }
    return {
        name: Arm(
            np.mean([arms[task][own[task]].scores / table.unit for task, table in tables.items()], axis=0),
            np.mean([arms[task][own[task]].draws / table.unit for task, table in tables.items()], axis=0),
        )
        for name, own in chosen.items()
    }


def _differences(arms: Mapping[str, Arm], documents: int, rule: Rule) -> Differences:
    pairs = {name: (MULTI_TASK, name) for name in arms if name != MULTI_TASK}
    pairs |= {PLACEBO_GAIN: (PLACEBO, TOTAL)} if PLACEBO in arms else {}
    return {
        contrast: {kind: _difference(arms[one], arms[other], documents, rule, kind) for kind in ESTIMANDS}
        for contrast, (one, other) in pairs.items()
    }


def _difference(one: Arm, other: Arm, documents: int, rule: Rule, estimand: str) -> Difference:
    """What documents contribute is estimated on the seeds that the estimand keeps."""
    trim = TRIM if estimand == "trimmed" else 0.0
    if rule.test == "paired":
        kept = other_kept = kept_seeds(one.scores - other.scores, trim)
    else:
        kept, other_kept = kept_seeds(one.scores, trim), kept_seeds(other.scores, trim)
    variance = document_variance(one.draws[:, kept] - other.draws[:, other_kept])
    return difference_of(one.scores, other.scores, variance, documents, rule.test, trim)


def _family(
    family: Mapping[str, Differences], margins: Mapping[str, float], rule: Rule, plan: bool
) -> dict[str, dict[str, Any]]:
    """Every member's estimates and verdict: of the declared estimand, and beside it of the other one."""
    words = {}
    for kind in ESTIMANDS:
        contrasts = {
            name: {control: _contrast(kinds[kind], margins[name]) for control, kinds in member.items()}
            for name, member in family.items()
        }
        words[kind] = decide(contrasts, rule.level)
    judged = {}
    for name, member in family.items():
        decision = words[rule.estimand][name]
        total = member[TOTAL][rule.estimand]
        judged[name] = {
            **{key: getattr(decision, key) for key in DECISION},
            **_estimates(total, margins[name], rule),
            "p_holm": decision.p_holm,
            "equivalence_p_holm": decision.equivalence_p_holm,
            "within_margin": decision.equivalence_p_holm <= rule.level,
            "contrasts": {
                control: _estimates(kinds[rule.estimand], margins[name], rule)
                for control, kinds in member.items()
            },
            "estimands": {kind: _beside(member, words[kind][name], kind, rule) for kind in ESTIMANDS},
        }
        if plan:
            judged[name] |= _plan(member, margins[name], rule, decision, len(family))
    return judged


def _contrast(difference: Difference, margin: float) -> Contrast:
    return Contrast(difference.value, difference.p_value, difference.equivalence_p(margin))


def _beside(member: Differences, decision: Decision, estimand: str, rule: Rule) -> dict[str, Any]:
    """What one estimand says by itself, whether it is the declared one or not."""
    total = member[TOTAL][estimand]
    return {
        "verdict": decision.verdict,
        "specification": decision.specification,
        "difference": total.value,
        "interval": list(total.interval(rule.level)),
        "p_holm": decision.p_holm,
        "transfer_p_holm": decision.transfer_p_holm,
    }


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


def _plan(member: Differences, margin: float, rule: Rule, decision: Decision, members: int) -> dict[str, Any]:
    """What these seeds could have found, and how many it would take, at Holm's strictest level.

    `more_seeds`: until the tests that left it undecided decide with `rule.power`, were the differences what
    they are estimated to be; None where no number of seeds would. `second_look_error`: the error of a test
    that is read now and once more with them, at an unchanged level.
    """
    total, ask = member[TOTAL][rule.estimand], (rule.level / members, rule.power)
    plan: dict[str, Any] = {
        "planning_alpha": ask[0],
        "minimum_detectable_effect": total.detectable(*ask),
        "seeds_to_detect_margin": total.seeds_to_detect(margin, *ask),
        "seeds_to_equate_no_difference": total.seeds_to_equate(0.0, margin, *ask),
    }
    if decision.verdict == UNDECIDED and not (decision.missing and decision.specification == GENUINE):
        enough = _enough(
            {name: kinds[rule.estimand] for name, kinds in member.items()}, margin, decision, ask
        )
        plan["more_seeds"] = more = enough and max(1, enough - total.seeds)
        if more:
            plan["second_look_error"] = error_of_looks(rule.level, (total.seeds, total.seeds + more))
    return plan


def _enough(
    member: Mapping[str, Difference], margin: float, decision: Decision, ask: tuple[float, float]
) -> int | None:
    """Seeds that decide an undecided member: against the controls that failed, or against the total one."""
    if decision.specification == GENUINE:
        against = [member[control] for control in decision.failed]
        each = [d.seeds_to_detect(d.value, *ask) if d.value > 0 else None for d in against]
        return None if None in each else max(each)
    total = member[TOTAL]
    ways = (total.seeds_to_detect(total.value, *ask), total.seeds_to_equate(total.value, margin, *ask))
    return min((seeds for seeds in ways if seeds is not None), default=None)
