"""What a page calls between its headings before it trains: corpora, backbone, token files, plan.

    corpora = open_corpora(config)
    loaded = open_backbone(config)
    plan = plan_training(config, encode_split(config, train, specs, loaded))

`Experiment` keeps what these functions return; each of them puts two floors together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_kit.batches.encode import EncodedTask, encode
from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.batches.plan import COUNTS, PlanSettings, StepPlan
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data import practice
from kaggle_kit.data.corpus import Corpus, limit, load_corpus, task_spec, unlearnable
from kaggle_kit.data.locate import locate
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.experiment.shared_notes import leave_out
from kaggle_kit.heads.dropout import set_backbone_dropout
from kaggle_kit.models.loading import Loaded, load_backbone
from kaggle_kit.models.reading import usable_positions
from kaggle_kit.models.tiny import build_tiny
from kaggle_kit.models.unsloth import with_unsloth

HALVES = ((0.0, 0.5), (0.5, 1.0))  # of a run's steps, for its first phase and its second


def open_corpora(config: RunConfig, left_out: Mapping[str, Sequence[str]] | None = None) -> dict[str, Corpus]:
    """Every task's corpus: the practice one if the profile says so, else the real one or an error.

    Each with its training and development splits, and those of `profile.report`. Training documents that
    another task is scored on are left out, or those that another run `left_out`: task -> document ids.
    Raises CorpusMissing for a split without files.
    """
    roots = corpus_roots(config, config.tasks)
    splits = dict.fromkeys(("train", "dev", *config.profile.report))
    corpora = {
        name: load_corpus(task, roots[name], tuple(splits), practice=_synthetic(config))
        for name, task in config.tasks.items()
    }
    return leave_out(config, corpora, left_out)


def corpus_roots(config: RunConfig, tasks: Mapping[str, TaskConfig]) -> Mapping[str, Path]:
    """Task -> the folder of its corpus, written first where the profile reads practice corpora."""
    if not _synthetic(config):
        return {name: locate(task) for name, task in tasks.items()}
    if missing := [name for name in tasks if name not in practice.FIVE]:
        raise ConfigError(
            f"no practice corpus for {', '.join(missing)}; there is one for {', '.join(practice.FIVE)}. "
            f"For the real corpus choose profile=open (or profile.corpora=public)"
        )
    return practice.cached(config.practice, tasks=list(tasks))


def open_backbone(config: RunConfig) -> Loaded:
    """The frozen backbone; a `recipe` model is built first, from practice text."""
    model = config.model
    if model.recipe == "tiny" and model.path is None:
        model = replace(
            model, path=str(build_tiny(model.architecture, practice.corpus_text(config.practice)))
        )
    loaded = load_backbone(
        model,
        device=config.profile.device,
        precision=config.profile.precision,
        quantization=config.strategy.quantization,
        bidirectional=config.strategy.attention == "bidirectional",
    )
    most = usable_positions(loaded.backbone)
    if most is not None and config.training.max_length > most:
        raise ConfigError(
            f"training.max_length={config.training.max_length} is more than the {most} positions that "
            f"{type(loaded.backbone).__name__} has for tokens; set it to {most} or less"
        )
    loaded = with_unsloth(loaded) if config.strategy.unsloth else loaded
    set_backbone_dropout(loaded.backbone, config.training.backbone_dropout)
    return loaded


def task_specs(config: RunConfig, corpora: Mapping[str, Corpus]) -> dict[str, TaskSpec]:
    """What the model must know of each task. Components weigh the same unless the strategy says static.

    A component that the training split holds nothing for is left out, and the log says so.
    """
    for name, task in config.tasks.items():
        for part, reason in unlearnable(task, corpora[name]).items():
            logger.warning("%s: component %s is left out: %s", name, part, reason)
    specs = {name: task_spec(task, corpora[name]) for name, task in config.tasks.items()}
    if config.strategy.loss_weighting == "static":
        return specs
    return {
        name: replace(spec, components=tuple(replace(part, loss_weight=1.0) for part in spec.components))
        for name, spec in specs.items()
    }


def assert_same_data(run: RunFolder, corpora: Mapping[str, Corpus]) -> None:
    """Raise ConfigError where a corpus is not the one that a run was trained on."""
    hashes = run.manifest()["data_hashes"]
    for name, corpus in corpora.items():
        if corpus.sha256 != hashes.get(name):
            raise ConfigError(
                f"data_hashes.{name} is {corpus.sha256} here and {hashes.get(name)} in {run.run_id}: "
                "the corpus has changed since; put the same files there, or train that run again"
            )


def split_samples(
    config: RunConfig, corpora: Mapping[str, Corpus], split: str
) -> dict[str, tuple[UnifiedSample, ...]]:
    """A split of every task, cut to the profile's limit."""
    most = {"train": config.profile.max_train_samples, "dev": config.profile.max_dev_samples}
    return {
        name: limit(corpus.splits[split], most.get(split), config.seed) for name, corpus in corpora.items()
    }


