"""What types cannot say about a configuration: legal values, combinations that exist, keys that are read.

    validate(config)                                # ConfigError listing every problem, or nothing
    misfits(PracticeConfig(terms=4), "practice")    # what the schema's declarations refuse, one line each

The schema declares legal values, bounds and the kinds of strategy that read a field; one loop holds any
part of a configuration against them. An experiment's file says which keys it reads; beside them, any run may
be given those of `ANY_RUN`.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from kaggle_kit.core import schema
from kaggle_kit.core.errors import nearest, refuse
from kaggle_kit.core.types import Access, Kind

BOUNDS = {  # as a field declares it -> how it is tested, and told
    "least": (operator.ge, "at least"),
    "above": (operator.gt, "more than"),
    "most": (operator.le, "at most"),
    "below": (operator.lt, "less than"),
}
UNTUNED = {"trials": 0, "split": None, "study": None, "target_tokens": None}
JUDGED = {"test": "welch", "estimand": "mean", "power": 0.8, "resamples": 10_000, "seeds": [], "looks": []}
# What best.yaml of a search adds, the runs that S5 chooses among, and what the judge decides by.
ANY_RUN: Mapping[str, Any] = {"tuning": UNTUNED, "candidates": [], **JUDGED}
FREE = ("types", "space")  # maps whose keys are the user's own words
PRACTICE = {field.name: None for field in fields(schema.PracticeConfig)}
EVERY_FORMAT = ("text_folder",)  # where texts lie that are not beside their annotations
OPTIONS = {  # format -> what else its reader looks at
    "cqa": ("subtask",),
    "conll": ("column", "token"),
    "hf": ("tokens", "tags", "text", "entities", "id", "classes"),
}
ON_THE_HUB = ("dataset", "revision")  # where files of the format `hf` come from, if they are in no folder


def validate(config: schema.RunConfig) -> None:
    """Raise ConfigError with one line per illegal value or combination."""
    refuse(_problems(config))


def _problems(config: schema.RunConfig) -> Iterator[str]:
    yield from misfits(config)
    yield from wrong_seeds("seed", [config.seed])
    yield from wrong_seeds("experiment.seeds", config.experiment.get("seeds") or [])
    yield from _model(config.model)
    for check in (_strategy, _profile, _training, _whole):
        yield from check(config)
    for name, task in config.tasks.items():
        yield from _task(f"tasks.{name}", name, task)


def misfits(value: Any, place: str = "", declared: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield what the schema's declarations refuse of a value and of all that it holds; empty is legal."""
    if is_dataclass(value):
        for item in fields(value):
            here = f"{place}.{item.name}" if place else item.name
            yield from misfits(getattr(value, item.name), here, item.metadata)
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from misfits(inner, f"{place}.{key}", declared)
    elif declared and value is not None:
        if "allowed" in declared:
            yield from _one_of(place, value, declared["allowed"])
        if "bounds" in declared and not isinstance(value, str):
            yield from _within(place, value, **declared["bounds"])


def wrong_seeds(key: str, seeds: Any) -> Iterator[str]:
    """Yield what is wrong with seeds: beyond the bound NumPy takes none, nor below 0."""
    allowed = f"whole numbers from 0 to {schema.LARGEST_SEED}"
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        yield f"{key} is {seeds!r}; allowed: a list of {allowed}"
        return
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= schema.LARGEST_SEED:
            yield f"{key}: {seed!r} is no seed; allowed: {allowed}"


