"""Corpora, specifications, backbone, token files and step plan: the parts of a run before it trains.

`Experiment` asks for each of them once and keeps it. The functions that need several parts take the
experiment; those that need the configuration alone can be used without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.batch import MicroBatch, PlanDataset
from kaggle_kit.batches.encode import encode
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.batches.plan import COUNTS, PlanSettings, StepPlan
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.checks import validate
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import AUTO_LENGTH, ModelConfig, RunConfig, TaskConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data import practice
from kaggle_kit.data.corpus import Corpus, limit, load_corpus, task_spec, unlearnable
from kaggle_kit.data.locate import locate
from kaggle_kit.data.passages import PassageSettings, pair_sequences, passages
from kaggle_kit.experiment.leakage import drop_leaked_documents
from kaggle_kit.heads.dropout import set_backbone_dropout
from kaggle_kit.models.decisions import Decision
from kaggle_kit.models.loading import Loaded, load_backbone, load_tokenizer
from kaggle_kit.models.reading import usable_positions
from kaggle_kit.models.tiny import build_tiny
from kaggle_kit.models.unsloth import with_unsloth

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

Samples = Mapping[str, Sequence[UnifiedSample]]  # task -> samples
HALVES = ((0.0, 0.5), (0.5, 1.0))  # of a run's steps, for its first phase and its second


def open_corpora(config: RunConfig, left_out: Mapping[str, Sequence[str]] | None = None) -> dict[str, Corpus]:
    """Return task -> corpus: the practice corpus if the profile says so, else the real one.

    Each has its training and development splits, and those of `profile.report`. Training documents that
    another task is scored on are left out, or those that another run `left_out`: task -> document ids.
    Raises ConfigError for a task without a practice corpus and CorpusMissing for a split without files.
    """
    practised = config.profile.corpora == "practice"
    if practised and (missing := [name for name in config.tasks if name not in practice.FIVE]):
        there = f"for {', '.join(missing)}; there is one for {', '.join(practice.FIVE)}"
        raise ConfigError(f"no practice corpus {there}. For the real one choose profile=open")
    roots = practice.cached(config.practice, tasks=list(config.tasks)) if practised else {}
    splits = tuple(dict.fromkeys(("train", "dev", *config.profile.report)))
    corpora = {
        name: load_corpus(task, roots[name] if practised else locate(task), splits, practice=practised)
        for name, task in config.tasks.items()
    }
    return drop_leaked_documents(config, corpora, left_out)


def corpora_of(run: RunFolder, config: RunConfig) -> dict[str, Corpus]:
    """Return the corpora of a finished run, without the training documents that it left out, and no others.

    Raises ConfigError where a corpus is not the one that the run was trained on.
    """
    manifest = run.manifest()
    corpora, hashes = open_corpora(config, manifest.get("left_out")), manifest["data_hashes"]
    for name, corpus in corpora.items():
        if corpus.sha256 != hashes.get(name):
            values = f"{corpus.sha256} here and {hashes.get(name)} in {run.run_id}"
            then = "put the same files there, or train that run again"
            raise ConfigError(f"data_hashes.{name} is {values}: the corpus has changed since; {then}")
    return corpora


def task_specs(exp: "Experiment") -> dict[str, TaskSpec]:
    """Return what the model must know of each task; components weigh the same unless the strategy is static.

    A component that the training split holds nothing for is left out, and the log says so.
    """
    specs = {}
    for name, task in exp.config.tasks.items():
        for component, reason in unlearnable(task, exp.corpora[name]).items():
            logger.warning("%s: component %s is left out: %s", name, component, reason)
        spec = task_spec(task, exp.corpora[name])
        if exp.config.strategy.loss_weighting != "static":
            spec = replace(spec, components=tuple(replace(part, loss_weight=1.0) for part in spec.components))
        specs[name] = spec
    return specs


def split_samples(exp: "Experiment", split: str) -> dict[str, tuple[UnifiedSample, ...]]:
    """Return a split of every task, cut to the profile's limit."""
    profile, seed = exp.config.profile, exp.config.seed
    most = {"train": profile.max_train_samples, "dev": profile.max_dev_samples}.get(split)
    return {name: limit(corpus.splits[split], most, seed) for name, corpus in exp.corpora.items()}


