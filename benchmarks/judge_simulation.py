"""The judge where the truth is known: invented score tables through the rule of the verdict.

    python -m benchmarks.judge_simulation --studies 150 > benchmarks/results/judge_simulation.md

Every study has five tasks, four of an F1 and one of a mean (MAP), with 133 documents, and all arms answer
the same ones. Seeds differ by 0.8 points (standard deviation) in every arm, a document under one seed by 10
points and more, and where documents matter each arm finds some harder than the others do (3 points). The
share control is 4 points behind the total one unless it is said otherwise; a best development point is the
total control's own run. True differences are known exactly. Both estimands judge the same tables.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.metadata import version
from typing import Any
from zlib import crc32

import numpy as np
from scipy.stats import trim_mean

from kaggle_kit.analysis.stats import TRIM, look_level
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_rule import ESTIMANDS, Rule, Verdict
from kaggle_kit.analysis.verdict_study import ALL_TASKS, Family, study_verdict

TASKS, DOCUMENTS, MARGIN = 5, 133, 0.01
SEED_SD, CELL_SD, BASE = 0.008, 0.10, 0.70
SEEDS, LOOKS = (3, 5, 8), (3, 5, 8)
TRUTHS = {"none": 0.0, "the margin": MARGIN, "+2 points": 0.02, "+3 points": 0.03, "-2 points": -0.02}
SHIFTS = (0.0, 0.03)
WORDS = (Verdict.GENUINE, Verdict.REGULARISATION, Verdict.EXPOSURE, Verdict.NEGATIVE, Verdict.UNDECIDED)
COMPARISONS = 24  # models and strategies of a large study
RESULTS = "benchmarks/results/judge_simulation.md"


@dataclass(frozen=True)
class Runs:
    """How runs of one arm scatter around their level: some drop, and the others make up for it or not."""

    drop: float = 0.0
    share: float = 0.0  # of the runs that drop
    same_mean: bool = False  # the usual run is better by what the drops cost on average

    def effects(self, seeds: int, rng: np.random.Generator) -> np.ndarray:
        """(seeds, 1): what each seed adds to its arm's level."""
        dropped = self.drop * (rng.random((seeds, 1)) < self.share)
        made_up = self.drop * self.share if self.same_mean else 0.0
        return rng.normal(0, SEED_SD, (seeds, 1)) - dropped + made_up

    @cache  # noqa: B019 -- a handful of settings
    def centre(self, estimand: str) -> float:
        """The estimand of a whole population of such runs, relative to its level."""
        effects = self.effects(400_000, np.random.default_rng(0))[:, 0]
        return float(effects.mean() if estimand == "mean" else trim_mean(effects, TRIM))


@dataclass(frozen=True)
class Setting:
    """One kind of study. `levels`: true scores of the arms relative to the total control's last step.

    `worst`: task n is as good as multi-task in its control number n of three, and all else is far behind.
    """

    name: str
    seeds: int
    truth: float = 0.0
    shift_sd: float = 0.0
    levels: Mapping[str, float] = field(default_factory=dict)
    multi_task: Runs = Runs()
    control: Runs = Runs()
    worst: bool = False

    def difference(self, estimand: str) -> float:
        """From the total control; NaN where it is another one in every task."""
        if self.worst:
            return float("nan")
        return self.truth + self.multi_task.centre(estimand) - self.control.centre(estimand)


def table(setting: Setting, number: int, rng: np.random.Generator) -> Table:
    """All arms of one task. The expected score of an arm is BASE and its level, whatever is drawn."""
    ease = rng.normal(0, 0.1, DOCUMENTS)  # of a document, for everyone
    gold = 1 + rng.poisson(9, DOCUMENTS)  # items of a document, independent of its ease
    draw = _mean if number == TASKS - 1 else _f1
    levels = {"total": 0.0, "best_development": 0.0, "share": -0.04, **setting.levels}
    if setting.worst:
        levels = dict.fromkeys(levels, setting.truth - 0.2)
        levels[list(levels)[number % len(levels)]] = setting.truth
    multi_task = setting.multi_task.effects(setting.seeds, rng)
    total = setting.control.effects(setting.seeds, rng)
    runs = {"total": total, "best_development": total}  # the same runs, at another point
    arms = {}
    for name, level in {"multi_task": setting.truth, **levels}.items():
        own = multi_task if name == "multi_task" else runs.get(name)
        own = setting.control.effects(setting.seeds, rng) if own is None else own
        rate = BASE + level + own + ease + rng.normal(0, setting.shift_sd, DOCUMENTS)
        arms[name] = draw(rate, gold, rng)
    return Table(arms, MARGIN)


