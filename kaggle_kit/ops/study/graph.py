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
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_kit.core.config import compose, strategy_entry, validate
from kaggle_kit.core.runs import config_run_id
from kaggle_kit.core.schema import ModelConfig, RunConfig
from kaggle_kit.ops.study.selection import PAGE_OF, Ablation, Selection, controlled, kind_of, multi_task

# Kinds of runs, one rule of the Snakefile each.
BASELINE, MULTI_TASK, QUANTISED, ABLATION, TWIN = (
    "baseline",
    "multi_task",
    "quantised",
    "ablation",
    "token_controlled",
)
KINDS = (BASELINE, MULTI_TASK, QUANTISED, ABLATION, TWIN)


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


class Study:
    """All runs of a selection, in the order in which they are declared."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._composed: dict[tuple[Any, ...], RunConfig] = {}
        self._models: dict[tuple[Any, ...], ModelConfig] = {}

    @cached_property
    def runs(self) -> dict[str, StudyRun]:
        """By id. Runs of the same configuration are one: the first of them."""
        runs: dict[str, StudyRun] = {}
        for model in self.selection.models:
            for run in self._of_model(model):
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
        """One comparison for each model and controlled strategy: its runs of all seeds, and their twins."""
        verdicts = {}
        for model in self.selection.models if self.selection.verdict else ():
            for strategy in controlled(self.selection):
                of = {"strategy": strategy, "model": model}
                multi = [r.id for r in self.runs.values() if r.twin_of is None and _is_of(r, of)]
                twins = [r.id for r in self.runs.values() if r.twin_of in multi]
                verdicts[f"{strategy}-{model}"] = {**of, "runs": multi + twins}
        return verdicts

    def of_kind(self, kind: str) -> list[StudyRun]:
        return [run for run in self.runs.values() if run.kind == kind]

    def _of_model(self, model: str) -> Iterator[StudyRun]:
        chosen = self.selection
        trained: dict[tuple[str, int], StudyRun] = {}
        names = [name for name in chosen.strategies if kind_of(name) == "single"]
        for seed in chosen.seeds:
            for name in names:
                yield from (self._run(BASELINE, model, name, [task], seed) for task in chosen.tasks)
        first, then = _split(multi_task(chosen))
        for name in (*first, *then):  # those that choose among others come after them
            for seed in chosen.seeds:
                of = [run for (other, _), run in trained.items() if other in strategy_entry(name).candidates]
                kind = QUANTISED if of else MULTI_TASK
                trained[name, seed] = self._run(kind, model, name, chosen.tasks, seed, of=of)
                yield trained[name, seed]
        for ablation in chosen.ablations:
            for seed in chosen.seeds:
                yield from self._ablated(ablation, model, seed)
        for name in controlled(chosen):
            yield from (twin for seed in chosen.seeds for twin in self._twins(trained[name, seed]))

    def _ablated(self, ablation: Ablation, model: str, seed: int) -> Iterator[StudyRun]:
        tasks = ablation.tasks or self.selection.tasks
        for group in [[task] for task in tasks] if kind_of(ablation.strategy) == "single" else [tasks]:
            yield self._run(ABLATION, model, ablation.strategy, group, seed, ablation=ablation)

    def _twins(self, multi: StudyRun) -> Iterator[StudyRun]:
        for control in self.selection.controls:
            for task in multi.tasks:
                link = {"twin": multi.id, "control": control}
                overrides = [_experiment(self.selection), *_settings(link)]
                base = self._config(multi.config.model.name, (task,), "s1_single", (overrides[0],))
                config = _linked(base, multi.config.seed, link)
                id = config_run_id(config, TWIN)
                more = {"control": control, "twin_of": multi.id}
                yield StudyRun(id, TWIN, TWIN, "s1_single", (task,), tuple(overrides), config, **more)

    def _run(
        self,
        kind: str,
        model: str,
        strategy: str,
        tasks: Sequence[str],
        seed: int,
        of: Sequence[StudyRun] = (),
        ablation: Ablation | None = None,
    ) -> StudyRun:
        chosen = self.selection
        overrides = [*filter(None, [_experiment(chosen, ablation)]), *chosen.overrides]
        overrides += ablation.overrides if ablation else []
        candidates = tuple(run.id for run in of)
        link = {"candidates": list(candidates)} if of else {}
        base = self._config(model, tuple(tasks), strategy, tuple(overrides))
        page = (ablation and ablation.page) or base.experiment.get("page") or PAGE_OF[strategy]
        config = _linked(base, seed, link)
        return StudyRun(
            config_run_id(config, page),
            kind,
            page,
            strategy,
            tuple(tasks),
            (*overrides, *_settings(link)),
            config,
            ablation=ablation.name if ablation else None,
            candidates=candidates,
        )

    def _config(
        self, model: str, tasks: tuple[str, ...], strategy: str, overrides: tuple[str, ...]
    ) -> RunConfig:
        """`compose`, of which a study asks much: the model's part does not depend on tasks and strategy."""
        first, profile = self.selection.models[0], self.selection.profile
        if (tasks, strategy, overrides) not in self._composed:
            self._composed[tasks, strategy, overrides] = compose(
                first, tasks, strategy, profile, overrides=overrides
            )
        base = self._composed[tasks, strategy, overrides]
        if model == first:
            return base
        if (model, overrides) not in self._models:
            self._models[model, overrides] = compose(
                model, tasks, strategy, profile, overrides=overrides
            ).model
        config = replace(base, model=self._models[model, overrides])
        validate(config)
        return config


def _is_of(run: StudyRun, wanted: Mapping[str, str]) -> bool:
    found = {"strategy": run.strategy, "model": run.config.model.name}
    return run.ablation is None and found == wanted


def _split(strategies: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that stand by themselves, and those that choose among finished candidates."""
    choosing = [name for name in strategies if strategy_entry(name).candidates]
    return [name for name in strategies if name not in choosing], choosing


def _experiment(selection: Selection, ablation: Ablation | None = None) -> str:
    name = (ablation and ablation.experiment) or selection.experiment
    return f"experiment={name}" if name else ""


def _settings(link: Mapping[str, Any]) -> list[str]:
    """The `experiment` keys that tie a run to others, as overrides."""
    values = {k: f"[{','.join(v)}]" if isinstance(v, list) else v for k, v in link.items()}
    return [f"experiment.{key}={value}" for key, value in values.items()]


def _linked(config: RunConfig, seed: int, link: Mapping[str, Any]) -> RunConfig:
    """What `compose` gives with this seed and these `experiment` keys: a full study has thousands."""
    return replace(config, seed=seed, experiment=config.experiment | dict(link))
