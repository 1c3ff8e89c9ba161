"""The runs of a selection, each with the folder that its configuration gives it.

    study = Study(load_selection("rq5_practice"))
    study.runs["token_controlled-…"].command(Path("runs"))

A folder's name ends in the hash of the run's configuration, so a changed parameter makes another run,
and what two studies share is trained once. What has to be finished before what is not said here but
in the `Snakefile`, by the links that a run carries: `twin_of` and `candidates`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_kit.core.config import compose, strategy_entry, validate
from kaggle_kit.core.page_files import page_path, parameters
from kaggle_kit.core.request import with_page_defaults
from kaggle_kit.core.runs import config_run_id
from kaggle_kit.core.schema import ModelConfig, RunConfig
from kaggle_kit.study.spec import (
    PAGE_OF,
    PLACEBO,
    Ablation,
    Selection,
    controlled,
    kind_of,
    multi_task,
    parts_of,
)

# Kinds of runs, one rule of the Snakefile each.
BASELINE, MULTI_TASK, QUANTISED, ABLATION, TWIN = (
    "baseline",
    "multi_task",
    "quantised",
    "ablation",
    "token_controlled",
)
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
        return self.config.profile.device != "cpu"

    def command(self, runs_dir: Path) -> list[str]:
        """The words of the command that starts the run or goes on with it."""
        config = self.config
        named = {"model": config.model.name, "task": ",".join(self.tasks), "strategy": self.strategy}
        named |= {"profile": config.profile.name, "seed": config.seed, "into": runs_dir / self.id}
        options = [word for name, value in named.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "kaggle_kit", "run", self.page, *options, *self.overrides]


class _Named(NamedTuple):
    """What a run's configuration is composed of, beside its part's profile and overrides."""

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
        self._models: dict[tuple[Any, ...], ModelConfig] = {}

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
        """One comparison for each model and controlled strategy: its runs of all seeds and their controls."""
        verdicts = {}
        for part in parts_of(self.selection) if self.selection.verdict else ():
            for model in part.models:
                for strategy in controlled(part):
                    twins = [r for r in self.of_kind(TWIN) if self._matches(r, strategy, model)]
                    multi = list(dict.fromkeys(run.twin_of for run in twins))
                    split = "test" if "test" in self.runs[multi[0]].config.profile.report else ""
                    runs = [*multi, *(run.id for run in twins)]
                    comparison = {"strategy": strategy, "model": model, "split": split, "runs": runs}
                    verdicts[f"{strategy}-{model}"] = comparison
        return verdicts

    def questions(self) -> dict[str, list[str]]:
        """What it asks beside transfer, as `verdict --question` names it -> the runs that are compared."""
        asked: dict[str, list[str]] = {}
        for run in self.of_kind(ABLATION) if self.selection.verdict else ():
            for question, keys in ASKED_BY.items():
                if keys <= run.config.experiment.keys():
                    asked.setdefault(question, []).append(run.id)
        for run in self.of_kind(QUANTISED) if self.selection.verdict else ():
            asked.setdefault("s5", []).extend((run.id, *run.candidates))
        return {question: list(dict.fromkeys(runs)) for question, runs in asked.items()}

    def of_kind(self, kind: str) -> list[StudyRun]:
        return [run for run in self.runs.values() if run.kind == kind]

    def _matches(self, twin: StudyRun, strategy: str, model: str) -> bool:
        return (self.runs[twin.twin_of].strategy, twin.config.model.name) == (strategy, model)

    def _of_model(self, part: Selection, model: str, made: Mapping[str, StudyRun]) -> Iterator[StudyRun]:
        """The runs of one model in one part, behind whatever they need of those that are `made`."""
        for seed in part.seeds:
            for name in (name for name in part.strategies if kind_of(name) == "single"):
                yield from (
                    self._run(BASELINE, part, _Named(model, name, (task,), seed)) for task in part.tasks
                )
        entries = {name: strategy_entry(name) for name in multi_task(part)}
        for name in sorted(entries, key=lambda name: bool(entries[name].candidates)):
            for seed in part.seeds:  # those that choose among others come after them
                of = self._candidates(entries[name].candidates, model, made)
                kind = QUANTISED if of else MULTI_TASK
                multi = self._run(kind, part, _Named(model, name, tuple(part.tasks), seed), of=of)
                yield multi
                if name in controlled(part):
                    yield from self._twins(part, multi)
        for ablation in part.ablations:
            for seed in part.seeds:
                yield from self._ablated(part, ablation, model, seed)

    def _candidates(
        self, strategies: Sequence[str], model: str, made: Mapping[str, StudyRun]
    ) -> tuple[str, ...]:
        """The runs, of all seeds, among which S5 chooses."""
        whole = [run for run in made.values() if run.ablation is None and run.strategy in strategies]
        return tuple(run.id for run in whole if run.config.model.name == model)

    def _ablated(self, part: Selection, ablation: Ablation, model: str, seed: int) -> Iterator[StudyRun]:
        tasks = tuple(ablation.tasks or part.tasks)
        for group in [(task,) for task in tasks] if kind_of(ablation.strategy) == "single" else [tasks]:
            yield self._run(ABLATION, part, _Named(model, ablation.strategy, group, seed), ablation=ablation)

    def _twins(self, part: Selection, multi: StudyRun) -> Iterator[StudyRun]:
        for control in part.controls:
            for task in multi.tasks:
                link = {"twin": multi.id, "seeds": list(part.seeds)}
                link |= {"placebo": True} if control == PLACEBO else {"control": control}
                experiment = _experiment(part)
                base = self._config(
                    part, _Named(multi.config.model.name, "s1_single", (task,), 0), experiment
                )
                config = _linked(base, multi.config.seed, link)
                overrides = (*experiment, *_settings(link))
                more = {"control": control, "twin_of": multi.id}
                id = config_run_id(config, TWIN)
                yield StudyRun(id, TWIN, TWIN, "s1_single", (task,), overrides, config, **more)

    def _run(
        self,
        kind: str,
        part: Selection,
        named: _Named,
        *,
        of: tuple[str, ...] = (),
        ablation: Ablation | None = None,
    ) -> StudyRun:
        overrides = (*_experiment(part, ablation), *part.overrides, *(ablation.overrides if ablation else ()))
        base = self._config(part, named, overrides)
        link: dict[str, Any] = {"candidates": list(of)} if of else {}
        if base.experiment:  # what is compared is declared beforehand
            link["seeds"] = list(part.seeds)
        page = (ablation and ablation.page) or base.experiment.get("page") or PAGE_OF[named.strategy]
        overrides = tuple(with_page_defaults(_defaults_of(page), part.profile, overrides))
        base = self._config(part, named, overrides)
        config = _linked(base, named.seed, link)
        return StudyRun(
            config_run_id(config, page),
            kind,
            page,
            named.strategy,
            named.tasks,
            (*overrides, *_settings(link)),
            config,
            ablation=ablation.name if ablation else None,
            candidates=of,
        )

    def _config(self, part: Selection, named: _Named, overrides: tuple[str, ...]) -> RunConfig:
        """`compose` but for the seed. The model's part of it does not depend on tasks and strategy."""
        first, key = self.selection.models[0], (part.profile, named.tasks, named.strategy, overrides)
        if key not in self._composed:
            self._composed[key] = compose(
                first, named.tasks, named.strategy, part.profile, overrides=overrides
            )
        if named.model == first:
            return self._composed[key]
        model = (named.model, part.profile, overrides)
        if model not in self._models:
            self._models[model] = compose(
                named.model, named.tasks, named.strategy, part.profile, overrides=overrides
            ).model
        config = replace(self._composed[key], model=self._models[model])
        validate(config)
        return config


@cache
def _defaults_of(page: str) -> dict[str, Any]:
    return parameters(page_path(page))


def _experiment(selection: Selection, ablation: Ablation | None = None) -> tuple[str, ...]:
    name = (ablation and ablation.experiment) or selection.experiment
    return (f"experiment={name}",) if name else ()


def _settings(link: Mapping[str, Any]) -> list[str]:
    """The `experiment` keys that tie a run to others, as overrides."""
    return [f"experiment.{key}={_word(value)}" for key, value in link.items()]


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _linked(config: RunConfig, seed: int, link: Mapping[str, Any]) -> RunConfig:
    """What `compose` gives with this seed and these `experiment` keys: a full study has thousands."""
    return replace(config, seed=seed, experiment=config.experiment | dict(link))