def _f1(rate: np.ndarray, gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wrong item is a miss and a false positive, so that F1 is the share of right ones: no bias."""
    right = rng.binomial(np.broadcast_to(gold, rate.shape), np.clip(rate, 0, 1))
    return np.stack([right, gold - right, right, gold - right], axis=-1).astype(float)


def _mean(rate: np.ndarray, gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rate + rng.normal(0, CELL_SD, rate.shape), np.ones_like(rate)], axis=-1)


def study(setting: Setting, rng: np.random.Generator) -> dict[str, Table]:
    return {f"task {number}": table(setting, number, rng) for number in range(TASKS)}


def one_study(setting: Setting, rule: Rule, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Estimand -> shares of the tasks' words, the study's own words, and which intervals cover."""
    found = judge(study(setting, rng), rule, rng, plan=False)
    return {kind: _of_estimand(found, kind, setting.difference(kind)) for kind in ESTIMANDS}


def _of_estimand(found: Mapping[str, Any], estimand: str, truth: float) -> dict[str, float]:
    tasks = [task["estimands"][estimand] for task in found["tasks"].values()]
    overall = found["overall"]["estimands"][estimand]
    shares = {word: sum(task["verdict"] == word for task in tasks) / TASKS for word in WORDS}
    specified = [each["specification"] == Verdict.GENUINE for each in (*tasks, overall)]
    return shares | {
        "specification": sum(specified[:-1]) / TASKS,
        "any specification": float(any(specified)),
        "any genuine": float(any(each["verdict"] == Verdict.GENUINE for each in (*tasks, overall))),
        "any exposure": float(shares[Verdict.EXPOSURE] > 0),
        "overall": float(overall["verdict"] == Verdict.GENUINE),
        "covered": sum(_covers(task, truth) for task in tasks) / TASKS,
        "overall covered": _covers(overall, truth),
    }


def _covers(found: Mapping[str, Sequence[float]], truth: float) -> float:
    low, high = found["interval"]
    return float(low <= truth <= high) if truth == truth else truth


def simulate(setting: Setting, studies: int, resamples: int = 200) -> dict[str, dict[str, float]]:
    """Estimand -> the means over studies."""
    rng = np.random.default_rng([crc32(setting.name.encode()), setting.seeds])
    each = [one_study(setting, Rule(resamples=resamples), rng) for _ in range(studies)]
    return {
        kind: {name: float(np.mean([one[kind][name] for one in each])) for name in each[0][kind]}
        for kind in ESTIMANDS
    }


def usual() -> Iterator[Setting]:
    for shift_sd in SHIFTS:
        for name, truth in TRUTHS.items():
            where = f"{name}, documents matter" if shift_sd else name
            yield from (Setting(where, seeds, truth, shift_sd) for seeds in SEEDS)


def controls() -> Iterator[Setting]:
    """+3 points over the total control's last step, which another control can explain, or none can."""
    gain = {"transfer": {}, "an overtrained total control": {"best_development": 0.03}}
    gain["its own share of the tokens is as good"] = {"share": 0.03}
    gain["permuted labels give the gain, too"] = {"placebo": 0.03}
    gain["permuted labels give nothing"] = {"placebo": 0.0}
    for name, levels in gain.items():
        yield from (Setting(name, seeds, 0.03, levels=levels) for seeds in (5, 8))
    yield from (Setting("each task fails at another control", n, 0.2, worst=True) for n in (5, 8))


def unstable() -> Iterator[Setting]:
    """Runs that collapse (30 points, one in ten) or lag (7 points, one in eight)."""
    collapse, lag = Runs(0.3, 0.1), Runs(0.07, 1 / 8)
    one_sided = {"collapse": Runs(0.3, 0.1, same_mean=True), "lag": Runs(0.07, 1 / 8, same_mean=True)}
    for seeds in (5, 8, 15):
        for name, truth in (("none", 0.0), ("+3 points", 0.03)):
            for what, runs in (("collapse", collapse), ("lag", lag)):
                yield Setting(f"{name}, both arms {what}", seeds, truth, multi_task=runs, control=runs)
        for what, runs in one_sided.items():
            yield Setting(f"means equal, multi-task alone {what}s", seeds, multi_task=runs)


def looks(studies: int, resamples: int) -> list[list[str]]:
    """Any difference found in five tasks without one: looking thrice and stopping, at either level."""
    lines = []
    for name, declared in (("at .05 each time", ()), ("declared, Pocock", LOOKS)):
        rng = np.random.default_rng(7)
        rule = Rule(resamples=resamples, seeds=range(LOOKS[-1]), looks=declared)
        stopped = {"any difference": 0, Verdict.GENUINE: 0}
        for _ in range(studies):
            tables = study(Setting("none", LOOKS[-1]), rng)
            said = set()
            for look in LOOKS:
                found = judge({n: first(t, look) for n, t in tables.items()}, rule, rng, plan=False)["tasks"]
                said |= {task["verdict"] for task in found.values()}
                said |= {"any difference" for task in found.values() if task["p_holm"] <= rule.level}
            for word in stopped:
                stopped[word] += word in said
        lines.append([name, f"{rule.level:.4f}", *(f"{stopped[word] / studies:.3f}" for word in stopped)])
    return lines


def first(whole: Table, seeds: int) -> Table:
    """The table after its first seeds."""
    return Table({name: arm[:seeds] for name, arm in whole.arms.items()}, whole.margin)


def many_comparisons(studies: int, resamples: int) -> list[list[str]]:
    """A study of 24 comparisons without any difference: at least one *genuine*, corrected and not."""
    names = [f"comparison {n}" for n in range(COMPARISONS)]
    declared = Family("simulated", names, names[0], [f"task {n}" for n in range(TASKS)])
    rule, rng = Rule(resamples=resamples), np.random.default_rng(8)
    fixed = {"alpha": 0.05, "test": "welch", "estimand": "mean", "seeds": [], "looks": [], "margins": {}}
    alone = together = 0
    for _ in range(studies):
        documents = {
            name: judge(study(Setting("none", 5), rng), rule, rng, plan=False)
            | {"rule": fixed | {"level": rule.level}, "interim": ""}
            for name in names
        }
        found = study_verdict(documents, declared)["comparisons"].values()
        members = [parts[part] for parts in found for part in (ALL_TASKS, *declared.tasks)]
        alone += any(member["alone"] == Verdict.GENUINE for member in members)
        together += any(member["verdict"] == Verdict.GENUINE for member in members)
    return [[str(COMPARISONS), str(studies), f"{alone / studies:.3f}", f"{together / studies:.3f}"]]


def section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> None:
    """A Markdown table whose first columns are words and whose others are figures."""
    print(f"\n## {title}\n")
    rule = "|" + "---|" * words + "---:|" * (len(header) - words)
    print("\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]))


COLUMNS = {
    "genuine": Verdict.GENUINE,
    "regularisation": Verdict.REGULARISATION,
    "exposure": Verdict.EXPOSURE,
    "negative": Verdict.NEGATIVE,
    "undecided": Verdict.UNDECIDED,
    "genuine by the specification": "specification",
    "any genuine in the study": "any genuine",
    "any by the specification": "any specification",
    "overall genuine": "overall",
    "intervals cover": "covered",
    "overall covers": "overall covered",
}


def rows(settings: Sequence[Setting], studies: int, resamples: int) -> list[list[str]]:
    lines = []
    for setting in settings:
        for estimand, means in simulate(setting, studies, resamples).items():
            figures = [f"{means[name]:.3f}" for name in COLUMNS.values()]
            lines.append([setting.name, str(setting.seeds), estimand, *figures])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=150, help="studies of five tasks per setting")
    parser.add_argument("--resamples", type=int, default=100)
    options = parser.parse_args()
    studies, resamples = options.studies, options.resamples
    print("# The judge on invented score tables with known truth\n")
    print(f"`python -m benchmarks.judge_simulation --studies {studies} > {RESULTS}`")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    print(f"· {versions}; Python {platform.python_version()} · {date.today()}\n")
    print(" ".join(__doc__.split("\n\n")[2].split()) + f" The margin is {100 * MARGIN:g} point.")
    print(f"{studies} studies per line: a share of .05 of studies has a standard error of", end=" ")
    print(f"{(0.05 * 0.95 / studies) ** 0.5:.3f}. Columns are shares of tasks; those that begin with")
    print("*any* or *overall* are shares of studies, and *any* counts tasks and the overall verdict.")
    titles = {
        "Power and errors": usual(),
        "Which control explains a gain": controls(),
        "Collapsed and lagging seeds": unstable(),
    }
    for title, settings in titles.items():
        lines = rows(list(settings), studies, resamples)
        section(title, ["true difference", "seeds", "estimand", *COLUMNS], lines, 3)
    header = ["looks after 3, 5 and 8 seeds", "level of each", "any difference found", "any genuine"]
    section("Several looks, no difference", header, looks(4 * studies, resamples), 1)
    header = ["comparisons", "studies", "any genuine, each by itself", "any genuine, study-level verdict"]
    section("Many comparisons, no difference", header, many_comparisons(studies // 2, resamples), 0)
    print(f"\nPocock's level for looks after 3, 5 and 8 seeds is {look_level(0.05, LOOKS):.4f}.")


if __name__ == "__main__":
    main()
