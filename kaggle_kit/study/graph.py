"""The runs of a selection, each with the folder that its configuration gives it.

    study = Study(load_selection("rq5_practice"))
    study.runs["token_controlled-…"].command(Path("runs"))

A folder's name ends in the hash of the run's configuration, so a changed parameter makes another run,
and what two studies share is trained once. What has to be finished before what is not said here but
in the `Snakefile`, by the links that a run carries: `twin_of` and `candidates`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_kit.analysis.verdict_study import Family
from kaggle_kit.core.config import compose, strategy_entry, validate
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.page_files import page_path, parameters
from kaggle_kit.core.request import with_page_defaults
from kaggle_kit.core.runs import config_run_id
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.study.spec import PAGE_OF, PLACEBO, Ablation, Selection, controlled, multi_task, parts_of

# Kinds of runs, one rule of the Snakefile each.
BASELINE, MULTI_TASK, QUANTISED = "baseline", "multi_task", "quantised"
ABLATION, TWIN = "ablation", "token_controlled"
KINDS = (BASELINE, MULTI_TASK, QUANTISED, ABLATION, TWIN)
# A question of two arms -> the keys of `experiment` that its runs declare.
ASKED_BY = {"ablation": {"factor", "level"}, "mimic_exclusion": {"arm", "mimic"}}


@dataclass(frozen=True)
class StudyRun:
    """One run. `twin_of` and `candidates` are ids of the runs that it reads."""

    id: str
    kind: str
    page: str
    strategy: str
    tasks: tuple[str, ...]
    overrides: tuple[str, ...]
    config: RunConfig
    ablation: str | None = None
    control: str | None = None
    twin_of: str | None = None
    candidates: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs whose folders its page reads."""
        return (self.twin_of,) if self.twin_of else self.candidates

    @property
    def on_gpu(self) -> bool:
        """Whether the run needs a GPU."""
        return self.config.profile.device != "cpu"

    def command(self, runs_dir: Path) -> list[str]:
        """The words of the command that starts the run or goes on with it."""
        config = self.config
        named: dict[str, Any] = {"model": config.model.name, "task": ",".join(self.tasks)}
        named |= {"strategy": self.strategy, "profile": config.profile.name, "seed": config.seed}
        named["into"] = runs_dir / self.id
        options = [word for name, value in named.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "kaggle_kit", "run", self.page, *options, *self.overrides]


class _Named(NamedTuple):
    """What kind of run it is, and what its configuration is composed of beside its part's own words."""

    kind: str
    model: str
    strategy: str
    tasks: tuple[str, ...]
    seed: int


