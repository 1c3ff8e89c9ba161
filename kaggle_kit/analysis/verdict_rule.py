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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kaggle_kit.analysis.looks import look_level
from kaggle_kit.analysis.stats import TESTS, holm
from kaggle_kit.core.errors import ConfigError, nearest

GENUINE, EXPOSURE, NEGATIVE, REGULARISATION, UNDECIDED = (
    "genuine transfer",
    "data exposure only",
    "negative transfer",
    "regularisation",
    "undecided",
)
TOTAL, BEST, SHARE, PLACEBO = "total", "best_development", "share", "placebo"
REQUIRED = (TOTAL, BEST, SHARE)  # what genuine transfer has to beat; and the placebo, where there is one
STRONGEST = "strongest"  # over all tasks: gains that other controls explain in other tasks are no transfer
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

    @property
    def above_p(self) -> float:
        """The p of "better": that of the two-sided test where the difference is above zero, else 1."""
        return self.p_value if self.difference > 0 else 1.0


Contrasts = Mapping[str, Contrast]  # control -> multi-task minus it; and PLACEBO_GAIN


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says of one member of a family, and the adjusted p values that made it."""

    verdict: str
    specification: str  # the word of the specification's rule, which looks at the total control alone
    p_holm: float
    equivalence_p_holm: float
    transfer_p: float  # of the intersection–union test
    transfer_p_holm: float
    failed: list[str] = field(default_factory=list)  # controls that the runs are not shown to beat
    missing: list[str] = field(default_factory=list)  # controls that were never trained


def decide(family: Mapping[str, Contrasts], level: float) -> dict[str, Decision]:
    """The rule above, for every member of one family."""
    there = _adjusted(family, lambda member: member[TOTAL].p_value)
    within = _adjusted(family, lambda member: member[TOTAL].equivalence_p)
    transfer = _adjusted(family, transfer_p)
    above = {
        name: _adjusted(family, lambda member, name=name: _above_p(member, name))
        for name in (*REQUIRED, PLACEBO, STRONGEST, PLACEBO_GAIN)
    }
    decided = {}
    for name, member in family.items():
        specification = _specified(member[TOTAL].difference, there[name], within[name], level)
        wanted = _to_beat(member)
        beaten = {control: above[control][name] <= level for control in (*wanted, PLACEBO_GAIN)}
        failed = [control for control in wanted if control in member and not beaten[control]]
        missing = [control for control in wanted if control not in member]
        verdict = specification
        if specification == GENUINE and transfer[name] > level:
            regularised = beaten[PLACEBO_GAIN] and not beaten.get(PLACEBO, True)
            verdict = REGULARISATION if regularised else UNDECIDED
            if not failed and not missing:  # each alone is beaten, but not by enough for the whole family
                failed = [max(wanted, key=lambda control: member[control].above_p)]
        adjusted = (there[name], within[name], transfer_p(member), transfer[name])
        decided[name] = Decision(verdict, specification, *adjusted, failed, missing)
    return decided


def transfer_p(member: Contrasts) -> float:
    """The p of "better than every control": the largest, 1 where one that is required is missing."""
    return max(_above_p(member, control) for control in _to_beat(member))


def _to_beat(member: Contrasts) -> tuple[str, ...]:
    return (*REQUIRED, *(control for control in (PLACEBO, STRONGEST) if control in member))


def _above_p(member: Contrasts, control: str) -> float:
    return member[control].above_p if control in member else 1.0


def _adjusted(family: Mapping[str, Contrasts], p_of: Callable[[Contrasts], float]) -> dict[str, float]:
    return dict(zip(family, holm([p_of(member) for member in family.values()]), strict=True))


def _specified(difference: float, there: float, within: float, level: float) -> str:
    if there <= level:
        return GENUINE if difference > 0 else NEGATIVE
    return EXPOSURE if within <= level else UNDECIDED


@dataclass(frozen=True, slots=True)
class Rule:
    """What is settled before any run, and so part of every run's configuration hash.

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
        for key, allowed in (("test", TESTS), ("estimand", ESTIMANDS)):
            if (value := getattr(self, key)) not in allowed:
                listed = f"{', '.join(allowed)}{nearest(str(value), allowed)}"
                raise ConfigError(f"experiment.{key} is {value!r}; allowed: {listed}")
        for name in ("alpha", "power"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < 1:
                raise ConfigError(f"experiment.{name} is {value!r}; allowed: a number between 0 and 1")
        if not _is_count(self.resamples, FEWEST_RESAMPLES):
            raise ConfigError(
                f"experiment.resamples is {self.resamples!r}; allowed: {FEWEST_RESAMPLES} or more, whole"
            )
        for name in ("seeds", "looks"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        _assert_seeds(self.seeds, self.looks)

    @property
    def level(self) -> float:
        """The level of this verdict's tests and intervals: alpha, or that of one look of several."""
        return look_level(self.alpha, self.looks)

    def interim(self, seeds: Iterable[int]) -> str:
        """Why a verdict on these seeds is interim; empty where they are those of a declared look."""
        found = sorted(seeds)
        if not self.seeds:
            return "experiment.seeds declares none"
        for count in self.looks or (len(self.seeds),):
            if found == sorted(self.seeds[:count]):
                return ""
        looks = f", read after {', '.join(map(str, self.looks))} of them" if self.looks else ""
        return f"experiment.seeds declares {_listed(self.seeds)}{looks}"


def _assert_seeds(seeds: Sequence[int], looks: Sequence[int]) -> None:
    if seeds and (not all(_is_count(seed, 0) for seed in seeds) or len(set(seeds)) < len(seeds)):
        raise ConfigError(f"experiment.seeds is {list(seeds)}; allowed: whole numbers, each once")
    if len(seeds) == 1:
        raise ConfigError(f"experiment.seeds is {list(seeds)}; a verdict needs at least {FEWEST_SEEDS}")
    rising = all(_is_count(look, FEWEST_SEEDS) for look in looks) and list(looks) == sorted(set(looks))
    if looks and not (rising and looks[-1] == len(seeds)):
        raise ConfigError(
            f"experiment.looks is {list(looks)} with {len(seeds)} declared seeds; allowed: rising numbers of "
            f"seeds from {FEWEST_SEEDS} up, the last one all of experiment.seeds, such as seeds [1, 2, 3, 4, "
            "5] and looks [3, 5]"
        )


def _is_count(value: object, fewest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= fewest


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
