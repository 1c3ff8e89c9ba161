"""The judge where the truth is known: thousands of invented score tables through the rule of the verdict.

    python -m benchmarks.judge_simulation --tables 2000 > benchmarks/results/judge_simulation.md

Every table has five tasks, four of an F1 and one of a mean (MAP), 133 documents, and both arms answer the
same ones. Seeds differ by 0.8 points (standard deviation) in either arm, a document under one seed by
10 points and more, and in the second half of the tables each arm finds some documents harder than the
other does (3 points), so that the choice of the test set matters. True differences are known exactly.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version

import numpy as np

from kaggle_kit.analysis.stats import resampled_differences
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_rule import EXPOSURE, GENUINE, NEGATIVE, UNDECIDED, Rule

TASKS, DOCUMENTS, MARGIN = 5, 133, 0.01
SEED_SD, CELL_SD, BASE = 0.008, 0.10, 0.70
SEEDS = (3, 5, 8, 10, 15)
TRUTHS = (0.0, 0.01, 0.02, 0.03, -0.02)  # true differences; the first is none, the second the margin
SHIFTS = (0.0, 0.03)
RESULTS = "benchmarks/results/judge_simulation.md"


@dataclass(frozen=True)
class Setting:
    truth: float
    seeds: int
    shift_sd: float


def table(setting: Setting, kind: str, rng: np.random.Generator) -> Table:
    """Both arms of one task. The expected score of an arm is BASE, or BASE + truth, whatever is drawn."""
    ease = rng.normal(0, 0.1, DOCUMENTS)  # of a document, for everyone
    gold = 1 + rng.poisson(9, DOCUMENTS)  # items of a document, independent of its ease
    arms = []
    for mean in (BASE + setting.truth, BASE):
        seed = rng.normal(0, SEED_SD, (setting.seeds, 1))
        rate = mean + seed + ease + rng.normal(0, setting.shift_sd, DOCUMENTS)
        draw = _f1 if kind == "f1" else _mean
        arms.append(draw(rate, gold, rng))
    return Table(*arms, margin=MARGIN)


def _f1(rate: np.ndarray, gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wrong item is a miss and a false positive, so that F1 is the share of right ones: no bias."""
    right = rng.binomial(np.broadcast_to(gold, rate.shape), np.clip(rate, 0, 1))
    return np.stack([right, gold - right, right, gold - right], axis=-1).astype(float)


def _mean(rate: np.ndarray, gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rate + rng.normal(0, CELL_SD, rate.shape), np.ones_like(rate)], axis=-1)