def undeclared(experiment: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of the level or arm that a run chose among those of its experiment."""
    for one, several in (("level", "levels"), ("arm", "arms")):
        if several in experiment:
            yield from _one_of(f"experiment.{one}", experiment.get(one), list(experiment[several]))


def _model(model: schema.ModelConfig) -> Iterator[str]:
    if not model.lora.targets:
        yield "model.lora.targets is empty; name the linear layers that get an adapter"
    if not (model.hub_id or model.path or model.recipe):
        yield "model has no source; set one of model.hub_id, model.path, model.recipe"


def _strategy(config: schema.RunConfig) -> Iterator[str]:
    strategy, tasks, kind = config.strategy, config.tasks, config.strategy.kind
    named, found = f"strategy {strategy.name!r}", f"but tasks are: {', '.join(tasks) or 'none'}"
    if kind == "single" and len(tasks) != 1:
        yield f"{named} trains exactly one task, {found}; name one"
    if kind in ("shared", "private", "shared_private", "sequential") and len(tasks) < 2:
        yield f"{named} trains several tasks, {found}; name two or more"
    levels = {component.level for task in tasks.values() for component in task.components}
    for level in {1, 2} - levels if kind == "hierarchical" else ():
        yield f"{named} needs components on both levels, {found}; add a task with one on level {level}"
    if strategy.pcgrad and len(tasks) < 2:
        yield f"strategy.pcgrad=true needs conflicting tasks, {found}; name two or more"
    for key, default in {"conflict_resolution": "pcgrad", "gradient_per": "task"}.items():
        if strategy.pcgrad or getattr(strategy, key) == default:
            continue
        asked = f"strategy.{key}={getattr(strategy, key)}"
        yield f"{asked} acts on the gradients that strategy.pcgrad=true keeps apart; set it, or drop this"
    if strategy.gradient_per == "component" and all(len(task.components) < 2 for task in tasks.values()):
        yield f"strategy.gradient_per=component needs a task of several components, {found}; set task"
    if strategy.fusion != "none" and kind not in ("shared_private", "sequential"):
        fuses = f"strategy.fusion={strategy.fusion} fuses a private adapter with the shared one"
        yield f"{fuses}, and {kind} has no such pair: set none"
    if strategy.unsloth and not (kind in ("single", "shared") and config.model.unsloth.compatible):
        offered = "strategy.unsloth=true is offered for single and shared on models with unsloth.compatible"
        yield f"{offered}; this is {kind} on {config.model.name}; set it to false"
    for item in fields(strategy) if kind in schema.STRATEGY_KINDS else ():
        value, kinds = getattr(strategy, item.name), item.metadata.get("kinds", schema.STRATEGY_KINDS)
        if kind not in kinds and value != item.default:
            does = f"strategy.{item.name}={value} does nothing under {named} of kind {kind}"
            yield f"{does}; the kinds that read it: {', '.join(kinds)}. Leave it out"


def _profile(config: schema.RunConfig) -> Iterator[str]:
    profile = config.profile
    if not profile.report or len(set(profile.report)) < len(profile.report):
        allowed = ", ".join(schema.REPORTED)
        yield f"profile.report is {profile.report}; name one or more of {allowed}, each once"
    if profile.paper and profile.corpora == "practice":
        instead = "set profile.corpora=any (or public), or profile.paper=false"
        yield f"profile {profile.name!r} is a paper profile but reads practice corpora; {instead}"
    if profile.paper and "test" not in profile.report:
        given = f"profile.report={profile.report} of the paper profile {profile.name!r}"
        yield f"{given}: dev is what is chosen on; set [test], or [dev,test] for runs that S5 chooses among"
    if profile.device == "cpu" and profile.precision == "float16":
        yield "profile.precision=float16 needs a GPU, but profile.device is cpu; set precision to float32"
    for task in config.tasks.values():
        if profile.corpora == "public" and task.access == Access.RESTRICTED:
            admits = f"profile {profile.name!r} admits public corpora only, and {task.name!r} is restricted"
            yield f"{admits}; choose a public task, or a profile with corpora practice or any"


def _training(config: schema.RunConfig) -> Iterator[str]:
    training, model = config.training, config.model
    if training.target_tokens is not None and len(config.tasks) > 1:
        yield f"training.target_tokens is for one task, but tasks are: {', '.join(config.tasks)}; name one"
    if isinstance(length := training.max_length, str):
        if not schema.AUTO_LENGTH.fullmatch(length):
            allowed = "a whole number of tokens, auto, or auto50 to auto100 for another percentile"
            yield f"training.max_length={length!r} is not legal; allowed: {allowed}"
        return
    yield from _within("training.stride", training.stride, below=length)
    yield from _within("training.token_budget", training.token_budget, least=length)
    if length > model.max_positions:
        most = f"the {model.max_positions} positions of model {model.name!r}"
        yield f"training.max_length={length} is more than {most}; set it to {model.max_positions} or less"


def _whole(config: schema.RunConfig) -> Iterator[str]:
    """Yield what a backbone that trains as a whole has no place for."""
    strategy, parameters = config.strategy, config.model.parameters
    if not config.training.full_finetuning:
        return
    said = "training.full_finetuning=true trains the whole backbone, in float32, without an adapter"
    if strategy.kind not in schema.WHOLE:
        kinds = f"kind {strategy.kind}; the kinds that can: {', '.join(schema.WHOLE)}"
        yield f"{said}, and strategy {strategy.name!r} is of {kinds}"
    if (strategy.quantization or schema.quantization_for(parameters)) == "nf4":
        then = "a model of at most 4B parameters, or strategy.quantization=none where 16 bytes each fit"
        yield f"{said}, and {config.model.name} would be in 4 bits, which do not train; take {then}"
    for key, value in {"pcgrad": strategy.pcgrad, "unsloth": strategy.unsloth, "rank": strategy.rank}.items():
        if value:
            yield f"{said}, and strategy.{key}={value} is made for adapters; leave it out"


def _task(place: str, name: str, task: schema.TaskConfig) -> Iterator[str]:
    if task.name != name:
        yield f"{place}.name is {task.name!r}; it must be the task's id {name!r}"
    if not task.components:
        yield f"{place}.components is empty; a task predicts at least one thing"
    names = [component.name for component in task.components]
    for index, component in enumerate(task.components):
        yield from _component(f"{place}.components.{index}", component)
        if names.index(component.name) != index:
            yield f"{place}.components.{index}.name {component.name!r} is taken by another; choose a new one"
    for map_name, splits in (("layout", task.layout), ("held_out", task.held_out)):
        for key in splits:
            if (split := key.partition("@")[0]) not in schema.SPLITS:
                listed = f"{', '.join(schema.SPLITS)}{nearest(split, schema.SPLITS)}"
                yield f"unknown key '{place}.{map_name}.{key}'; allowed: {listed}"
    yield from _scorer(place, task)
    hub = ON_THE_HUB if task.format == "hf" else ()
    read = (*OPTIONS.get(task.format, ()), *hub, *EVERY_FORMAT)
    for key in task.options:
        if key not in read:
            listed = f"{', '.join(read)}{nearest(key, read)}"
            yield f"unknown key '{place}.options.{key}'; format {task.format} allows: {listed}"
    for split, held_out in task.held_out.items():
        yield from _one_of(f"{place}.held_out.{split}.source", held_out.source, list(task.layout))
    share = sum(held_out.fraction for held_out in task.held_out.values())
    yield from _within(f"{place}.held_out (sum of the fractions)", share, below=1)


def _scorer(place: str, task: schema.TaskConfig) -> Iterator[str]:
    """Yield why the task's scorer cannot score its format or one of its components."""
    general = schema.GENERAL_SCORERS if task.format in schema.GENERAL else ()
    scorers = [name for name, files in schema.FILES_OF.items() if files == task.format or name in general]
    if task.format in schema.FORMATS and task.scorer in schema.FILES_OF and task.scorer not in scorers:
        compared = f"{schema.FILES_OF[task.scorer]} files, and the task's format is {task.format}"
        yield f"{place}.scorer={task.scorer} compares {compared}; allowed with it: {', '.join(scorers)}"
    ranks = schema.FILES_OF.get(task.scorer) == "cqa"
    for component in task.components:
        if (component.kind == Kind.RANKING) != ranks and component.kind in set(Kind):
            what = f"component {component.name!r}, which is {component.kind}"
            yield f"{place}.scorer={task.scorer} does not score {what}; semeval2017t3 scores rankings alone"


def _component(place: str, component: schema.ComponentConfig) -> Iterator[str]:
    if (component.relation_type is None) != (component.relation_attribute is None):
        pair = f"relation_type={component.relation_type}, relation_attribute={component.relation_attribute}"
        yield f"{place}.{pair}; set both (TLINK and Type) or neither"
    if component.attribute is not None and component.relation_attribute is not None:
        both = f"attribute={component.attribute}, relation_attribute={component.relation_attribute}"
        yield f"{place}.{both}: a relation to the document, and one between mentions; set one of them"


def _one_of(key: str, value: object, allowed: Sequence[object]) -> Iterator[str]:
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        yield f"{key}={value} is not legal; allowed: {listed}{nearest(str(value), map(str, allowed))}"


def _within(key: str, value: float, **bounds: float) -> Iterator[str]:
    """Yield the bounds of a number that misses one of them, or is not finite; NaN misses each."""
    words = [f"{BOUNDS[name][1]} {bound}" for name, bound in bounds.items()]
    if not value < float("inf"):
        words.insert(0, "a finite number")
    elif all(BOUNDS[name][0](value, bound) for name, bound in bounds.items()):
        return
    yield f"{key}={value} is out of range; allowed: {' and '.join(words)}"
