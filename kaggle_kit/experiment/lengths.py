"""Decide `training.max_length=auto` before a run is planned: as long as its training sequences need.

    lengths = {name: sequence_lengths(task, samples, tokenizer) …}    # tokens of every sequence, uncut
    decide_max_length(config, lengths)                     # Decision("88", "the 99th percentile …")

A sequence is a sentence, with `segments: windows` a document, of a ranking task a question with one
candidate. What is longer than max_length is cut into windows that share `training.stride` tokens; only the
pairs of a ranking task are shortened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.encode import encode
from kaggle_kit.core.checks import validate
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import AUTO_LENGTH, RunConfig, TaskConfig
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.corpus import Corpus, task_spec
from kaggle_kit.data.passages import PassageSettings, pair_sequences, passages
from kaggle_kit.experiment.preparation import backbone_entry
from kaggle_kit.models.decisions import Decision
from kaggle_kit.models.loading import load_tokenizer

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
