"""What a study can show, before it runs: the differences that its seeds detect, the verdicts within reach.

    print(*reach(Study(load_selection("full"))), sep="\\n")

It asks the judge's own functions, about the standard deviations that `params/cost/spread.yaml` assumes.
*Genuine transfer* needs every control to be beaten. The chance of that is at least 1 minus the chances to
miss each, so each has to be found with power 1 - (1 - power) / controls, all true differences being alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import fmean

import numpy as np
from scipy.stats import norm

from kaggle_kit.analysis.anchors import metric_kind, scale
from kaggle_kit.analysis.stats import Difference, equivalence_power
from kaggle_kit.analysis.verdict import SETTINGS
from kaggle_kit.analysis.verdict_rule import Rule
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import SHARE, TOTAL
from kaggle_kit.study.throughput import Figure, read_figures, sources

SPREAD = "cost/spread.yaml"
POWER = 0.8  # the judge's own plan has the same, unless experiment.power is set
ALL_TASKS = "all tasks"
ROW = "  {:20}{:>10}{:>9}{:>9}{:>10}{:>13}{:>16}"
HEAD = ROW.format("", "documents", "margin", "total", "genuine", "in the study", "exposure only")


@dataclass
class Spread:
    """`params/cost/spread.yaml`: each figure by task, else by kind of metric."""

    seed_sd: dict[str, Figure] = field(default_factory=dict)
    document_sd: dict[str, Figure] = field(default_factory=dict)
    documents: dict[str, Figure] = field(default_factory=dict)

    def of(self, task: TaskConfig, *, practice: bool = False) -> dict[str, Figure]:
        """ConfigError where a figure is declared neither for the task nor for its metric."""
        found, kind = {}, metric_kind(task.primary_metric)
        for key in (entry.name for entry in fields(self)):
            declared: Mapping[str, Figure] = getattr(self, key)
            names = (*["practice"] * practice, task.name, kind, "any")
            known = [name for name in names if name in declared]
            if not known:
                raise ConfigError(f"{SPREAD} declares no {key} of {task.name} nor of {kind}; add it")
            found[key] = declared[known[0]]
        return found


@dataclass(frozen=True)
class Member:
    """One test of a comparison, of a task or over all: a difference of 0 with the assumed variances."""

    name: str
    difference: Difference
    margin: float
    alone: float  # the level that Holm's strictest step leaves it in its own verdict
    in_study: float  # the same in the study's verdict
    luck: float = 0.0  # over all tasks: by how much the best of equal controls lies above one of them

    def detectable(self, power: float, controls: int = 1, *, in_study: bool = False) -> float:
        """The smallest true difference to each of so many controls that beats all of them with this power."""
        level = self.in_study if in_study else self.alone
        one = self.difference.detectable(level, 1 - (1 - power) / controls)
        return one + (self.luck if controls > 1 else 0.0)

    @property
    def exposure(self) -> float:
        """The chance to be judged *data exposure only* where nothing differs."""
        found = self.difference
        return equivalence_power(0.0, self.margin, found.standard_error, found.df, self.alone)

    def seeds_for_exposure(self, power: float) -> int | None:
        return self.difference.seeds_to_equate(0.0, self.margin, self.alone, power)


def reach(study: Study) -> Iterator[str]:
    """The lines of `study plan`; none for a study without a verdict."""
    spread, verdicts, primary = read_figures(SPREAD, Spread), study.verdicts(), study.selection.primary
    if not verdicts:
        return
    first = f"{primary.strategy}-{primary.model}" if primary else next(iter(verdicts))
    others = len(verdicts) * (1 + len(study.selection.tasks)) - 1
    yield (
        f"\nSmallest true differences that are found with a power of {POWER:.0%}, under the spreads below:\n"
        "  total          against the control of all tokens alone (the specification's rule)\n"
        "  genuine        against every control\n"
        f"  in the study   the same, corrected over the study's {others} secondary tests\n"
        "and the chance of data exposure only where nothing differs."
    )
    for name, of in sorted(verdicts.items(), key=lambda item: item[0] != first):
        multi, *_ = runs = [study.runs[id] for id in of["runs"]]
        config, controls = multi.config, {run.control for run in runs if run.control}
        mark = ", the primary comparison" if name == first else ""
        yield f"{name}{mark}: {len(config.experiment['seeds'])} seeds, controls {', '.join(sorted(controls))}"
        to_beat = 1 + len(controls)  # that of all tokens counts twice: its last step and its best one
        found = members(config, spread, others, primary=name == first)
        found[-1] = _with_strongest(found, config, to_beat)
        yield HEAD
        yield from (_row(member, to_beat + (member.name == ALL_TASKS)) for member in found)
        yield from _verdicts(found, controls)
    yield "Assumed spreads (params/" + SPREAD + "):"
    assumed = {
        task.name: spread.of(task, practice=run.config.profile.corpora == "practice")
        for verdict in verdicts.values()
        for run in [study.runs[verdict["runs"][0]]]
        for task in run.config.tasks.values()
    }
    for key in (entry.name for entry in fields(Spread)):
        yield from sources([(f"{key} of {task}", found[key]) for task, found in assumed.items()], "")


def members(config: RunConfig, spread: Spread, secondary: int, *, primary: bool) -> list[Member]:
    """The tests of one comparison: of each task, then over all tasks in units of published scores."""
    experiment, margins = config.experiment, config.experiment["margin"]
    level = Rule(**{key: experiment[key] for key in SETTINGS if key in experiment}).level
    seeds, tasks = len(config.experiment["seeds"]), config.tasks
    made, practice = [], config.profile.corpora == "practice"
    for name, task in tasks.items():
        found = {key: figure.value for key, figure in spread.of(task, practice=practice).items()}
        variances = 2 * found["seed_sd"] ** 2, found["document_sd"] ** 2 / found["documents"]
        difference = Difference(0.0, seeds, variances[0], 2.0, variances[1], int(found["documents"]))
        margin = margins[metric_kind(task.primary_metric)]
        made.append(Member(name, difference, margin, level / len(tasks), level / max(1, secondary)))
    return [*made, _over_all(made, _units(config), level, level if primary else level / secondary)]


def _over_all(tasks: list[Member], units: list[float], alone: float, in_study: float) -> Member:
    """The mean over tasks of score over unit, whose runs are taken to vary independently."""
    pairs, count = list(zip(tasks, units, strict=True)), len(tasks)
    seed_variance = sum(m.difference.seed_variance / unit**2 for m, unit in pairs) / count**2
    document_variance = sum(m.difference.document_variance / unit**2 for m, unit in pairs) / count**2
    documents = min(member.difference.documents for member in tasks)
    difference = Difference(0.0, tasks[0].difference.seeds, seed_variance, 2.0, document_variance, documents)
    return Member(ALL_TASKS, difference, fmean(m.margin / unit for m, unit in pairs), alone, in_study)


def _with_strongest(found: list[Member], config: RunConfig, controls: int) -> Member:
    """Over all tasks the strongest control of each is one more to beat, the best of several by chance.

    Its advantage over one of them is that of the largest of `controls` independent normal means, at most.
    """
    largest = float(norm.ppf(((np.arange(2000) + 0.5) / 2000) ** (1 / controls)).mean())
    *tasks, overall = found
    errors = [(m.difference.seed_variance / 2 / m.difference.seeds) ** 0.5 for m in tasks]
    pairs = zip(errors, _units(config), strict=True)
    return replace(overall, luck=largest * fmean(error / unit for error, unit in pairs))


def _units(config: RunConfig) -> list[float]:
    practice = config.profile.corpora == "practice"
    return [scale(asdict(task), practice)["unit"] for task in config.tasks.values()]


def _row(member: Member, to_beat: int) -> str:
    genuine = [member.detectable(POWER, to_beat, in_study=study) for study in (False, True)]
    shown = [f"{figure:.4f}" for figure in (member.margin, member.detectable(POWER), *genuine)]
    return ROW.format(member.name, member.difference.documents, *shown, f"{member.exposure:.2f}")


def _verdicts(found: list[Member], controls: set[str]) -> Iterator[str]:
    """Which verdicts can be reached at all, in words."""
    *tasks, overall = found
    if missing := {TOTAL, SHARE} - controls:
        yield f"  genuine transfer: not reachable, for no control {' or '.join(sorted(missing))} is trained"
    else:
        yield "  genuine transfer: reachable, from the differences under genuine on"
    yield "  negative transfer: reachable, from the differences under total on"
    yield f"  data exposure only, per task: {_exposure(tasks)}"
    yield f"  data exposure only, over all tasks: {_exposure([overall])}"


def _exposure(found: list[Member]) -> str:
    """Whether each of these is judged so with the declared power where nothing differs, and what it takes."""
    needed = [member.seeds_for_exposure(POWER) for member in found]
    have, best = found[0].difference.seeds, max(member.exposure for member in found)
    if all(seeds is not None and seeds <= have for seeds in needed):
        return "reachable"
    state = "not reachable" if best < POWER else "reachable for some"
    if None in needed:
        more = "no number of seeds is enough for all; it takes more documents or a wider margin"
    else:
        more = f"reachable from {max(filter(None, needed))} seeds on"
    return f"{state} with {have} seeds (chance {best:.2f} at best); {more}"
