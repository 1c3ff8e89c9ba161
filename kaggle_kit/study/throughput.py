"""What is known before a study runs: tokens, rates and overheads, each with where it comes from.

    known = Known(read_table(), find_runs(Path("runs")))
    known.tokens_of_epoch(config, "semeval2014t7"), known.rate(config)

Corpora and finished runs of this machine come first; `params/cost/kaggle_t4.yaml` stands in for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import explain
from kaggle_kit.core.errors import ConfigError, CorpusMissing
from kaggle_kit.core.params import members, params_file
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.study.cost import Limits
from kaggle_kit.study.spec import kind_of

TABLE = "cost/kaggle_t4.yaml"
WHOLE_SECONDS = 2.0  # manifests say to the second when a run began and ended


@dataclass
class Figure:
    """A number and its source."""

    value: float = 0.0
    source: str = ""


@dataclass
class CostTable:
    """`params/cost/kaggle_t4.yaml`."""

    limits: dict[str, Figure] = field(default_factory=dict)
    overhead_hours: dict[str, Figure] = field(default_factory=dict)
    evaluation_passes: dict[str, Figure] = field(default_factory=dict)
    tokens: dict[str, Figure] = field(default_factory=dict)
    tokens_per_second: dict[str, Figure] = field(default_factory=dict)
    relative_cost: dict[str, Figure] = field(default_factory=dict)

    def limit(self) -> Limits:
        return Limits(**{name: figure.value for name, figure in self.limits.items()})


def read_table() -> CostTable:
    """The declared costs. ConfigError for an unknown key or a figure that is no number."""
    return read_figures(TABLE, CostTable)


def read_figures(file: str, schema: type) -> Any:
    """A file of figures and their sources below `params/`, as the schema has it. ConfigError as above."""
    path = params_file(file)
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {explain(error)}") from error


class Known:
    """Figures for any run's configuration. What was asked for once is remembered, with its source."""

    def __init__(self, table: CostTable, runs: Sequence[RunFolder] = ()) -> None:
        self.table = table
        measured = (_Measured.of(run) for run in runs)
        self.measured = [run for run in measured if run.strategy in members("strategy")]
        self.used: dict[str, dict[str, Figure]] = {
            name: {} for name in ("tokens", "rates", "overheads", "evaluations")
        }
        self._counted: dict[tuple[str, str, str], int | None] = {}

    def tokens_of_epoch(self, config: RunConfig, task: str) -> float:
        """Real tokens of one pass over the task's training split.

        Counted where corpus and tokenizer are here, else as declared. ConfigError where neither is known.
        """
        key = (task, config.model.name, config.profile.name)
        if key not in self._counted:
            self._counted[key] = count_tokens(replace(config, tasks={task: config.tasks[task]}))
        name, figure = task, self.table.tokens.get(task)
        if (counted := self._counted[key]) is not None:
            name, figure = (
                f"{task}, {config.model.name}",
                Figure(counted, "counted: corpus and tokenizer are here"),
            )
        if figure is None:
            raise ConfigError(
                f"tokens of {task} are not known: its corpus or the tokenizer of {config.model.name} is not "
                f"here, and {TABLE} declares no tokens.{task}; see `data locate {task}`"
            )
        return self.used["tokens"].setdefault(name, figure).value

    def rate(self, config: RunConfig, strategy: str) -> float:
        """Real tokens a second in training."""
        name = f"{config.model.name} {strategy} ({config.profile.name})"
        if name not in self.used["rates"]:
            self.used["rates"][name] = self._rate(config, strategy)
        return self.used["rates"][name].value

    def overhead_hours(self, config: RunConfig) -> float:
        """What one session of the run takes beside training."""
        name = f"{config.model.name} ({config.profile.name})"
        if name not in self.used["overheads"]:
            alike = [m.overhead_hours for m in self._alike(config) if m.overhead_hours is not None]
            declared = self.table.overhead_hours["cpu" if config.profile.device == "cpu" else "gpu"]
            measured = (
                Figure(median(alike), f"measured: {len(alike)} unpaused run(s) here") if alike else None
            )
            self.used["overheads"][name] = measured or declared
        return self.used["overheads"][name].value

    def evaluation_hours(self, config: RunConfig, strategy: str) -> float:
        """What scoring the run takes; 0 where finished runs have it in what they took beside training."""
        device = "cpu" if config.profile.device == "cpu" else "gpu"
        passes = self.table.evaluation_passes.get(device)
        if passes is None or any(m.overhead_hours is not None for m in self._alike(config)):
            return 0.0
        self.used["evaluations"][device] = passes
        tokens = sum(self.tokens_of_epoch(config, task) for task in config.tasks)
        return passes.value * tokens / self.rate(config, strategy) / 3600

    def _rate(self, config: RunConfig, strategy: str) -> Figure:
        """Measured on the same strategy, else on another one of the model, else declared."""
        weight = self.table.relative_cost[kind_of(strategy)].value
        alike = self._alike(config)
        for runs, what in (([m for m in alike if m.strategy == strategy], strategy), (alike, "others")):
            if runs:
                unit = sum(m.tokens * self.table.relative_cost[kind_of(m.strategy)].value for m in runs)
                rate = unit / sum(m.seconds for m in runs) / weight
                return Figure(rate, f"measured: {len(runs)} finished run(s) of {what} here")
        if config.model.name not in self.table.tokens_per_second:
            raise ConfigError(
                f"tokens a second of {config.model.name} are not known: no finished run of it under profile "
                f"{config.profile.name} is here, nor does {TABLE} declare it"
            )
        declared = self.table.tokens_per_second[config.model.name]
        return Figure(
            declared.value / weight, declared.source + (f"; over {weight:g}" if weight != 1 else "")
        )

    def _alike(self, config: RunConfig) -> list[_Measured]:
        """Runs on the same machinery: a profile names device and precision."""
        key = (config.model.name, config.profile.name)
        return [m for m in self.measured if (m.model, m.profile) == key and m.seconds > 0]