def one_study(setting: Setting, rule: Rule, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Counts of one study's verdicts over its tasks, its overall verdict, and which intervals cover."""
    tables = {f"task {n}": table(setting, "mean" if n == 4 else "f1", rng) for n in range(TASKS)}
    found = judge(tables, rule, rng, plan=False)
    tasks = list(found["tasks"].values())
    words = {word: sum(task["verdict"] == word for task in tasks) for word in WORDS}
    covered = sum(task["interval"][0] <= setting.truth <= task["interval"][1] for task in tasks)
    low, high = found["overall"]["interval"]
    return {
        **words,
        "any genuine": float(words[GENUINE] > 0),
        "any exposure": float(words[EXPOSURE] > 0),
        "covered": covered,
        "plain": _plain_covered(tables["task 0"], setting, rule, rng),
        "overall": float(found["overall"]["verdict"] == GENUINE),
        "overall covered": float(low <= setting.truth / BASE <= high),
    }


def _plain_covered(data: Table, setting: Setting, rule: Rule, rng: np.random.Generator) -> float:
    """Does the plain two-level percentile interval cover? Seeds and documents drawn at once."""
    draws = resampled_differences(data.multi_task, data.control, rule.resamples, rng)
    drawn = rng.integers(setting.seeds, size=draws.shape)
    low, high = np.quantile(np.take_along_axis(draws, drawn, axis=1).mean(axis=1), [0.025, 0.975])
    return float(low <= setting.truth <= high)


WORDS = (GENUINE, EXPOSURE, NEGATIVE, UNDECIDED)
PER_TASK = (*WORDS, "covered")


def simulate(setting: Setting, tables: int, resamples: int) -> dict[str, float]:
    """Means over studies: shares of tasks for verdicts and coverage, shares of studies for the rest."""
    rng = np.random.default_rng(
        [int(1000 * (setting.truth + 1)), setting.seeds, int(1000 * setting.shift_sd)]
    )
    rule = Rule(resamples=resamples)
    studies = [one_study(setting, rule, rng) for _ in range(tables // TASKS)]
    means = {name: float(np.mean([study[name] for study in studies])) for name in studies[0]}
    return {name: value / TASKS if name in PER_TASK else value for name, value in means.items()}


def rows(tables: int, resamples: int, workers: int) -> Iterator[tuple[Setting, dict[str, float]]]:
    settings = [Setting(truth, seeds, sd) for sd in SHIFTS for truth in TRUTHS for seeds in SEEDS]
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(partial(simulate, tables=tables, resamples=resamples), settings)
        yield from zip(settings, found, strict=True)


def section(title: str, lines: list[str]) -> None:
    print(f"\n## {title}\n")
    print("\n".join(lines))


def table_lines(header: list[str], cells: Iterable[list[str]]) -> list[str]:
    rule = "|" + "---|" * 3 + "---:|" * (len(header) - 3)
    return [f"| {' | '.join(line)} |" for line in [header]] + [rule] + [f"| {' | '.join(c)} |" for c in cells]


def report(found: list[tuple[Setting, dict[str, float]]]) -> None:
    """Power and errors, then coverage, by truth."""
    verdicts = {word: word for word in WORDS}
    verdicts |= {
        "any task genuine": "any genuine",
        "any equivalent": "any exposure",
        "overall genuine": "overall",
    }
    coverage = {"per task": "covered", "overall": "overall covered", "plain two-level bootstrap": "plain"}
    section("Verdicts (shares of tasks; the last three, shares of studies)", _lines(found, verdicts))
    section("Coverage of 95 % intervals", _lines(found, coverage))


def _lines(found: list[tuple[Setting, dict[str, float]]], columns: dict[str, str]) -> list[str]:
    names = {0.0: "none", MARGIN: "the margin"}
    cells = []
    for setting, means in found:
        truth = names.get(setting.truth, f"{100 * setting.truth:+.0f} points")
        words = [truth, "yes" if setting.shift_sd else "no", str(setting.seeds)]
        cells.append(words + [f"{means[name]:.3f}" for name in columns.values()])
    return table_lines(["true difference", "documents matter", "seeds", *columns], cells)


def summary(found: list[tuple[Setting, dict[str, float]]]) -> list[str]:
    """The four criteria, each at its worst setting."""
    none = [means for setting, means in found if setting.truth == 0.0]
    edge = [means for setting, means in found if setting.truth == MARGIN]
    settings = {(setting.seeds, setting.shift_sd) for setting, _ in found}
    covered = [np.mean([m["covered"] for s, m in found if (s.seeds, s.shift_sd) == key]) for key in settings]
    lines = [
        f"- false *genuine transfer* without any difference: {max(m[GENUINE] for m in none):.3f} of tasks, "
        f"{max(m['any genuine'] for m in none):.3f} of studies with any, at the worst",
        f"- false *data exposure only* at a difference of exactly the margin: "
        f"{max(m[EXPOSURE] for m in edge):.3f} of tasks, "
        f"{max(m['any exposure'] for m in edge):.3f} of studies with any, at the worst",
        f"- coverage of 95 % intervals: {min(covered):.3f} to {max(covered):.3f} over seeds and test sets",
    ]
    for truth in (0.02, 0.03):
        power = {s.seeds: m[GENUINE] for s, m in found if s.truth == truth and not s.shift_sd}
        enough = next(
            (str(seeds) for seeds, share in power.items() if share >= 0.9), f"more than {SEEDS[-1]}"
        )
        lines.append(f"- seeds for power 0.90 per task at {100 * truth:+.0f} points: {enough}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="score tables per setting")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    found = list(rows(options.tables, options.resamples, options.workers))
    print("# The judge on invented score tables with known truth\n")
    print(f"`python -m benchmarks.judge_simulation --tables {options.tables} > {RESULTS}`")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    print(f"· {versions}; Python {platform.python_version()} · {date.today()}\n")
    print(" ".join(__doc__.split("\n\n")[2].split()) + f" The margin is {100 * MARGIN:g} point.")
    print(f"{options.tables} tables per setting, {options.tables * len(found):,} in all.\n")
    print("\n".join(summary(found)))
    report(found)


if __name__ == "__main__":
    main()
