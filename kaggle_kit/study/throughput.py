"""What is known before a study runs: tokens, rates and overheads, each with where it comes from.

    known = Known(read_table(), find_runs(Path("runs")))
    known.tokens_of_epoch(config, "semeval2014t7"), known.rate(config, "s1_single")

Corpora and finished runs of this machine come first; `params/cost/kaggle_t4.yaml` stands in for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import typed
from kaggle_kit.core.errors import ConfigError, CorpusMissing
from kaggle_kit.core.params import members, params_file
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.study.spec import kind_of

TABLE = "cost/kaggle_t4.yaml"
WHOLE_SECONDS = 2.0  # manifests say to the second when a run began and ended
KNOWN = {  # kind of figure -> its heading in a plan
    "tokens": "Tokens of one pass over the training split:",
    "rates": "Real tokens a second in training:",
    "overheads": "Hours of a session beside training:",
    "evaluations": "Passes over the training splits that scoring a run is worth:",
}


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


def read_table() -> CostTable:
    """The declared costs. ConfigError for an unknown key or a figure that is no number."""
    return read_figures(TABLE, CostTable)


def read_figures(file: str, schema: type) -> Any:
    """A file of figures and their sources below `params/`, as the schema has it. ConfigError as above."""
    path = params_file(file)
    return typed(path, schema, OmegaConf.load(path))


class Known:
    """Figures for any run's configuration. `used` keeps those that were asked for, with their sources."""

    def __init__(self, table: CostTable, runs: Sequence[RunFolder] = ()) -> None:
        self.table = table
        manifests = (run.manifest() for run in runs)
        self.measured = [m for m in manifests if m["strategy"] in members("strategy")]
        self.used: dict[str, dict[str, Figure]] = {kind: {} for kind in KNOWN}
        self._counted: dict[tuple[str, str, str], int | None] = {}

    def tokens_of_epoch(self, config: RunConfig, task: str) -> float:
        """Real tokens of one pass over the task's training split.

        Counted where corpus and tokenizer are here, else as declared. ConfigError where neither is known.
        """
        key = (task, config.model.name, config.profile.name)
        if key not in self._counted:
            self._counted[key] = count_tokens(replace(config, tasks={task: config.tasks[task]}))
        if (counted := self._counted[key]) is not None:
            figure = Figure(counted, "counted: corpus and tokenizer are here")
            return self._use("tokens", f"{task}, {config.model.name}", figure)
        if task not in self.table.tokens:
            lacks = f"corpus or tokenizer of {config.model.name} is not here, nor does {TABLE} declare them"
            raise ConfigError(f"tokens of {task} are not known: {lacks}; see `data locate {task}`")
        return self._use("tokens", task, self.table.tokens[task])

    def rate(self, config: RunConfig, strategy: str) -> float:
        """Real tokens a second in training: of the same strategy here, else of others, else as declared."""
        name = f"{config.model.name} {strategy} ({config.profile.name})"
        weight, alike = self._weight(strategy), self._alike(config)
        for runs, what in (([m for m in alike if m["strategy"] == strategy], strategy), (alike, "others")):
            if runs:
                unit = sum(sum(m["totals"]["tokens"].values()) * self._weight(m["strategy"]) for m in runs)
                rate = unit / sum(m["totals"]["seconds"] for m in runs) / weight
                source = f"measured: {len(runs)} finished run(s) of {what} here"
                return self._use("rates", name, Figure(rate, source))
        declared = self.table.tokens_per_second.get(config.model.name)
        if declared is None:
            here = f"no finished run of it under profile {config.profile.name} is here"
            what = f"tokens a second of {config.model.name} are not known"
            raise ConfigError(f"{what}: {here}, nor does {TABLE} declare it")
        beside = f"; over {weight:g}" if weight != 1 else ""
        return self._use("rates", name, Figure(declared.value / weight, declared.source + beside))

    def overhead_hours(self, config: RunConfig) -> float:
        """Hours that one session of the run takes beside training."""
        figure, measured = self.table.overhead_hours[_device(config)], self._beside_training(config)
        if measured:
            figure = Figure(median(measured), f"measured: {len(measured)} unpaused run(s) here")
        return self._use("overheads", f"{config.model.name} ({config.profile.name})", figure)

    def evaluation_hours(self, config: RunConfig, strategy: str) -> float:
        """Hours of scoring the run; 0 where finished runs have it in what they took beside training."""
        passes = self.table.evaluation_passes.get(_device(config))
        if passes is None or self._beside_training(config):
            return 0.0
        tokens = sum(self.tokens_of_epoch(config, task) for task in config.tasks)
        return self._use("evaluations", _device(config), passes) * tokens / self.rate(config, strategy) / 3600

    def _use(self, kind: str, name: str, figure: Figure) -> float:
        return self.used[kind].setdefault(name, figure).value

    def _weight(self, strategy: str) -> float:
        return self.table.relative_cost[kind_of(strategy)].value

    def _alike(self, config: RunConfig) -> list[dict[str, Any]]:
        """Manifests of runs on the same machinery: a profile names device and precision."""
        key = (config.model.name, config.profile.name)
        alike = (m for m in self.measured if (m["model"], m["profile"]) == key)
        return [manifest for manifest in alike if manifest["totals"]["seconds"] > 0]

    def _beside_training(self, config: RunConfig) -> list[float]:
        return [hours for manifest in self._alike(config) for hours in _hours_beside_training(manifest)]


def _device(config: RunConfig) -> str:
    return "cpu" if config.profile.device == "cpu" else "gpu"


def _hours_beside_training(manifest: Mapping[str, Any]) -> Iterator[float]:
    """From start to finish without training; nothing for a run that lay still in between, or may have.

    The sessions' own clocks stand still between sessions, which may lie days apart.
    """
    summaries = (kept.get("CheckpointCallback", {}) for kept in manifest.get("callbacks", ()))
    worked = [kept["session_seconds"] for kept in summaries if "session_seconds" in kept]
    with suppress(KeyError, ValueError):
        begun, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "finished"))
        spent = (ended - begun).total_seconds()
        if worked and spent <= max(worked) + WHOLE_SECONDS:
            yield max(spent - manifest["totals"]["seconds"], 0.0) / 3600


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


def sources(figures: Iterable[tuple[str, Figure]]) -> list[str]:
    """One line per figure, its source, and whatever has this figure from it."""
    same: dict[tuple[float, str], list[str]] = {}
    for name, figure in figures:
        same.setdefault((figure.value, figure.source), []).append(name)
    return [f"  {_amount(value)} {', '.join(names)} — {source}" for (value, source), names in same.items()]


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