@dataclass(frozen=True)
class _Measured:
    model: str
    strategy: str
    profile: str
    tokens: int
    seconds: float
    overhead_hours: float | None

    @classmethod
    def of(cls, run: RunFolder) -> _Measured:
        manifest = run.manifest()
        totals, spent = manifest["totals"], _seconds_of_one_session(manifest)
        beside = None if spent is None else max(spent - totals["seconds"], 0.0) / 3600
        names = (manifest["model"], manifest["strategy"], manifest["profile"])
        return cls(*names, sum(totals["tokens"].values()), totals["seconds"], beside)


def _seconds_of_one_session(manifest: Mapping[str, Any]) -> float | None:
    """From start to finish; None for a run that lay still in between, or of which that is not known.

    The sessions' own clocks stand still between sessions, which may lie days apart.
    """
    summaries = (kept.get("CheckpointCallback", {}) for kept in manifest.get("callbacks", ()))
    worked = [kept["session_seconds"] for kept in summaries if "session_seconds" in kept]
    try:
        begun, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "finished"))
    except (KeyError, ValueError):
        return None
    spent = (ended - begun).total_seconds()
    return spent if worked and spent <= max(worked) + WHOLE_SECONDS else None


def count_tokens(config: RunConfig) -> int | None:
    """Real tokens of the training split of the configuration's one task; None where something is not here."""
    from transformers import AutoTokenizer

    from kaggle_kit.data import practice
    from kaggle_kit.experiment.experiment import Experiment
    from kaggle_kit.models.loading import Loaded, source_of
    from kaggle_kit.models.tiny import train_tokenizer

    model, exp = config.model, Experiment(config)
    try:
        if model.recipe and model.path is None:
            tokenizer = train_tokenizer(practice.corpus_text(config.practice))  # a plan trains no model
        else:
            tokenizer = AutoTokenizer.from_pretrained(source_of(model), local_files_only=True)
        exp.backbone = Loaded(None, tokenizer, model.family == "decoder", {}, model)
        (encoded,) = exp.encoded.values()
    except (CorpusMissing, OSError):
        return None
    return int(encoded.lengths.sum())


def sources(figures: Iterable[tuple[str, Figure]], unit: str) -> list[str]:
    """One line per figure, its source, and whatever has this figure from it."""
    same: dict[tuple[float, str], list[str]] = {}
    for name, figure in figures:
        same.setdefault((figure.value, figure.source), []).append(name)
    return [f"  {_amount(v)} {unit}{', '.join(names)} — {source}" for (v, source), names in same.items()]


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
