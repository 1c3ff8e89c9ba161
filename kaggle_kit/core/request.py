"""What a run is asked to be: members of the groups of `params/`, and overrides of single values.

request = Request.of({"model": "minilm", "task": "ncbi_disease", …}, ["training.epochs=2"])
request.chosen("strategy"), request.files()
sources = value_sources(plain_values(config), request)   # {"training.epochs": "argument training.epochs=2"}
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kaggle_kit.core.described import describe, is_place
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.params import GROUPS, members, params_file, place_of
from kaggle_kit.core.records import flat
from kaggle_kit.core.schema import ModelConfig

SCHEMA = "default of kaggle_kit/core/schema.py"
FILLED = {  # keys that may be left empty -> what they follow then
    "strategy.rank": "empty: model.lora.rank",
    "strategy.private_rank": "empty: half of strategy.rank (all of it where nothing is shared)",
    "strategy.level1_rank": "empty: half of strategy.rank",
    "strategy.level2_rank": "empty: half of strategy.rank",
    "strategy.quantization": "empty: by model.parameters",
    "training.head_learning_rate": "empty: training.learning_rate",
    "experiment.reference": "empty: the strategy",
}
OF_RELATIONS = "relation_f1"  # the primary metric of a task whose mentions are given
DEFAULTS = {"model": "tiny", "strategy": "s1_single", "profile": "smoke"}  # where nobody names another


@dataclass(frozen=True)
class Request:
    """What a run is asked to be: which members of the groups, and overrides of single values."""

    tasks: list[str]
    experiments: list[str]
    named: dict[str, str]  # model, strategy, profile -> the member that somebody names
    values: list[tuple[str, Any]]  # (key, value) of the overrides
    problems: list[str]  # overrides that could not be understood

    @classmethod
    def of(cls, names: Mapping[str, str | Sequence[str] | None], overrides: Iterable[str]) -> Self:
        """`names`: group -> members, None where left open. ConfigError for a member that there is not."""
        chosen, values, problems = _parse(overrides)
        tasks, experiments = (_listed(chosen.pop(group, names[group])) for group in ("task", "experiment"))
        named = {group: str(names[group]) for group in DEFAULTS if names[group] is not None} | chosen
        if "/" in named.get("model", ""):
            named["model"] = hub_ids().get(named["model"], named["model"])
        request = cls(tasks, experiments, named, values, problems)
        unknown = [problem for group, name in request.groups for problem in unknown_member(group, name)]
        if unknown:
            raise ConfigError("\n".join(problems + unknown))
        return request

    @property
    def groups(self) -> list[tuple[str, str]]:
        """(group, member) in the order of their say, before an experiment chooses."""
        one = {group: (group, self.named.get(group, default)) for group, default in DEFAULTS.items()}
        tasks = [("task", name) for name in self.tasks]
        experiments = [("experiment", name) for name in self.experiments]
        return [one["model"], *tasks, one["strategy"], one["profile"], *experiments]

    def chosen(self, group: str) -> str:
        """Return the model, strategy or profile: named, else the experiment's, else the default."""
        return (DEFAULTS | names_in(self.experiments) | self.named)[group]

    @cached_property
    def described(self) -> dict[str, Any] | None:
        """The entry of a model that is named by its folder or hub id; None for a file of params/model."""
        name = self.chosen("model")
        if name in members("model"):
            return None
        revision = next((value for key, value in reversed(self.values) if key == "model.revision"), None)
        return describe(name, revision, taken=members("model"))

    def files(self) -> list[tuple[Path, str]]:
        """Return (file, place in the configuration), later over earlier ones; an empty place is the root."""
        found: list[Path] = []
        for group, name in self.groups:
            if group == "model" and self.described is not None:
                continue
            file = params_file(f"{group}/{self.chosen(group) if group in DEFAULTS else name}.yaml")
            found += _with_bases(file) if group == "experiment" else [file]
        return [(file, _package(file)) for file in found]


def _with_bases(file: Path) -> list[Path]:
    """Return an experiment's file after those that it builds on."""
    said = OmegaConf.load(file).get("defaults", ())
    bases = [other for other in said if isinstance(other, str) and other != "_self_"]
    return [*(found for name in bases for found in _with_bases(params_file(f"experiment/{name}.yaml"))), file]


def given_names(
    own: Mapping[str, Any], named: Mapping[str, str | None], overrides: Iterable[str]
) -> dict[str, Any]:
    """Return group -> name: the user's, else the experiment's choice, else a page's `own` default.

    ConfigError where an override names another member than the user's option does.
    """
    chosen, _, _ = _parse(overrides)
    given = {group: name for group, name in named.items() if name is not None}
    for group, name in given.items():
        if chosen.get(group, name) != name:
            raise ConfigError(f"--{group} {name} and {group}={chosen[group]} contradict each other; give one")
    experiments = [name for name in _listed(chosen.get("experiment")) if name in members("experiment")]
    found = {**own, **names_in(experiments), **given, **chosen}
    return {group: found.get(group) for group in named}


