"""What types cannot say about a configuration: legal words, sane numbers, combinations that exist.

validate(config)          # ConfigError listing every problem, or nothing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any

from kaggle_kit.core.architectures import ARCHITECTURES
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.open_keys import unknown_in_task
from kaggle_kit.core.schema import (
    ComponentConfig,
    ModelConfig,
    ProfileConfig,
    RunConfig,
    StrategyConfig,
    TaskConfig,
    TrainingConfig,
)
from kaggle_kit.core.types import Access, Kind

LARGEST_SEED = 2**32 - 1  # of NumPy's legacy generators
FAMILIES = ("decoder", "encoder")
STRATEGY_KINDS = ("single", "shared", "private", "shared_private", "hierarchical", "sequential")
# The kinds that read a key of the strategy; every other kind refuses it, as it would do nothing there.
READ_BY = {
    "rank": ("single", "shared", "shared_private", "hierarchical", "sequential"),
    "private_rank": ("private", "shared_private", "sequential"),
    **dict.fromkeys(
        ("level1_rank", "level2_rank", "cut", "cross_level", "cross_level_rank", "detach_l1_for_l2"),
        ("hierarchical",),
    ),
    "adapt_shared": ("sequential",),
}
ATTENTION = ("causal", "bidirectional")
FUSIONS = ("none", "attention", "gated")
CROSS_LEVELS = ("attention", "concatenation")
ADAPT_SHARED = ("frozen", "continued")
LOSS_WEIGHTINGS = ("equal", "static", "uncertainty")
SAMPLINGS = ("proportional", "uniform", "temperature")
QUANTIZATIONS = ("none", "nf4")
CORPORA = ("practice", "public", "any")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "float16")
SCHEMES = ("BIO", "BIOES")
SEGMENTS = ("sentences", "windows")
SELECTIONS = ("best", "last")
REPORTED = ("dev", "test")


def validate(config: RunConfig) -> None:
    """Raises ConfigError with one line per illegal value or combination."""
    problems = list(
        chain(
            wrong_seeds("seed", [config.seed]),
            wrong_seeds("experiment.seeds", config.experiment.get("seeds") or []),
            _model(config.model),
            _strategy(config.strategy, config.tasks, config.model),
            _profile(config.profile),
            _training(config.training, config.model, config.tasks),
            *(_task(name, task) for name, task in config.tasks.items()),
            *(_admitted(task, config.profile) for task in config.tasks.values()),
        )
    )
    if problems:
        raise ConfigError("\n".join(problems))


def wrong_seeds(key: str, seeds: Any) -> Iterator[str]:
    """What is wrong with seeds: beyond the bound NumPy takes none, nor below 0."""
    allowed = f"whole numbers from 0 to {LARGEST_SEED}"
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        yield f"{key} is {seeds!r}; allowed: a list of {allowed}"
        return
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
            yield f"{key}: {seed!r} is no seed; allowed: {allowed}"


def undeclared(experiment: Mapping[str, Any]) -> list[str]:
    """What is wrong with the level or arm that one run of an experiment chose among the declared ones."""
    choices = (("level", "levels"), ("arm", "arms"))
    return [
        problem
        for one, all_ in choices
        if all_ in experiment
        for problem in _one_of(f"experiment.{one}", experiment.get(one), list(experiment[all_]))
    ]


def _model(model: ModelConfig) -> Iterator[str]:
    yield from _one_of("model.family", model.family, FAMILIES)
    yield from _one_of("model.architecture", model.architecture, list(ARCHITECTURES))
    yield from _within("model.parameters", model.parameters, low=1)
    yield from _within("model.max_positions", model.max_positions, low=1)
    yield from _within("model.lora.rank", model.lora.rank, low=1)
    yield from _within("model.lora.alpha", model.lora.alpha, low=1)
    yield from _within("model.lora.dropout", model.lora.dropout, low=0, below=1)
    if not model.lora.targets:
        yield "model.lora.targets is empty; name the linear layers that get an adapter"
    if not (model.hub_id or model.path or model.recipe):
        yield "model has no source; set one of model.hub_id, model.path, model.recipe"


def _strategy(strategy: StrategyConfig, tasks: dict[str, TaskConfig], model: ModelConfig) -> Iterator[str]:
    yield from _strategy_words(strategy)
    yield from _strategy_sizes(strategy)
    yield from _unread_by_kind(strategy)
    names = ", ".join(tasks) or "none"
    several = strategy.kind in ("shared", "private", "shared_private", "sequential")
    if strategy.kind == "single" and len(tasks) != 1:
        yield f"strategy {strategy.name!r} trains exactly one task, but tasks are: {names}; name one"
    if several and len(tasks) < 2:
        yield f"strategy {strategy.name!r} trains several tasks, but tasks are: {names}; name two or more"
    if strategy.kind == "hierarchical":
        yield from _both_levels(strategy, tasks)
    if strategy.pcgrad and len(tasks) < 2:
        yield f"strategy.pcgrad=true needs conflicting tasks, but tasks are: {names}; name two or more"
    if strategy.fusion != "none" and strategy.kind not in ("shared_private", "sequential"):
        yield (
            f"strategy.fusion={strategy.fusion} fuses a private adapter with the shared one, and "
            f"{strategy.kind} has no such pair: set none"
        )
    if strategy.unsloth and not (strategy.kind in ("single", "shared") and model.unsloth.compatible):
        yield (
            "strategy.unsloth=true is offered for the kinds single and shared on models with "
            f"unsloth.compatible; this is {strategy.kind} on {model.name}; set it to false"
        )


def _strategy_words(strategy: StrategyConfig) -> Iterator[str]:
    yield from _one_of("strategy.kind", strategy.kind, STRATEGY_KINDS)
    yield from _one_of("strategy.attention", strategy.attention, ATTENTION)
    yield from _one_of("strategy.fusion", strategy.fusion, FUSIONS)
    yield from _one_of("strategy.cross_level", strategy.cross_level, CROSS_LEVELS)
    yield from _one_of("strategy.adapt_shared", strategy.adapt_shared, ADAPT_SHARED)
    yield from _one_of("strategy.loss_weighting", strategy.loss_weighting, LOSS_WEIGHTINGS)
    yield from _one_of("strategy.sampling", strategy.sampling, SAMPLINGS)
    if strategy.quantization is not None:
        yield from _one_of("strategy.quantization", strategy.quantization, QUANTIZATIONS)


def _strategy_sizes(strategy: StrategyConfig) -> Iterator[str]:
    for key in ("rank", "private_rank", "level1_rank", "level2_rank"):
        if (rank := getattr(strategy, key)) is not None:
            yield from _within(f"strategy.{key}", rank, low=1)
    yield from _within("strategy.fusion_rank", strategy.fusion_rank, low=1)
    yield from _within("strategy.cut", strategy.cut, above=0, below=1)
    yield from _within("strategy.cross_level_rank", strategy.cross_level_rank, low=1)
    yield from _within("strategy.temperature", strategy.temperature, above=0)


def _unread_by_kind(strategy: StrategyConfig) -> Iterator[str]:
    defaults = {field.name: field.default for field in fields(StrategyConfig)}
    for key, kinds in READ_BY.items():
        value = getattr(strategy, key)
        if strategy.kind in STRATEGY_KINDS and strategy.kind not in kinds and value != defaults[key]:
            yield (
                f"strategy.{key}={value} does nothing under strategy {strategy.name!r} of kind "
                f"{strategy.kind}; the kinds that read it: {', '.join(kinds)}. Leave it out"
            )


def _both_levels(strategy: StrategyConfig, tasks: dict[str, TaskConfig]) -> Iterator[str]:
    levels = {component.level for task in tasks.values() for component in task.components}
    for level in {1, 2} - levels:
        yield (
            f"strategy {strategy.name!r} needs components on both levels, but no task of "
            f"{', '.join(tasks) or 'none'} has one on level {level}; add such a task"
        )


def _profile(profile: ProfileConfig) -> Iterator[str]:
    yield from _one_of("profile.corpora", profile.corpora, CORPORA)
    yield from _one_of("profile.device", profile.device, DEVICES)
    yield from _one_of("profile.precision", profile.precision, PRECISIONS)
    for key in ("max_train_samples", "max_dev_samples"):
        if (limit := getattr(profile, key)) is not None:
            yield from _within(f"profile.{key}", limit, low=1)
    for split in profile.report:
        yield from _one_of("profile.report", split, REPORTED)
    if not profile.report or len(set(profile.report)) < len(profile.report):
        yield f"profile.report is {profile.report}; name one or more of {', '.join(REPORTED)}, each once"
    if profile.paper and profile.corpora == "practice":
        yield (
            f"profile {profile.name!r} is a paper profile but reads practice corpora; "
            "set profile.corpora=any (or public), or profile.paper=false"
        )
    if profile.paper and "test" not in profile.report:
        yield (
            f"profile.report={profile.report} of the paper profile {profile.name!r}: dev is what settings, "
            "steps and strategies are chosen on; set [test], or [dev,test] for runs that S5 chooses among"
        )
    if profile.device == "cpu" and profile.precision == "float16":
        yield "profile.precision=float16 needs a GPU, but profile.device is cpu; set precision to float32"


def _training(training: TrainingConfig, model: ModelConfig, tasks: Iterable[str]) -> Iterator[str]:
    yield from _within("training.learning_rate", training.learning_rate, above=0)
    if training.head_learning_rate is not None:
        yield from _within("training.head_learning_rate", training.head_learning_rate, above=0)
    yield from _within("training.epochs", training.epochs, above=0)
    if training.max_steps is not None:
        yield from _within("training.max_steps", training.max_steps, low=1)
    yield from _one_of("training.report_to", training.report_to, ("none", "wandb"))
    yield from _within("training.effective_batch", training.effective_batch, low=1)
    yield from _within("training.max_length", training.max_length, low=8)
    yield from _within("training.stride", training.stride, low=0, below=training.max_length)
    yield from _within("training.token_budget", training.token_budget, low=training.max_length)
    yield from _within("training.warmup", training.warmup, low=0, below=1)
    yield from _within("training.weight_decay", training.weight_decay, low=0)
    yield from _within("training.max_grad_norm", training.max_grad_norm, above=0)
    if training.backbone_dropout is not None:
        yield from _within("training.backbone_dropout", training.backbone_dropout, low=0, below=1)
    if training.target_tokens is not None:
        yield from _within("training.target_tokens", training.target_tokens, low=1)
        if len(named := list(tasks)) > 1:
            yield f"training.target_tokens is for one task, but tasks are: {', '.join(named)}; name one"
    for key in ("null_every", "checkpoint_every", "quick_every", "quick_samples"):
        yield from _within(f"training.{key}", getattr(training, key), low=1)
    yield from _within("training.patience", training.patience, low=0)
    yield from _one_of("training.selection", training.selection, SELECTIONS)
    if training.max_length > model.max_positions:
        yield (
            f"training.max_length={training.max_length} is more than the {model.max_positions} positions "
            f"of model {model.name!r}; set it to {model.max_positions} or less"
        )


def _task(key: str, task: TaskConfig) -> Iterator[str]:
    place = f"tasks.{key}"
    if task.name != key:
        yield f"{place}.name is {task.name!r}; it must be the task's id {key!r}"
    yield from _one_of(f"{place}.access", task.access, [access.value for access in Access])
    yield from _one_of(f"{place}.segments", task.segments, SEGMENTS)
    if not task.components:
        yield f"{place}.components is empty; a task predicts at least one thing"
    names = [component.name for component in task.components]
    for index, component in enumerate(task.components):
        here = f"{place}.components.{index}"
        yield from _component(here, component)
        if names.index(component.name) != index:
            yield f"{here}.name {component.name!r} is taken by another component; choose another"
    yield from unknown_in_task(place, task)
    for split, held_out in task.held_out.items():
        yield from _within(f"{place}.held_out.{split}.fraction", held_out.fraction, above=0, below=1)
        yield from _one_of(f"{place}.held_out.{split}.source", held_out.source, list(task.layout))
    yield from _within(f"{place}.held_out (sum of the fractions)", _held_out_share(task), low=0, below=1)


def _component(place: str, component: ComponentConfig) -> Iterator[str]:
    yield from _one_of(f"{place}.kind", component.kind, [kind.value for kind in Kind])
    yield from _one_of(f"{place}.level", component.level, (1, 2))
    yield from _one_of(f"{place}.scheme", component.scheme, SCHEMES)
    yield from _within(f"{place}.loss_weight", component.loss_weight, low=0)
    yield from _within(f"{place}.max_span_length", component.max_span_length, low=1)
    if (component.relation_type is None) != (component.relation_attribute is None):
        yield (
            f"{place}.relation_type={component.relation_type} without its pair relation_attribute="
            f"{component.relation_attribute}; set both (TLINK and Type) or neither"
        )
    if component.attribute is not None and component.relation_attribute is not None:
        yield (
            f"{place}.attribute={component.attribute} makes it a relation to the document, and "
            f"relation_attribute={component.relation_attribute} one between mentions; set one of them"
        )


def _held_out_share(task: TaskConfig) -> float:
    return sum(held_out.fraction for held_out in task.held_out.values())


def _admitted(task: TaskConfig, profile: ProfileConfig) -> Iterator[str]:
    if profile.corpora == "public" and task.access == Access.RESTRICTED:
        yield (
            f"profile {profile.name!r} admits public corpora only, and {task.name!r} is restricted; "
            "choose a public task, or a profile with corpora practice or any"
        )


def _one_of(key: str, value: object, allowed: Sequence[object]) -> Iterator[str]:
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        yield f"{key}={value} is not legal; allowed: {listed}{nearest(str(value), map(str, allowed))}"


def _within(
    key: str,
    value: float,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Iterator[str]:
    bounds = [] if value < float("inf") else [(False, "a finite number")]
    if low is not None:
        bounds.append((value >= low, f"at least {low:g}"))
    if above is not None:
        bounds.append((value > above, f"more than {above:g}"))
    if below is not None:
        bounds.append((value < below, f"less than {below:g}"))
    if not all(holds for holds, _ in bounds):  # NaN holds nowhere
        yield f"{key}={value} is out of range; allowed: {' and '.join(words for _, words in bounds)}"