def backbone_entry(config: RunConfig) -> ModelConfig:
    """Return the entry of the model; one with the recipe `tiny` is built first, from practice text."""
    model = config.model
    if model.recipe != "tiny" or model.path is not None:
        return model
    texts = practice.corpus_text(config.practice)
    return replace(model, path=str(build_tiny(model.architecture, texts)))


def open_backbone(config: RunConfig) -> Loaded:
    """Load the frozen backbone, or one that is to train as a whole, in float32.

    Raises ConfigError for a `training.max_length` that the backbone has no positions for.
    """
    whole = config.training.full_finetuning
    backbone = load_backbone(
        backbone_entry(config),
        device=config.profile.device,
        precision="float32" if whole else config.profile.precision,
        quantization=config.strategy.quantization,
        bidirectional=config.strategy.attention == "bidirectional",
    )
    positions = usable_positions(backbone.backbone)
    if positions is not None and config.training.passage_tokens() > positions:
        what = f"the {positions} positions that {type(backbone.backbone).__name__} has"
        given = f"training.max_length={config.training.max_length}"
        raise ConfigError(f"{given} is more than {what} for tokens; set it to {positions} or less")
    backbone = with_unsloth(backbone) if config.strategy.unsloth else backbone
    set_backbone_dropout(backbone.backbone, config.training.backbone_dropout)
    if whole:
        backbone.decisions["dtype"] = Decision("float32", "training.full_finetuning: every weight trains")
    return replace(backbone, whole=whole)


def passage_settings(exp: "Experiment", task: TaskConfig) -> PassageSettings:
    """Return how the documents of a task are cut into passages for the run's backbone."""
    training = exp.config.training
    return PassageSettings(training.passage_tokens(), training.stride, task.segments, exp.backbone.causal)


def encode_samples(
    exp: "Experiment", task: TaskConfig, spec: TaskSpec, samples: Sequence[UnifiedSample]
) -> EncodedTask:
    """Return the token file of one task's samples; the log says which annotations it lacks."""
    encoded = encode(samples, spec, exp.backbone.tokenizer, passage_settings(exp, task))
    reach, title = encoded.reach, f"{spec.name}, {samples[0].split}"
    if reach.outside or reach.apart:
        logger.info("%s", reach.summary(title))
    for message in reach.too_few(title, spec.name):
        logger.warning("%s", message)
    return encoded


def plan_training(
    config: RunConfig,
    encoded: Mapping[str, EncodedTask],
    part: tuple[float, float] = (0.0, 1.0),
    targets: StepTargets | None = None,
) -> StepPlan:
    """Return every optimiser step of the run, or of a phase that takes a part of them.

    With `targets` the steps and their tokens are those, whatever epochs, effective batch and
    `training.target_tokens` say.
    """
    settings = replace(plan_settings(config), part=part)
    if targets:
        settings = replace(settings, targets=targets, target_tokens=None, max_steps=None)
    rows = {name: task.plan_rows for name, task in encoded.items()}
    return MultiTaskBatchSampler(rows, settings, config.seed).plan()


def few_batches(exp: "Experiment", split: str, samples: int) -> dict[str, list[MicroBatch]]:
    """Return task -> micro-batches of its first samples, on the model's device, each read once."""
    encoded = exp.encode({name: found[:samples] for name, found in exp.samples(split).items()})
    training = replace(exp.config.training, epochs=1, max_steps=None, target_tokens=None)
    strategy = replace(exp.config.strategy, sampling="proportional")
    plan = plan_training(replace(exp.config, training=training, strategy=strategy), encoded)
    batches: dict[str, list[MicroBatch]] = {name: [] for name in encoded}
    for step in PlanDataset(plan, encoded):
        for batch in step.to(exp.model.backbone.device).micro_batches:
            batches[batch.task].append(batch)
    return batches