def with_page_defaults(own: Mapping[str, Any], profile: str | None, overrides: Iterable[str]) -> list[str]:
    """Return the given overrides behind those of a page's own that hold.

    The page's experiment holds unless another is given. Its other defaults are those of a short run with
    that experiment and the page's own profile: they hold unless their very key, an experiment or another
    profile is given.
    """
    given = list(overrides)
    keys = [text.partition("=")[0] for text in given]
    named = _parse(given)[0].get("profile", profile)
    short = "experiment" not in keys and named in (None, own.get("profile"))
    mine = [(text, text.partition("=")[0]) for text in own.get("overrides", ())]
    held = [text for text, key in mine if key not in keys and (short or key == "experiment")]
    return held + given


def names_in(experiments: Iterable[str]) -> dict[str, str]:
    """Return group -> the member that the experiments choose where nobody names another."""
    files = [file for name in experiments for file in _with_bases(params_file(f"experiment/{name}.yaml"))]
    entries = [entry for file in files for entry in OmegaConf.load(file).get("defaults", ())]
    chosen = [entry for entry in entries if not isinstance(entry, str)]
    return {str(key).removeprefix("override /"): name for entry in chosen for key, name in entry.items()}


def _package(file: Path) -> str:
    if file.read_text(encoding="utf-8").startswith("# @package _global_"):
        return ""
    return f"tasks.{file.stem}" if file.parent.name == "task" else file.parent.name


def _parse(overrides: Iterable[str]) -> tuple[dict[str, str], list[tuple[str, Any]], list[str]]:
    """Group choices, (key, value) pairs, and what could not be understood."""
    parser = OverridesParser.create()
    chosen: dict[str, str] = {}
    values: list[tuple[str, Any]] = []
    problems: list[str] = []
    for text in overrides:
        override = None
        with suppress(HydraException):
            override = parser.parse_override(text)
        group, equals, name = text.partition("=")
        if equals and group == "model" and is_place(name):  # a path may hold what Hydra's grammar does not
            chosen[group] = name
            continue
        if override is None or override.type != OverrideType.CHANGE or override.is_sweep_override():
            problems.append(f"override {text!r} is not of the form key=value, such as training.epochs=2")
        elif override.key_or_group in GROUPS:
            chosen[override.key_or_group] = str(override.value())
        else:
            values.append((override.key_or_group, override.value()))
    return chosen, values, problems


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(dict.fromkeys(names or ()))


def unknown_member(group: str, name: str) -> list[str]:
    """Return one problem, with the nearest name, where a group of `params/` has no such member; else none."""
    allowed = members(group)
    if name in allowed or (group == "model" and is_place(name)):
        return []
    other = ", or a folder that holds a config.json, or a hub id" if group == "model" else ""
    return [f"unknown {group} {name!r}; allowed: {', '.join(allowed)}{other}{nearest(name, allowed)}"]


def name_of(model: ModelConfig) -> str:
    """Return the name of the model in a request: a file of params/model, else its folder or hub id."""
    if model.name in members("model"):
        return model.name
    return str(model.path if model.weights else model.hub_id)


def hub_ids() -> dict[str, str]:
    """Return repository of the hub -> the file of params/model that names it."""
    entries = {name: OmegaConf.load(params_file(f"model/{name}.yaml")) for name in members("model")}
    return {entry["hub_id"]: name for name, entry in entries.items() if entry.get("hub_id")}


def value_sources(values: Mapping[str, Any], request: Request) -> dict[str, str]:
    """Return by dotted key where each leaf of `plain_values` comes from; a list is one leaf."""
    said: dict[str, tuple[str, Any]] = {}
    for source, package, content in _contents(request):
        said |= {key: (source, value) for key, value in flat(content, package).items()}
    sources = {}
    for key, value in flat(values).items():
        source, written = said.get(key, (SCHEMA, None))
        sources[key] = FILLED[key] if key in FILLED and written is None and value is not None else source
        if key.endswith("_metric") and value == OF_RELATIONS != written:
            sources[key] = "the mentions are given: gold_entities=true"
        if key == "training.backbone_dropout" and value is None and key not in said:
            sources[key] = "all weights train: training.full_finetuning=true"
    for key, value in request.values:
        argument = f"argument {key}={value}"
        sources |= dict.fromkeys(sources.keys() & flat({key: value}), argument)
        lists = [outer for outer in sources if key.startswith(f"{outer}.")]
        sources |= {outer: f"{sources[outer]}, then {argument}" for outer in lists}
    return sources


def _contents(request: Request) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(what a message calls it, place in the configuration, content) in the order of their say."""
    if request.described is not None:
        yield f"config.json of {request.chosen('model')}", "model", request.described
    for file, package in request.files():
        yield place_of(file), package, OmegaConf.to_container(OmegaConf.load(file))
