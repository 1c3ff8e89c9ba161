"""From names to one checked configuration: Hydra composes the groups of `params/`.

    config = compose(model="minilm", task="ncbi_disease", profile="open", overrides=["seed=7"])

What is said later wins: schema defaults < model, task, strategy < profile < experiment < overrides.
An experiment is a named setting and may choose the model, strategy and profile itself, where nobody names
another. One that is for some strategies only lists them in `experiment.strategies` and refuses any other.
"""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kaggle_kit.core.checks import ANY_RUN, FREE, PRACTICE, undeclared, validate
from kaggle_kit.core.errors import ConfigError, RunFolderError, nearest, refuse
from kaggle_kit.core.params import members, own_params, params_dir, params_file
from kaggle_kit.core.records import flat, reading
from kaggle_kit.core.request import OF_RELATIONS, Request, unknown_member
from kaggle_kit.core.schema import RunConfig, StrategyConfig
from kaggle_kit.core.types import Access

# Where files lie on this machine, who else sees the figures, what a corpus is known for, and how an API is
# asked and paid, says nothing about the run.
MACHINE_KEYS = (
    *("path", "text_folder", "report_to"),
    *("prices", "most_usd", "most_usd_in_all", "batches", "parallel", "timeout_seconds", "wait_seconds"),
    *("train_size", "dev_size", "test_size", "contamination_risk", "zero_shot_threshold"),
)

# Keys that came later, with what they were before: runs from then keep their hash and can go on.
LATER: tuple[tuple[str, str, Any], ...] = (
    ("model", "weights", None),
    ("training", "full_finetuning", False),
    ("strategy", "gradient_per", "task"),
)
# What `training.backbone_dropout` is where nobody says it.
UNSAID_DROPOUT = "${backbone_dropout:${training.full_finetuning}}"
OmegaConf.register_new_resolver("backbone_dropout", lambda whole: None if whole else 0.0, replace=True)

DESCRIBED = "_described_"  # Hydra's name for a model that is no file of params/model
NO_SEED = -1
MOST_COMPOSED = 256  # a study asks for the same names again; Hydra takes a tenth of a second for each
_composed: dict[str, DictConfig] = {}

_hydra_lock = threading.RLock()  # Hydra keeps its state in a process-wide singleton


def strategy_entry(name: str) -> StrategyConfig:
    """Return one entry of params/strategy by itself, whatever its tasks. ConfigError if unknown."""
    refuse(unknown_member("strategy", name))
    return typed("strategy", StrategyConfig, OmegaConf.load(params_file(f"strategy/{name}.yaml")))


def changed_strategy(strategy: StrategyConfig, **changes: Any) -> StrategyConfig:
    """Return the strategy with other values, each cast to its type ("off" is false), or raise ConfigError."""
    return typed("strategy", strategy, changes)


def typed(place: object, schema: Any, *layers: Any) -> Any:
    """Return the schema filled by layers, later ones win; ConfigError for what has no place there."""
    with explained(f"{place}: "):
        merged = OmegaConf.merge(OmegaConf.structured(schema), *layers)
        missing = ", ".join(sorted(OmegaConf.missing_keys(merged)))
        refuse([f"{place}: {missing} has no value; set it in its file below params/"] if missing else [])
        return OmegaConf.to_object(merged)


@contextmanager
def explained(place: str = "") -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML say against a configuration into a ConfigError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{place}{explain(error)}") from error


def compose(
    model: str | None = None,
    task: str | Sequence[str] = "semeval2014t7",
    strategy: str | None = None,
    profile: str | None = None,
    experiment: str | None = None,
    overrides: Iterable[str] = (),
    seed: int = 42,
) -> RunConfig:
    """Compose and check the configuration of one run.

    `overrides` are `key=value` strings in Hydra's value grammar, such as `training.epochs=2`,
    `tasks.semeval2017t3.options.subtask=B` or `model=bert`. A model, strategy or profile that is left
    out is the experiment's, else that of `request.DEFAULTS`. Raises ConfigError listing every unknown name,
    unknown key, wrong type and illegal combination it found.
    """
    names = {"model": model, "task": task, "strategy": strategy, "profile": profile, "experiment": experiment}
    request = Request.of(names, overrides)
    config = _compose_groups(request, seed)
    restricted = [name for name, entry in config.tasks.items() if entry.access == Access.RESTRICTED]
    problems = request.problems + _misnamed(request) + _unread(config, request.values)
    problems += [problem for key, value in request.values for problem in _apply(config, key, value)]
    problems += _refer(config.experiment, request.chosen("strategy"))
    for name, entry in config.tasks.items():
        if entry.gold_entities and f"tasks.{name}.primary_metric" not in dict(request.values):
            _measure_relations(entry)
    problems += [
        f"tasks.{name}.access={config.tasks[name].access}: no override lifts a data use agreement"
        for name in restricted
        if config.tasks[name].access != Access.RESTRICTED
    ]
    refuse(problems)
    return _finish(config)