def quick_samples(
    config: RunConfig, dev: Mapping[str, Sequence[UnifiedSample]]
) -> dict[str, tuple[UnifiedSample, ...]]:
    """The development samples that a quick evaluation during training looks at."""
    return {name: limit(samples, config.training.quick_samples, config.seed) for name, samples in dev.items()}


def encode_split(
    config: RunConfig,
    samples: Mapping[str, Sequence[UnifiedSample]],
    specs: Mapping[str, TaskSpec],
    loaded: Loaded,
) -> dict[str, EncodedTask]:
    """The token files of one split of every task; the log says which annotations they lack."""
    encoded = {}
    for name, task in config.tasks.items():
        settings = PassageSettings(
            max_length=config.training.max_length,
            stride=config.training.stride,
            segments=task.segments,
            last_subword=loaded.causal,
        )
        encoded[name] = encode(samples[name], specs[name], loaded.tokenizer, settings)
        reach, what = encoded[name].reach, f"{name}, {samples[name][0].split}"
        if reach.outside or reach.apart:
            logger.info("%s", reach.summary(what))
        for message in reach.too_few(what, name):
            logger.warning("%s", message)
    return encoded


def plan_training(
    config: RunConfig,
    encoded: Mapping[str, EncodedTask],
    part: tuple[float, float] = (0.0, 1.0),
    targets: StepTargets | None = None,
) -> StepPlan:
    """Every optimiser step of the run (or of a phase that takes a part of them), before the first one.

    With `targets` the steps and their tokens are those, whatever epochs, effective batch and
    `training.target_tokens` say.
    """
    rows = {name: task.plan_rows for name, task in encoded.items()}
    settings = replace(plan_settings(config), part=part)
    if targets:
        settings = replace(settings, targets=targets, target_tokens=None, max_steps=None)
    return MultiTaskBatchSampler(rows, settings, config.seed).plan()


def one_pass(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> StepPlan:
    """One epoch over these token files, in micro-batches of the configured token budget."""
    training = replace(config.training, epochs=1, max_steps=None, target_tokens=None)
    strategy = replace(config.strategy, sampling="proportional")
    return plan_training(replace(config, training=training, strategy=strategy), encoded)


def plan_settings(config: RunConfig) -> PlanSettings:
    """What the configuration says about a plan."""
    training, strategy = config.training, config.strategy
    return PlanSettings(
        epochs=training.epochs,
        max_steps=training.max_steps,
        effective_batch=training.effective_batch,
        token_budget=training.token_budget,
        sampling=strategy.sampling,
        temperature=strategy.temperature,
        target_tokens=training.target_tokens,
        count=config.experiment.get("match", COUNTS[0]),
        reads_once=config.model.family == "decoder",
        null_every=training.null_every if strategy.pcgrad else None,
    )


def _synthetic(config: RunConfig) -> bool:
    return config.profile.corpora == "practice"
