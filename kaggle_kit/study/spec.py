"""A study's selection: what `params/study/NAME.yaml` may say, read and checked.

selection = load_selection("rq5_practice", ["seeds=[1,2]"])
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omegaconf import MISSING, OmegaConf

from kaggle_kit.core.checks import wrong_seeds
from kaggle_kit.core.config import explained, strategy_entry, typed
from kaggle_kit.core.errors import nearest, refuse, unknown
from kaggle_kit.core.params import members, params_file
from kaggle_kit.study import DEFAULT

TOTAL, SHARE, PLACEBO = CONTROLS = ("total", "share", "placebo")
UNITED = ("models", "tasks", "strategies", "controls", "controlled")  # of a study: those of all its parts
# The page that asks a strategy's own question. An ablation may name another.
PAGE_OF = {"s1_single": "s1_single_task"}
PAGE_OF |= {name: name for name in ("s2_shared", "s3a_flat", "s3b_hierarchical", "s4_sequential", "s5_qlora")}
PAGE_OF |= dict.fromkeys(("a1", "a2", "a3", "a4"), "ablation_architecture")


@dataclass
class Ablation:
    """One change to a strategy, run for every model and seed of the study."""

    name: str = MISSING
    strategy: str = MISSING
    page: str | None = None  # instead of the strategy's own
    tasks: list[str] = field(default_factory=list)  # instead of the selection's
    experiment: str | None = None  # instead of the selection's
    overrides: list[str] = field(default_factory=list)  # beside the selection's


@dataclass
class Primary:
    """The one comparison that a study's verdict rests on, declared before its runs."""

    model: str = MISSING
    strategy: str = MISSING


@dataclass
class Selection:
    """What one study trains and judges.

    Every multi-task strategy of `controlled` gets a token-controlled baseline per task, seed and control.
    With `verdict` the judge decides on all of it; `report` is the HTML file's name below the reports
    folder. A part is the selection with some keys changed; a study with parts is all of them together.
    """

    name: str = MISSING
    title: str = MISSING
    models: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    strategies: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    profile: str = "smoke"
    experiment: str | None = None
    overrides: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    controlled: list[str] = field(default_factory=list)  # empty: all multi-task strategies that are selected
    ablations: list[Ablation] = field(default_factory=list)
    verdict: bool = False
    primary: Primary | None = None  # of the verdict, where there are several comparisons
    report: str = "${name}"
    parts: list[Any] = field(default_factory=list)  # as declared; `parts_of` has them as selections


def load_selection(name: str = DEFAULT, changes: Sequence[str] = ()) -> Selection:
    """The selection of that name with `key=value` changes. ConfigError lists everything that is wrong.

    A change holds for every part. Of a study of parts, models, tasks, strategies, controls and controlled are
    those of all parts.
    """
    known = members("study")
    if name not in known:
        raise unknown("study", name, known)
    with explained(f"study {name}: "):
        declared = OmegaConf.load(params_file(f"study/{name}.yaml"))
        changed = OmegaConf.from_dotlist(list(changes))
    merged = partial(typed, f"study {name}", Selection, declared)
    selection: Selection = merged(changed)
    selection.parts = [merged(part, changed, {"parts": []}) for part in selection.parts]
    parts = parts_of(selection)
    for key in UNITED if selection.parts else ():
        setattr(selection, key, list(dict.fromkeys(value for part in parts for value in getattr(part, key))))
    problems = dict.fromkeys(problem for part in parts for problem in _problems(part))
    problems |= dict.fromkeys(_names(selection))
    refuse(f"study {name}: {problem}" for problem in problems or _combinations(selection))
    return selection


def parts_of(selection: Selection) -> list[Selection]:
    """Its parts, or the selection itself where it has none."""
    return selection.parts or [selection]


def kind_of(strategy: str) -> str:
    """single, shared, shared_private, hierarchical or sequential."""
    return strategy_entry(strategy).kind


def multi_task(selection: Selection) -> list[str]:
    """Return the strategies that train several tasks at once."""
    return [name for name in selection.strategies if kind_of(name) != "single"]


