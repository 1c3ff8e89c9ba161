"""The rule of the verdict: from p values to words. Read this first.

    decided = decide({"semeval2014t7": {"total": Contrast(0.03, 0.001, 0.9), ...}}, Rule().level)
    decided["semeval2014t7"].verdict          # "genuine transfer", "undecided", …

A task's multi-task runs are compared with several controls, each of which could explain a gain by something
other than what the tasks teach each other:

    total               one task alone, as many tokens and steps as the multi-task run had of all its tasks
    best_development    the same run at the point of its training where its development score was best
    share               one task alone, as many tokens as the multi-task run had of this task
    placebo             the same partner tasks with permuted labels (where it was trained)
    strongest           over all tasks alone: of each task the control that scored best

1. The specification's rule looks at `total` alone. *Genuine transfer* / *negative transfer*: there is a
   difference (two-sided test, p <= level), above / below zero. Else *data exposure only*: two one-sided tests
   show the difference to lie within the margin. Else *undecided*: a test that finds nothing shows nothing.
2. The verdict is that word, but says *genuine transfer* only where the runs beat ALL the controls. This is an
   intersection–union test (Berger 1982): its p is the largest of theirs, and each control is tested at the
   full level. A control that was never trained has p = 1. A gain over `total` that fails here is *undecided*,
   or *regularisation* if the placebo gains over `total` too and the runs are not shown to beat the placebo.

All tests of a kind are adjusted by Holm over the family, here the tasks. For *genuine transfer* the family's
p values are those of the intersection–union tests, one a task. Holm within each control and then "all of
them" would not do: where tasks fail at different controls, the errors of the controls' families add up (7 %
instead of 2.5 % with six tasks). As a false *genuine* needs a difference above zero, its chance is at most
level / 2 in the tasks of a study and as much in its overall verdict: together at most the level.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from kaggle_kit.analysis.stats import TESTS, holm, look_level
from kaggle_kit.core.errors import ConfigError, nearest


class Verdict(StrEnum):
    """The five verdicts on a task, or on all tasks together."""

    GENUINE = "genuine transfer"
    EXPOSURE = "data exposure only"
    NEGATIVE = "negative transfer"
    REGULARISATION = "regularisation"
    UNDECIDED = "undecided"


class Control(StrEnum):
    """The controls that the multi-task runs are compared with."""

    TOTAL = "total"
    BEST = "best_development"
    SHARE = "share"
    PLACEBO = "placebo"
    STRONGEST = "strongest"  # over all tasks: gains that other controls explain elsewhere are no transfer


REQUIRED = (Control.TOTAL, Control.BEST, Control.SHARE)  # what genuine transfer has to beat
OPTIONAL = (Control.PLACEBO, Control.STRONGEST)  # and these, where there are any
PLACEBO_GAIN = "placebo_gain"  # the placebo over the total control
ESTIMANDS = ("mean", "trimmed")
FEWEST_SEEDS = 2
FEWEST_RESAMPLES = 50  # a variance from fewer is noise


@dataclass(frozen=True, slots=True)
class Contrast:
    """One difference of two arms, before any correction over a family."""

    difference: float
    p_value: float  # two-sided, of no difference
    equivalence_p: float  # of a difference beyond the margin

    @classmethod
    def of(cls, estimates: Mapping[str, Any]) -> Contrast:
        """Read a contrast from the estimates in a document."""
        return cls(estimates["difference"], estimates["p_value"], estimates["equivalence_p"])

    @property
    def above_p(self) -> float:
        """Return the p of "better": that of the two-sided test where the difference is above zero, else 1."""
        return self.p_value if self.difference > 0 else 1.0


Name = TypeVar("Name")  # of a member of a family
Contrasts = Mapping[str, Contrast]  # control -> multi-task minus it; and PLACEBO_GAIN


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one member of a family, and the adjusted p values that made it."""

    verdict: str
    specification: str  # the word of the specification's rule, which looks at the total control alone
    p_holm: float
    equivalence_p_holm: float
    transfer_p: float  # of the intersection–union test
    transfer_p_holm: float
    failed: list[str] = field(default_factory=list)  # controls that the runs are not shown to beat
    missing: list[str] = field(default_factory=list)  # controls that were never trained