def plan_settings(config: RunConfig) -> PlanSettings:
    """Return what the configuration says about a plan."""
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


UNCUT = 2**31  # tokens
PERCENTILE = 99  # of `auto`
MULTIPLE = 8  # lengths that a GPU's tensor cores like


def sequence_lengths(
    task: TaskConfig, samples: Sequence[UnifiedSample], tokenizer: PreTrainedTokenizerBase
) -> np.ndarray:
    """Return the tokens, special ones included, of every sequence of the samples if none is cut."""
    whole = PassageSettings(max_length=UNCUT, segments=task.segments)
    rows = (
        pair_sequences(sample.text, [pair.text for pair in sample.pairs], tokenizer, UNCUT)
        if sample.pairs
        else passages(sample.text, tokenizer, whole)
        for sample in samples
        if sample.text
    )
    return np.array([len(row.input_ids) for found in rows for row in found], dtype=np.int64)


def decide_max_length(config: RunConfig, lengths: Mapping[str, np.ndarray]) -> Decision:
    """Return the tokens that training.max_length=auto comes to, and why.

    The longest of the tasks' percentiles, rounded up to a multiple of eight; at least two strides, at most
    the model's positions and the token budget. Raises ConfigError for a task without text.
    """
    training = config.training
    found = AUTO_LENGTH.fullmatch(str(training.max_length))
    percentile = int((found and found[1]) or PERCENTILE)
    if empty := [name for name, tokens in lengths.items() if not len(tokens)]:
        names = ", ".join(empty)
        raise ConfigError(f"training.max_length=auto: {names} has no text to measure; give a number")
    need = {
        name: int(np.percentile(tokens, percentile, method="inverted_cdf"))
        for name, tokens in lengths.items()
    }
    most = min(config.model.max_positions, training.token_budget)
    wanted = max(*need.values(), 2 * training.stride)
    value = min(-(-wanted // MULTIPLE) * MULTIPLE, most)
    parts = ", ".join(f"{name} {tokens:,}" for name, tokens in need.items())
    reason = f"{percentile}th percentile of the training sequences, in tokens: {parts}"
    if value < wanted:
        reason += f"; at most {most:,}, the model's positions or training.token_budget: longer ones are cut"
    return Decision(str(value), reason)


def settle_max_length(config: RunConfig, corpora: Mapping[str, Corpus]) -> tuple[RunConfig, Decision]:
    """Return the configuration with a number for `auto`, and the decision. Raises ConfigError as above."""
    tokenizer, tasks = load_tokenizer(backbone_entry(config)), config.tasks
    samples = {name: corpora[name].splits["train"] for name in tasks}
    lengths = {name: sequence_lengths(tasks[name], found, tokenizer) for name, found in samples.items()}
    decided = decide_max_length(config, lengths)
    settled = replace(config, training=replace(config.training, max_length=int(decided.value)))
    validate(settled)
    return settled, decided


def reach_table(
    config: RunConfig, corpora: Mapping[str, Corpus], tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Count, for every split, the gold annotations that passages of training.max_length hold."""
    rows = []
    for name, corpus in corpora.items():
        training, spec = config.training, task_spec(corpus.task, corpus)
        settings = PassageSettings(training.passage_tokens(), training.stride, corpus.task.segments)
        for split, samples in corpus.splits.items():
            reach = asdict(encode(samples, spec, tokenizer, settings).reach)
            candidates = reach.pop("candidates")
            reach["no candidate"] = sum(total - reached for reached, total in candidates.values())
            rows.append({"task": name, "split": split, **reach})
    return pd.DataFrame(rows)