def config_hash(config: RunConfig) -> str:
    """Return 16 hex digits of the SHA-256 of the configuration's canonical JSON, without machine paths.

    The order of the tasks counts: the step plan and the model's first weights are drawn in it.
    """
    plain = identifying_values(config) | {"order": list(config.tasks)}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def identifying_values(config: RunConfig) -> dict[str, Any]:
    """Return all that tells two runs apart as plain values, without machine paths and unset later keys."""
    plain = without_machine_keys(asdict(config))
    for group, key, before in LATER:
        if plain[group][key] == before:
            del plain[group][key]
    return plain


def to_yaml(config: RunConfig) -> str:
    """Write the whole configuration as YAML, every value resolved."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str) -> RunConfig:
    """Return the configuration that `to_yaml` wrote, checked again. Raises ConfigError.

    What is stored is values: `${oc.env:NAME}` in a file from elsewhere would read this machine's environment.
    """
    with explained():
        stored = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if open_ends := [key for key, value in flat({"": stored}).items() if "${" in str(value)]:
            held = "is stored as an interpolation (${…}); write the value in its place"
            raise ConfigError(f"{', '.join(open_ends)} {held}")
        config = OmegaConf.merge(OmegaConf.structured(RunConfig), stored)
    return _finish(config)


def read_config(file: Path) -> RunConfig:
    """Read a run's `config.yaml` as `from_yaml` does. Raises RunFolderError, which names the file."""
    with reading(file):
        try:
            return from_yaml(file.read_text(encoding="utf-8"))
        except (ConfigError, AssertionError) as error:  # omegaconf asserts that it is no plain number
            raise RunFolderError(f"{file}: {error or 'no mapping of keys to values'}") from error


def _compose_groups(request: Request, seed: int) -> DictConfig:
    """Return what Hydra composes; once for the same names, as long as no file of params/ changes."""
    folders = [params_dir(), *filter(None, [own_params()])]
    states = [(file, file.stat()) for folder in folders for file in folder.rglob("*.yaml")]
    files = [(str(file), state.st_mtime_ns, state.st_size) for file, state in states]
    key = repr((request.groups, request.named, request.described, files))
    if key not in _composed:
        if len(_composed) == MOST_COMPOSED:
            _composed.clear()
        _composed[key] = _by_hydra(request)
    config = deepcopy(_composed[key])
    if config.seed == NO_SEED:  # no file of params/ names one
        refuse(_apply(config, "seed", seed))
    return config


def _by_hydra(request: Request) -> DictConfig:
    """Hydra's part: members of the groups merged into the typed schema, later ones over earlier ones."""
    defaults = [{f"task@tasks.{name}" if group == "task" else group: name} for group, name in request.groups]
    named = dict(request.named)
    if request.described is not None:
        named["model"] = DESCRIBED
        defaults[0] = {"model": DESCRIBED}
    choices = [f"{group}={name}" for group, name in named.items()]
    with _hydra_lock, _own_hydra():
        store = ConfigStore.instance()
        store.store(name="run_schema", node=RunConfig)
        store.store(name=DESCRIBED, group="model", node=request.described or {})
        shipped = {"hydra": {"searchpath": [f"file://{params_dir()}"]}}  # behind the folder of own files
        run = {"defaults": ["run_schema", "_self_", *defaults], "seed": NO_SEED, **shipped}
        run["training"] = {"backbone_dropout": UNSAID_DROPOUT}
        store.store(name="run", node=run)
        with explained(), initialize_config_dir(str(own_params() or params_dir()), version_base="1.3"):
            config = hydra_compose("run", overrides=choices)
    OmegaConf.set_struct(config, None)  # the schema is closed already; its open dicts may grow
    return config


def _misnamed(request: Request) -> list[str]:
    """Own entries that go by another name than their files: pages that read a run take it by the entry's."""
    own = own_params()
    problems = []
    for file, package in request.files() if own else ():
        group, said = file.parent.name, OmegaConf.load(file)
        name = said.get("name") if package else (said.get(group) or {}).get("name")
        if own in file.parents and group != "experiment" and name not in (None, file.stem):
            problems.append(f"{file} says name: {name}; write `name: {file.stem}` there")
    return problems