def decide(family: Mapping[Name, Contrasts], level: float) -> dict[Name, Decision]:
    """Decide every member of one family, by name, by the rule above."""
    there = _adjusted(family, lambda member: member[Control.TOTAL].p_value)
    within = _adjusted(family, lambda member: member[Control.TOTAL].equivalence_p)
    transfer = _adjusted(family, transfer_p)
    named = (*REQUIRED, *OPTIONAL, PLACEBO_GAIN)
    above = {name: _adjusted(family, partial(_above_p, control=name)) for name in named}
    decisions = {}
    for name, member in family.items():
        controls = to_beat(member)
        wins = {control: adjusted[name] <= level for control, adjusted in above.items()}
        failed = [control for control in controls if control in member and not wins[control]]
        missing = [control for control in controls if control not in member]
        difference = member[Control.TOTAL].difference
        verdict = specification = _specified(difference, there[name], within[name], level)
        if specification == Verdict.GENUINE and transfer[name] > level:
            regularised = wins[PLACEBO_GAIN] and Control.PLACEBO in failed
            verdict = Verdict.REGULARISATION if regularised else Verdict.UNDECIDED
            if not failed and not missing:  # each alone is beaten, but not by enough for the whole family
                failed = [max(controls, key=lambda control: member[control].above_p)]
        adjusted = (there[name], within[name], transfer_p(member), transfer[name])
        decisions[name] = Decision(verdict, specification, *adjusted, failed, missing)
    return decisions


def transfer_p(member: Contrasts) -> float:
    """Return the p of "better than every control": the largest, 1 where a required one is missing."""
    return max(_above_p(member, control) for control in to_beat(member))


def to_beat(contrasts: Container[str]) -> tuple[str, ...]:
    """Return the controls that genuine transfer has to beat: all required ones, and others that exist."""
    return (*REQUIRED, *(control for control in OPTIONAL if control in contrasts))


def _above_p(member: Contrasts, control: str) -> float:
    return member[control].above_p if control in member else 1.0


def _adjusted(family: Mapping[Name, Contrasts], p_of: Callable[[Contrasts], float]) -> dict[Name, float]:
    return dict(zip(family, holm([p_of(member) for member in family.values()]), strict=True))


def _specified(difference: float, there: float, within: float, level: float) -> str:
    if there <= level:
        return Verdict.GENUINE if difference > 0 else Verdict.NEGATIVE
    return Verdict.EXPOSURE if within <= level else Verdict.UNDECIDED


@dataclass(frozen=True, slots=True)
class Rule:
    """The settings of a decision, fixed before any run and part of every run's configuration hash.

    `seeds` are the declared ones; with others a verdict is interim. `looks` are numbers of them at which the
    verdict is read and the study may stop, each at a level that keeps all looks together at alpha.
    """

    alpha: float = 0.05
    test: str = "welch"
    estimand: str = "mean"
    power: float = 0.8
    resamples: int = 10_000
    seeds: Sequence[int] = ()
    looks: Sequence[int] = ()
    seed: int = 0  # of the resampling

    def __post_init__(self) -> None:
        for name in ("seeds", "looks"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        for name, words in (("test", TESTS), ("estimand", ESTIMANDS)):
            value = getattr(self, name)
            self._assert(name, value in words, f"{', '.join(words)}{nearest(str(value), words)}")
        for name in ("alpha", "power"):
            value = getattr(self, name)
            self._assert(name, isinstance(value, int | float) and 0 < value < 1, "a number between 0 and 1")
        enough = _is_count(self.resamples, FEWEST_RESAMPLES)
        self._assert("resamples", enough, f"{FEWEST_RESAMPLES} or more, whole")
        seeds, looks = self.seeds, self.looks
        whole = all(_is_count(seed, 0) for seed in seeds) and len(set(seeds)) == len(seeds) != 1
        self._assert("seeds", whole, f"whole numbers, each once, at least {FEWEST_SEEDS}")
        rising = all(_is_count(look, FEWEST_SEEDS) for look in looks) and list(looks) == sorted(set(looks))
        example = "such as seeds [1, 2, 3, 4, 5] and looks [3, 5]"
        allowed = f"rising numbers from {FEWEST_SEEDS} up, the last one all of experiment.seeds, {example}"
        ends = not looks or (rising and looks[-1] == len(seeds))
        self._assert("looks", ends, f"with {len(seeds)} declared seeds: {allowed}")

    def _assert(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"experiment.{name} is {getattr(self, name)!r}; allowed: {allowed}")

    @property
    def level(self) -> float:
        """Return the level of this verdict's tests and intervals: alpha, or that of one look of several."""
        return look_level(self.alpha, self.looks)

    def interim(self, seeds: Iterable[int]) -> str:
        """Return why a verdict on these seeds is interim; empty where they are those of a declared look."""
        own = sorted(seeds)
        if not self.seeds:
            return "experiment.seeds declares none"
        for count in self.looks or (len(self.seeds),):
            if own == sorted(self.seeds[:count]):
                return ""
        looks = f", read after {', '.join(map(str, self.looks))} of them" if self.looks else ""
        return f"experiment.seeds declares {', '.join(map(str, self.seeds))}{looks}"


def _is_count(value: object, fewest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= fewest
