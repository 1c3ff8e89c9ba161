"""From tables of scores to words: the rule by which a comparison with a control is decided.

    found = judge({"semeval2014t7": Table(multi_task, control, margin=0.01)}, Rule(), rng)
    found["tasks"]["semeval2014t7"]["verdict"]          # "genuine transfer", …

Pure: arrays in, plain values out, so that simulations go the way that run folders go. The rule:

1. `genuine transfer` / `negative transfer`: the difference is there, p adjusted by Holm over all tasks at
   most alpha, and above / below zero.
2. else `data exposure only`: the difference is shown to lie within the margin, by two one-sided tests whose
   p, adjusted by Holm over all tasks, is at most alpha.
3. else `undecided`, with the seeds that would decide. A test that finds nothing shows nothing.

F1 and MAP have no common scale. Over all tasks each score is divided by its control's mean, the mean of
these relative differences is judged by the same rule as a family of its own, and so is its margin made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kaggle_kit.analysis.stats import (
    TESTS,
    Difference,
    difference_of,
    document_variance,
    holm,
    resampled_differences,
    scores,
)
from kaggle_kit.core.errors import ConfigError, nearest

GENUINE, EXPOSURE, NEGATIVE, UNDECIDED = (
    "genuine transfer",
    "data exposure only",
    "negative transfer",
    "undecided",
)

FEWEST_RESAMPLES = 50  # a variance from fewer is noise


@dataclass(frozen=True, slots=True)
class Rule:
    """What is settled before any run: error rate, test, power for planning, resamples and their seed."""

    alpha: float = 0.05
    test: str = "welch"
    power: float = 0.8
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            known = ", ".join(TESTS)
            raise ConfigError(
                f"experiment.test is {self.test!r}; allowed: {known}{nearest(self.test, TESTS)}"
            )
        for name in ("alpha", "power"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < 1:
                raise ConfigError(f"experiment.{name} is {value!r}; allowed: a number between 0 and 1")
        if not isinstance(self.resamples, int) or self.resamples < FEWEST_RESAMPLES:
            raise ConfigError(
                f"experiment.resamples is {self.resamples!r}; allowed: {FEWEST_RESAMPLES} or more, whole"
            )


@dataclass(frozen=True)
class Table:
    """One task: what each document adds under each seed, (seeds, documents, columns) for either arm.

    Seeds and documents stand in the same order in both. `margin` is in the metric's own unit.
    """

    multi_task: np.ndarray
    control: np.ndarray
    margin: float


def judge(
    tables: Mapping[str, Table], rule: Rule, rng: np.random.Generator, *, plan: bool = True
) -> dict[str, Any]:
    """`tasks`: estimates and verdict of each; `overall`: the same over all, relative to the controls.

    With `plan` also what these seeds could have found and how many it would take.
    """
    differences = {task: _difference(table, rule, rng) for task, table in tables.items()}
    margins = {task: table.margin for task, table in tables.items()}
    tasks = _family(differences, margins, rule, plan)
    for task, table in tables.items():
        tasks[task]["scores"] = {
            "multi_task": scores(table.multi_task).tolist(),
            "control": scores(table.control).tolist(),
        }
    return {"tasks": tasks, "overall": _overall(tables, differences, rule, plan)}


def _difference(table: Table, rule: Rule, rng: np.random.Generator) -> Difference:
    draws = resampled_differences(table.multi_task, table.control, rule.resamples, rng)
    arms = scores(table.multi_task), scores(table.control)
    documents = table.control.shape[1]
    return difference_of(*arms, document_variance(draws), documents, rule.test)


def _family(
    differences: Mapping[str, Difference], margins: Mapping[str, float], rule: Rule, plan: bool
) -> dict[str, dict[str, Any]]:
    """Every member's estimates and verdict, p values adjusted over the members."""
    there = holm([difference.p_value for difference in differences.values()])
    within = holm([d.equivalence_p(margins[name]) for name, d in differences.items()])
    planned = replace(rule, alpha=rule.alpha / len(differences))  # Holm's strictest step
    judged = {}
    for (name, difference), p_there, p_within in zip(differences.items(), there, within, strict=True):
        word = _word(difference.value, p_there, p_within, rule.alpha)
        judged[name] = {
            "verdict": word,
            **_estimates(difference, margins[name], rule),
            "p_holm": p_there,
            "equivalence_p_holm": p_within,
            "within_margin": p_within <= rule.alpha,
        }
        if plan:
            judged[name] |= _plan(difference, margins[name], planned, word == UNDECIDED)
    return judged


def _word(value: float, p_there: float, p_within: float, alpha: float) -> str:
    if p_there <= alpha:
        return GENUINE if value > 0 else NEGATIVE
    return EXPOSURE if p_within <= alpha else UNDECIDED


def _estimates(difference: Difference, margin: float, rule: Rule) -> dict[str, Any]:
    return {
        "difference": difference.value,
        "interval": list(difference.interval(rule.alpha)),
        "equivalence_interval": list(difference.interval(2 * rule.alpha)),
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


def _plan(difference: Difference, margin: float, rule: Rule, undecided: bool) -> dict[str, Any]:
    """What these seeds could have found, and how many it would take, at `rule.alpha` and `rule.power`.

    `more_seeds`: until either test decides with that power, were the difference what it is estimated to
    be; None where no number of seeds would, because the documents are too few.
    """
    ask = (rule.alpha, rule.power)
    plan = {
        "planning_alpha": rule.alpha,
        "minimum_detectable_effect": difference.detectable(*ask),
        "seeds_to_detect_margin": difference.seeds_to_detect(margin, *ask),
        "seeds_to_equate_no_difference": difference.seeds_to_equate(0.0, margin, *ask),
    }
    if undecided:
        ways = (
            difference.seeds_to_detect(difference.value, *ask),
            difference.seeds_to_equate(difference.value, margin, *ask),
        )
        enough = [seeds for seeds in ways if seeds is not None]
        plan["more_seeds"] = max(1, min(enough) - difference.seeds) if enough else None
    return plan


def _overall(
    tables: Mapping[str, Table], differences: Mapping[str, Difference], rule: Rule, plan: bool
) -> dict[str, Any]:
    """The mean over tasks of score over control; documents of different tasks are independent.

    A control that scores nothing is no baseline: then there is no verdict over all tasks.
    """
    bases = {task: float(scores(table.control).mean()) for task, table in tables.items()}
    if empty := [task for task, base in bases.items() if base <= 0]:
        reason = f"the control of {', '.join(empty)} scores 0, so nothing can be related to it"
        return {"verdict": UNDECIDED, "reason": reason}
    arms = [
        np.mean([scores(arm) / bases[task] for task, arm in side.items()], axis=0)
        for side in (
            {task: table.multi_task for task, table in tables.items()},
            {task: table.control for task, table in tables.items()},
        )
    ]
    count = len(tables)
    variance = sum(differences[task].document_variance / base**2 for task, base in bases.items()) / count**2
    documents = min(difference.documents for difference in differences.values())
    relative = difference_of(*arms, variance, documents, rule.test)
    margin = sum(tables[task].margin / base for task, base in bases.items()) / count
    return _family({"overall": relative}, {"overall": margin}, rule, plan)["overall"]
