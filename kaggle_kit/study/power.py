"""What a study can show, before it runs: the differences that its seeds detect, the verdicts within reach.

    print(*reach(Study(load_selection("full"))), sep="\\n")

It asks the judge's own functions, about the standard deviations that `params/cost/spread.yaml` assumes.
*Genuine transfer* needs every control to be beaten. The chance of that is at least 1 minus the chances to
miss each, so each has to be found with power 1 - (1 - power) / controls, all true differences being alike.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
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
        names = (*["practice"] * practice, task.name, kind, "any")
        for key, declared in vars(self).items():
            known = [declared[name] for name in names if name in declared]
            if not known:
                raise ConfigError(f"{SPREAD} declares no {key} of {task.name} nor of {kind}; add it")
            found[key] = known[0]
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


def reach(study: Study) -> Iterator[str]:
    """The lines of `study plan`; none for a study without a verdict."""
    if not (verdicts := study.verdicts()):
        return
    spread, primary = read_figures(SPREAD, Spread), study.family().primary
    others = len(verdicts) * (1 + len(study.selection.tasks)) - 1
    yield (
        f"\nSmallest true differences that are found with a power of {POWER:.0%}, under the spreads below:\n"
        "  total          against the control of all tokens alone (the specification's rule)\n"
        "  genuine        against every control\n"
        f"  in the study   the same, corrected over the study's {others} secondary tests\n"
        "and the chance of data exposure only where nothing differs."
    )
    assumed: dict[str, dict[str, Figure]] = {}
    for name, of in sorted(verdicts.items(), key=lambda item: item[0] != primary):
        runs = [study.runs[id] for id in of["runs"]]
        config, controls = runs[0].config, {run.control for run in runs if run.control}
        mark = ", the primary comparison" if name == primary else ""
        yield f"{name}{mark}: {len(config.experiment['seeds'])} seeds, controls {', '.join(sorted(controls))}"
        to_beat = 1 + len(controls)  # that of all tokens counts twice: its last step and its best one
        found = members(config, spread, others, primary=name == primary, controls=to_beat)
        yield HEAD
        yield from (_row(member, to_beat + (member.name == ALL_TASKS)) for member in found)
        yield from _verdicts(found, controls)
        assumed |= {task.name: spread.of(task, practice=_practice(config)) for task in config.tasks.values()}
    yield f"Assumed spreads (params/{SPREAD}):"
    for key in vars(spread):
        yield from sources((f"{key} of {task}", figures[key]) for task, figures in assumed.items())


def members(
    config: RunConfig, spread: Spread, secondary: int, *, primary: bool, controls: int = 1
) -> list[Member]:
    """The tests of one comparison: of each task, then over all tasks in units of published scores.

    Over all tasks the strongest control of each is one more to beat, the best of `controls` by chance.
    """
    experiment, margins = config.experiment, config.experiment["margin"]
    level = Rule(**{key: experiment[key] for key in SETTINGS if key in experiment}).level
    seeds, made, units = len(config.experiment["seeds"]), [], []
    for name, task in config.tasks.items():
        found = {key: figure.value for key, figure in spread.of(task, practice=_practice(config)).items()}
        variances = 2 * found["seed_sd"] ** 2, found["document_sd"] ** 2 / found["documents"]
        difference = Difference(0.0, seeds, variances[0], 2.0, variances[1], int(found["documents"]))
        margin = margins[metric_kind(task.primary_metric)]
        made.append(Member(name, difference, margin, level / len(config.tasks), level / max(1, secondary)))
        units.append(scale(asdict(task), _practice(config))["unit"])
    return [*made, _over_all(made, units, controls, level, level if primary else level / secondary)]


def _over_all(
    tasks: list[Member], units: list[float], controls: int, alone: float, in_study: float
) -> Member:
    """The mean over tasks of score over unit, whose runs are taken to vary independently.

    The best of equal controls lies above one of them by the largest of as many normal means, at most.
    """
    found, squares = [member.difference for member in tasks], [unit**2 * len(tasks) ** 2 for unit in units]
    seed, document = (
        sum(getattr(one, name) / square for one, square in zip(found, squares, strict=True))
        for name in ("seed_variance", "document_variance")
    )
    difference = Difference(0.0, found[0].seeds, seed, 2.0, document, min(one.documents for one in found))
    errors = [(one.seed_variance / 2 / one.seeds) ** 0.5 for one in found]
    largest = float(norm.ppf(((np.arange(2000) + 0.5) / 2000) ** (1 / controls)).mean())
    luck = largest * fmean(error / unit for error, unit in zip(errors, units, strict=True))
    margin = fmean(member.margin / unit for member, unit in zip(tasks, units, strict=True))
    return Member(ALL_TASKS, difference, margin, alone, in_study, luck)


def _practice(config: RunConfig) -> bool:
    return config.profile.corpora == "practice"


def _row(member: Member, to_beat: int) -> str:
    genuine = [member.detectable(POWER, to_beat, in_study=study) for study in (False, True)]
    shown = [f"{figure:.4f}" for figure in (member.margin, member.detectable(POWER), *genuine)]
    return ROW.format(member.name, member.difference.documents, *shown, f"{member.exposure:.2f}")


def _verdicts(found: list[Member], controls: set[str]) -> Iterator[str]:
    """Which verdicts can be reached at all, in words."""
    if missing := {TOTAL, SHARE} - controls:
        yield f"  genuine transfer: not reachable, for no control {' or '.join(sorted(missing))} is trained"
    else:
        yield "  genuine transfer: reachable, from the differences under genuine on"
    yield "  negative transfer: reachable, from the differences under total on"
    yield f"  data exposure only, per task: {_exposure(found[:-1])}"
    yield f"  data exposure only, over all tasks: {_exposure(found[-1:])}"


def _exposure(found: list[Member]) -> str:
    """Whether each of these is judged so with the declared power where nothing differs, and what it takes."""
    needed = [m.difference.seeds_to_equate(0.0, m.margin, m.alone, POWER) for m in found]
    have, best = found[0].difference.seeds, max(member.exposure for member in found)
    if all(seeds is not None and seeds <= have for seeds in needed):
        return "reachable"
    state = "not reachable" if best < POWER else "reachable for some"
    more = "no number of seeds is enough for all; it takes more documents or a wider margin"
    if len(enough := [seeds for seeds in needed if seeds is not None]) == len(needed):
        more = f"reachable from {max(enough)} seeds on"
    return f"{state} with {have} seeds (chance {best:.2f} at best); {more}"