def controlled(selection: Selection) -> list[str]:
    """The strategies whose runs get token-controlled baselines."""
    return (selection.controlled or multi_task(selection)) if selection.controls else []


def _problems(selection: Selection) -> Iterator[str]:
    """What is wrong with a part by itself."""
    ablations = selection.ablations
    experiments = [selection.experiment, *(ablation.experiment for ablation in ablations)]
    named = {
        "models": (selection.models, members("model")),
        "tasks": (selection.tasks, members("task")),
        "profile": ([selection.profile], members("profile")),
        "controls": (selection.controls, CONTROLS),
        "strategies": (selection.strategies, PAGE_OF),
        "experiment": (filter(None, experiments), members("experiment")),
        "ablations.strategy": ([ablation.strategy for ablation in ablations], PAGE_OF),
    }
    named |= {f"ablations.{one.name}.tasks": (one.tasks, members("task")) for one in ablations}
    for key, (names, allowed) in named.items():
        for name in (name for name in names if name not in allowed):
            near = nearest(name, list(allowed))
            yield f"{key} has unknown {name!r}; allowed: {', '.join(allowed)}{near}"
    yield from wrong_seeds("seeds", selection.seeds)
    for key in ("models", "tasks", "strategies", "seeds"):
        if not getattr(selection, key) and not (key == "strategies" and ablations):
            yield f"{key} is empty; name at least one"
        yield from _distinct(key, getattr(selection, key))
    yield from _distinct("ablations", [ablation.name for ablation in ablations])
    own = [o for o in selection.overrides if o.partition("=")[0] in ("seed", "model", "task", "strategy")]
    if own:
        yield f"overrides {', '.join(own)} belong in seeds, models, tasks and strategies"
    several = multi_task(selection) if set(selection.strategies) <= set(PAGE_OF) else []
    if stray := [name for name in selection.controlled if name not in several]:
        allowed = ", ".join(several) or "none"
        yield f"controlled names {', '.join(stray)}; the selected multi-task strategies: {allowed}"
    if selection.controls and selection.experiment is None:
        yield "controls need the experiment that fixes the margins, such as experiment: token_controlled"
    if selection.controls and not several:
        yield "controls need a multi-task strategy to match; strategies has none"
    if selection.verdict and len(selection.seeds) < 2 and selection.controls:
        yield f"seeds is {selection.seeds}: a verdict needs two or more seeds in each arm"


def _names(selection: Selection) -> Iterator[str]:
    for key in ("name", "report"):  # both become paths
        if not re.fullmatch(r"(?!\.\.?$)[A-Za-z0-9_.-]+", value := getattr(selection, key)):
            yield f"{key} is {value!r}; allowed: letters, digits, '_', '.' and '-', and not '.' or '..' alone"


def _combinations(selection: Selection) -> Iterator[str]:
    """What is wrong between the parts of a study."""
    parts = parts_of(selection)
    compared = [f"{name}-{model}" for part in parts for name in controlled(part) for model in part.models]
    yield from _distinct("a comparison", compared)
    for part in parts:
        beside = [other.strategies for other in parts if set(part.models) <= {*other.models}]
        candidates = {name: strategy_entry(name).candidates for name in part.strategies}
        for name, needed in candidates.items():
            if absent := [one for one in needed if one not in itertools.chain(*beside)]:
                yield f"{name} chooses the better of its candidates, and strategies lacks {', '.join(absent)}"
    if selection.verdict and not compared:
        yield "verdict compares multi-task runs with their controls; set controls: [total, share]"
    if selection.verdict and len(compared) > 1 and not selection.primary:
        then = "add primary: {model: …, strategy: …} before anything runs"
        yield f"verdict is on {len(compared)} comparisons and none of them is primary; {then}"
    if (primary := selection.primary) and (pair := f"{primary.strategy}-{primary.model}") not in compared:
        yield f"primary is {pair}; the study compares: {', '.join(compared) or 'nothing'}"


def _distinct(key: str, values: Sequence[object]) -> Iterator[str]:
    if twice := sorted({str(value) for value in values if list(values).count(value) > 1}):
        yield f"{key} names {', '.join(twice)} twice"