def _refer(experiment: DictConfig, strategy: str) -> list[str]:
    """Record the strategy that an experiment for some strategies varies; refuse one that is none of them."""
    if "strategies" not in experiment:
        return []
    allowed, named = list(experiment["strategies"]), experiment.get("reference")
    if strategy not in allowed:
        declared = f"experiment {experiment['name']!r} is for strategy {' or '.join(allowed)}"
        then = "name one of them, or leave the experiment out"
        return [f"{declared}, and the strategy is {strategy!r}; {then}"]
    if named not in (None, strategy):
        return [f"experiment.reference={named}, but the strategy is {strategy!r}; leave the reference out"]
    experiment["reference"] = strategy
    return []


def _measure_relations(task: DictConfig) -> None:
    """Make the relations' figure the primary one of a task whose mentions are given, and score 1."""
    if OF_RELATIONS in task.secondary_metrics:
        others = [task.primary_metric, *task.secondary_metrics]
        task.primary_metric = OF_RELATIONS
        task.secondary_metrics = [name for name in others if name != OF_RELATIONS]


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Make room for our Hydra inside a program that may run its own; theirs is put back afterwards."""
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs


def _apply(config: DictConfig, key: str, value: Any) -> list[str]:
    """Set one key in place; return the fault instead of raising it."""
    parts = key.split(".")
    if parts[0] == "tasks" and parts[1:] and parts[1] not in config.tasks:
        hint = nearest(parts[1], config.tasks)
        return [f"{key}: this run has no task {parts[1]!r}; its tasks: {', '.join(config.tasks)}{hint}"]
    try:
        if any(part.isdigit() for part in parts):  # a place in a list
            OmegaConf.update(config, key, value)
        else:
            config.merge_with(reduce(lambda inner, part: {part: inner}, reversed(parts), value))
    except OmegaConfBaseException as error:
        return [f"override {key}={value}: {explain(error)}"]
    return []


def _unread(config: DictConfig, values: list[tuple[str, Any]]) -> list[str]:
    """Return the keys of `experiment` that nothing would read, and the experiments that know them."""
    known = {**ANY_RUN, **OmegaConf.to_container(config.experiment)}
    known |= {"practice": PRACTICE} if "practice" in known else {}
    closed = OmegaConf.create({"experiment": known}, flags={"struct": True})
    for key, value in known.items():
        if value == {} or (key in FREE and isinstance(value, dict)):
            OmegaConf.set_struct(closed.experiment[key], False)
    problems = []
    for key, value in values:
        first, _, path = key.partition(".")
        name = path.partition(".")[0]
        for problem in _apply(closed, key, value) if first == "experiment" else ():
            others = members("experiment") if name not in known else []
            having = [one for one in others if name in _keys_of(one)]
            problems.append(problem + (f"; read under experiment={' or '.join(having)}" if having else ""))
    return problems


def _keys_of(experiment: str) -> list[str]:
    return list(OmegaConf.load(params_file(f"experiment/{experiment}.yaml")).get("experiment", {}))


def explain(error: Exception) -> str:
    """Return the fault of a configuration, its place, and for an unknown key the allowed ones."""
    root: BaseException = error
    while not isinstance(root, OmegaConfBaseException) and (cause := root.__cause__ or root.__context__):
        root = cause
    where = str(error).partition(":")[0] + ":" if root is not error else ""  # "In 'model/bert':"
    parent, key, full_key = (getattr(root, name, None) for name in ("parent_node", "key", "full_key"))
    allowed = list(parent) if isinstance(parent, DictConfig) else []
    if allowed and key is not None and key not in allowed:
        what = f"unknown key {full_key!r}; allowed: {', '.join(allowed)}{nearest(str(key), allowed)}"
    elif isinstance(root, OmegaConfBaseException):
        what = str(root.msg).splitlines()[0]
        what = f"{full_key}: {what}" if full_key else what
    else:
        what = str(root).strip()
    return f"{where} {what}".strip()


def _finish(config: DictConfig) -> RunConfig:
    with explained():  # such as an interpolation that leads nowhere
        refuse(undeclared(config.experiment))  # first: a strategy may take its value from the level
        missing = sorted(OmegaConf.missing_keys(config))
        refuse(f"{key} has no value; set it in its file below params/ or override it" for key in missing)
        run = OmegaConf.to_object(config)
    validate(run)
    return run


def without_machine_keys(node: Any) -> Any:
    """Return plain nested values without those that only say where files lie on this machine."""
    if isinstance(node, dict):
        return {key: without_machine_keys(value) for key, value in node.items() if key not in MACHINE_KEYS}
    return [without_machine_keys(item) for item in node] if isinstance(node, list) else node
