"""Measuring what might predict transfer: the tasks' corpora beside each other, and a short training on all.

    write_similarity(run, specs, train)
    watch = watch_affinity(config, encoded)
    training_session.run_session(…, [training_session.Phase(plan, watches=[watch])])
    write_affinity(run, watch)

What is written are figures over whole corpora; no word of a text is.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from kaggle_kit.analysis.predictors import AFFINITY, SIMILARITY
from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.records import write_json
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.experiment.preparation import plan_settings
from kaggle_kit.training.affinity import AffinityCallback

WORD = re.compile(r"\w+")


def write_similarity(
    run: RunFolder, specs: Mapping[str, TaskSpec], train: Mapping[str, Sequence[UnifiedSample]]
) -> Path:
    """`similarity.json`: for every ordered pair of tasks, what their labels and words have in common."""
    words = {name: count_words(samples) for name, samples in train.items()}
    labels = {name: label_schema(spec) for name, spec in specs.items()}
    figures: dict[str, Callable[[str, str], float]] = {
        "label_overlap": lambda i, j: jaccard(labels[i], labels[j]),
        "vocabulary_jaccard": lambda i, j: jaccard(set(words[i]), set(words[j])),
        "vocabulary_jsd": lambda i, j: js_divergence(words[i], words[j]),
        "log_size_ratio": lambda i, j: math.log(words[j].total() / words[i].total()),
    }
    pairs = {
        name: {i: {j: figure(i, j) for j in specs if j != i} for i in specs}
        for name, figure in figures.items()
    }
    found = {"words": {name: count.total() for name, count in words.items()}, "pairs": pairs}
    return write_json(run.path / SIMILARITY, found)


def corpus_table(specs: Mapping[str, TaskSpec], train: Mapping[str, Sequence[UnifiedSample]]) -> pd.DataFrame:
    """One row per task: its words, how many of them differ, and the labels that it has."""
    counts = {name: count_words(samples) for name, samples in train.items()}
    rows = [
        (name, counts[name].total(), len(counts[name]), ", ".join(sorted(label_schema(spec))))
        for name, spec in specs.items()
    ]
    return pd.DataFrame(rows, columns=("task", "words", "different words", "labels"))


def watch_affinity(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> AffinityCallback:
    """What measures the affinities while a trainer trains, as often as `experiment.affinity` says."""
    said = config.experiment["affinity"]
    settings = replace(plan_settings(config), effective_batch=said["batch"], target_tokens=None)
    probes = {}
    for name, task in encoded.items():
        rows = {name: TaskRows(task.lengths, task.groups)}
        probes[name] = PlanDataset(MultiTaskBatchSampler(rows, settings, config.seed).plan(), {name: task})
    return AffinityCallback(probes, every=said["every"], step_size=said["step_size"])


def write_affinity(run: RunFolder, watch: AffinityCallback) -> Path:
    """`affinity.json`: task of the step -> task of the loss -> affinity, and over how many points."""
    return write_json(run.path / AFFINITY, watch.summary())


def label_schema(spec: TaskSpec) -> set[str]:
    """The names of what a task labels, in lower case."""
    return {label.lower() for part in spec.components for label in part.labels}


def count_words(samples: Sequence[UnifiedSample]) -> Counter[str]:
    """Words in lower case; of a question, those of its candidates too."""
    texts = (text for s in samples for text in (s.text or "", *(pair.text for pair in s.pairs)))
    return Counter(word.lower() for text in texts for word in WORD.findall(text))


def jaccard(a: set[str], b: set[str]) -> float:
    """|a ∩ b| / |a ∪ b|; 0 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 0.0


def js_divergence(a: Counter[str], b: Counter[str]) -> float:
    """Jensen–Shannon divergence of two word distributions in bits: 0 for equal, 1 for disjoint ones."""
    vocabulary = sorted(a.keys() | b.keys())
    counts = [np.array([count[word] for word in vocabulary], dtype=float) for count in (a, b)]
    return float(jensenshannon(*counts, base=2) ** 2)