class Study:
    """All runs of a selection, in the order in which they are declared."""

    def __init__(self, selection: Selection, changes: Sequence[str] = (), file: str = "") -> None:
        """`file`: its name below params/study/, unless it is the selection's own; `changes`: what differs."""
        self.selection, self.changes, self.file = selection, tuple(changes), file or selection.name
        self._composed: dict[tuple[Any, ...], RunConfig] = {}

    @cached_property
    def runs(self) -> dict[str, StudyRun]:
        """By id. Runs of the same configuration are one: the first of them."""
        runs: dict[str, StudyRun] = {}
        for part in parts_of(self.selection):
            for model in part.models:
                for run in self._of_model(part, model, runs):
                    runs.setdefault(run.id, run)
        return runs

    def nodes(self, runs_dir: Path) -> dict[str, dict[str, dict[str, Any]]]:
        """What the Snakefile has to know: kind -> run id -> command, links and GPUs, as plain values."""
        nodes: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        for run in self.runs.values():
            links = {"twin_of": run.twin_of, "candidates": list(run.candidates)}
            nodes[run.kind][run.id] = {"command": run.command(runs_dir), "gpu": int(run.on_gpu), **links}
        return nodes

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """`STRATEGY-MODEL` of each comparison -> strategy, model and runs: all seeds and their controls."""
        twins: dict[tuple[str, str], list[StudyRun]] = {}
        for twin in self.of_kind(TWIN) if self.selection.verdict else ():
            pair = (self.runs[str(twin.twin_of)].strategy, twin.config.model.name)
            twins.setdefault(pair, []).append(twin)
        verdicts = {}
        for (strategy, model), found in twins.items():
            multi = list(dict.fromkeys(str(twin.twin_of) for twin in found))
            split = "test" if "test" in self.runs[multi[0]].config.profile.report else ""
            runs = [*multi, *(twin.id for twin in found)]
            comparison = {"strategy": strategy, "model": model, "split": split, "runs": runs}
            verdicts[f"{strategy}-{model}"] = comparison
        return verdicts

    def family(self) -> Family:
        """What the study's verdict is corrected over; ConfigError for a study that judges nothing.

        A study of one comparison has it as its primary one.
        """
        selection, primary = self.selection, self.selection.primary
        if not (names := list(self.verdicts())):
            then = "set verdict: true, and controls, in its file"
            raise ConfigError(f"study {selection.name} declares no verdict; {then}")
        first = f"{primary.strategy}-{primary.model}" if primary else names[0]
        return Family(selection.name, names, first, list(selection.tasks))

    def questions(self) -> dict[str, list[str]]:
        """What it asks beside transfer, as `verdict --question` names it -> the runs that are compared."""
        asked: dict[str, list[str]] = {question: [] for question in (*ASKED_BY, "s5")}
        for run in self.runs.values() if self.selection.verdict else ():
            found = [name for name, keys in ASKED_BY.items() if keys <= run.config.experiment.keys()]
            for question in found if run.kind == ABLATION else ["s5"] * (run.kind == QUANTISED):
                asked[question] += [run.id, *run.candidates]
        return {question: list(dict.fromkeys(runs)) for question, runs in asked.items() if runs}

    def of_kind(self, kind: str) -> list[StudyRun]:
        """Return the runs of one kind, in the order of the graph."""
        return [run for run in self.runs.values() if run.kind == kind]

    def _of_model(self, part: Selection, model: str, made: Mapping[str, StudyRun]) -> Iterator[StudyRun]:
        """The runs of one model in one part, behind whatever they need of those that are `made`."""
        entries = {name: strategy_entry(name) for name in multi_task(part)}
        for seed in part.seeds:
            for name in (name for name in part.strategies if name not in entries):
                for task in part.tasks:
                    yield self._trained(part, _Named(BASELINE, model, name, (task,), seed))
        for name in sorted(entries, key=lambda name: bool(entries[name].candidates)):
            for seed in part.seeds:  # those that choose among others, of all seeds, come after them
                whole = [run for run in made.values() if run.strategy in entries[name].candidates]
                of = tuple(r.id for r in whole if r.ablation is None and r.config.model.name == model)
                kind = QUANTISED if of else MULTI_TASK
                multi = self._trained(part, _Named(kind, model, name, tuple(part.tasks), seed), of)
                yield multi
                if name in controlled(part):
                    yield from self._twins(part, multi)
        for ablation in part.ablations:
            tasks = tuple(ablation.tasks or part.tasks)
            single = strategy_entry(ablation.strategy).kind == "single"
            groups = [(task,) for task in tasks] if single else [tasks]
            for seed in part.seeds:
                for group in groups:
                    named = _Named(ABLATION, model, ablation.strategy, group, seed)
                    yield self._trained(part, named, ablation=ablation)

    def _twins(self, part: Selection, multi: StudyRun) -> Iterator[StudyRun]:
        for control in part.controls:
            kind = {"placebo": True} if control == PLACEBO else {"control": control}
            link = {"twin": multi.id, "seeds": list(part.seeds), **kind}
            for task in multi.tasks:
                named = _Named(TWIN, multi.config.model.name, "s1_single", (task,), multi.config.seed)
                run = self._run(part, named, TWIN, _experiment(part), link)
                yield replace(run, control=control, twin_of=multi.id)

    def _trained(
        self, part: Selection, named: _Named, of: tuple[str, ...] = (), ablation: Ablation | None = None
    ) -> StudyRun:
        """A run that is no control, on the page that asks its question."""
        overrides = (*_experiment(part, ablation), *part.overrides, *(ablation.overrides if ablation else ()))
        experiment = self._config(part, named, overrides).experiment
        link: dict[str, Any] = {"candidates": list(of)} if of else {}
        if experiment:  # what is compared is declared beforehand
            link["seeds"] = list(part.seeds)
        page = (ablation and ablation.page) or experiment.get("page") or PAGE_OF[named.strategy]
        overrides = tuple(with_page_defaults(_defaults_of(page), part.profile, overrides))
        run = self._run(part, named, page, overrides, link)
        return replace(run, ablation=ablation.name if ablation else None, candidates=of)

    def _run(
        self, part: Selection, named: _Named, page: str, overrides: tuple[str, ...], link: Mapping[str, Any]
    ) -> StudyRun:
        """A run with the seed and the links that `compose` would give it: a full study has thousands."""
        base = self._config(part, named, overrides)
        config = replace(base, seed=named.seed, experiment=base.experiment | dict(link))
        words = (*overrides, *(f"experiment.{key}={_word(value)}" for key, value in link.items()))
        id = config_run_id(config, page)
        return StudyRun(id, named.kind, page, named.strategy, named.tasks, words, config)

    def _config(self, part: Selection, named: _Named, overrides: tuple[str, ...]) -> RunConfig:
        """`compose` but for the seed. The model's part of it does not depend on tasks and strategy."""

        def once(model: str, *key: Any) -> RunConfig:
            if (key := (*key, model, part.profile, overrides)) not in self._composed:
                composed = compose(model, named.tasks, named.strategy, part.profile, overrides=overrides)
                self._composed[key] = composed
            return self._composed[key]

        config = once(self.selection.models[0], named.tasks, named.strategy)
        config = replace(config, model=once(named.model).model)
        validate(config)
        return config


@cache
def _defaults_of(page: str) -> dict[str, Any]:
    return parameters(page_path(page))


def _experiment(selection: Selection, ablation: Ablation | None = None) -> tuple[str, ...]:
    name = (ablation and ablation.experiment) or selection.experiment
    return (f"experiment={name}",) if name else ()


def _word(value: Any) -> str:
    """A value as a word of the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
