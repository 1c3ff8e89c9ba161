"""A run without training: a local decoder or an API answers a prompt per document, scored like any run.

    exp = Experiment.open("zero_shot", model="llama3b", task="semeval2017t3", settle=settle, …)
    reader = open_reader(exp)               # RestrictedText before anything of a restricted corpus is sent
    counts = evaluate(exp, reader)          # predictions, official files, documents, metrics
    finish(exp, reader, counts)             # the manifest, last

Its manifest says `untrained` where others say how their weights were chosen. By that every comparison with
trained runs refuses it: what such a model has read is not known, and it has no tokens to hold equal.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from kaggle_kit.analysis.anchors import published_best, trivial_baseline
from kaggle_kit.core.artifacts import Totals
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import ModelConfig, RunConfig, StrategyConfig
from kaggle_kit.core.types import Access, TaskSpec, UnifiedSample
from kaggle_kit.evaluation.api_ledger import Ledger, ledger_file
from kaggle_kit.evaluation.api_prices import RestrictedText, api_model
from kaggle_kit.evaluation.local_reader import CUT, TOO_LONG, LocalReader
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.evaluation.zero_shot import (
    UNPARSABLE,
    Answer,
    Prompt,
    askable,
    perfect_answer,
    prompt_for,
    read_answer,
)
from kaggle_kit.experiment.api_reader import REFUSED, ApiReader, ApiSettings
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.preparation import backbone_entry
from kaggle_kit.experiment.scoring import record_split
from kaggle_kit.models.loading import load_language_model

NAME = "zero_shot"
LOST = (UNPARSABLE, CUT, TOO_LONG, REFUSED)  # counts of answers of which nothing could be read
UNTRAINED = {"rule": "untrained", "split": None, "metric": None}
Reader = Callable[[Sequence[Prompt]], list[Answer]]
Counts = Mapping[str, Mapping[str, Mapping[str, int]]]  # task -> split -> what -> how often


def settle(config: RunConfig) -> RunConfig:
    """Return the configuration of a zero-shot run: its strategy, and the API's model in place of a local one.

    Raises ConfigError without `experiment=zero_shot`, and as `api_model` does.
    """
    if config.experiment.get("name") != NAME:
        raise ConfigError(
            f"experiment is {config.experiment.get('name')!r}; this page takes experiment={NAME}"
        )
    strategy = StrategyConfig(name=NAME, title="Zero-shot: a prompt, and nothing trained", kind="single")
    strategy.quantization = config.strategy.quantization
    config = replace(config, strategy=strategy)
    if not (named := config.experiment["api_model"]):
        return config
    host = api_model(config.experiment, date.today()).host
    model = ModelConfig(name=named, title=f"{named} at {host}, of unknown size", hub_id=named)
    # What an API runs is not known: these only fill the fields.
    model.family, model.architecture, model.parameters, model.max_positions = "decoder", "llama", 1, 1 << 20
    model.lora.targets = ["none"]
    return replace(config, model=model)


def open_reader(exp: Experiment) -> LocalReader | ApiReader:
    """Return what answers the prompts of a run. Raises RestrictedText for an API and a restricted corpus."""
    experiment, profile = exp.config.experiment, exp.config.profile
    if not experiment["api_model"]:
        how = (profile.device, profile.precision, exp.config.strategy.quantization)
        return LocalReader(*load_language_model(backbone_entry(exp.config), *how), experiment["max_output"])
    refuse_restricted(exp)
    caps = (experiment["most_usd"], experiment["most_usd_in_all"])
    settings = ApiSettings(
        seed=exp.config.seed,
        **{name: experiment[name] for name in ApiSettings.__dataclass_fields__ if name != "seed"},
    )
    model = api_model(experiment, date.today())
    return ApiReader(model, Ledger(ledger_file(), exp.run.run_id, *caps), settings)


def refuse_restricted(exp: Experiment) -> None:
    """Raise RestrictedText where a corpus of the run, or any document of it, is restricted."""
    for name, corpus in exp.corpora.items():
        documents = (sample for samples in corpus.splits.values() for sample in samples)
        if corpus.access == Access.RESTRICTED or any(one.access == Access.RESTRICTED for one in documents):
            raise RestrictedText(
                f"{name} is restricted: its text goes to no API, not even one on this machine; leave "
                "experiment.api_model out and name a local decoder by --model"
            )


def predict(
    reader: Reader, spec: TaskSpec, samples: Sequence[UnifiedSample]
) -> tuple[list[UnifiedSample], Counter[str]]:
    """Return one predicted sample per given one, and what was counted of all answers."""
    asked, left_out = askable(spec)
    if left_out:
        logger.info("%s: %s relates concepts, which no prompt can ask for", spec.name, ", ".join(left_out))
    answers = reader([prompt_for(asked, sample) for sample in samples])
    read = [read_answer(asked, *pair) for pair in zip(samples, answers, strict=True)]
    return [predicted for predicted, _ in read], sum((counts for _, counts in read), Counter())


def perfect(spec: TaskSpec, samples: Sequence[UnifiedSample]) -> list[UnifiedSample]:
    """Return what a perfect answer to every prompt gives: its score is the most that this form can reach."""
    asked, _ = askable(spec)
    return [read_answer(asked, one, Answer(perfect_answer(asked, one)))[0] for one in samples]


def evaluate(exp: Experiment, reader: Reader) -> dict[str, dict[str, dict[str, int]]]:
    """Predict, write and score every split that the profile reports; return the counts by task and split."""
    counts: dict[str, dict[str, dict[str, int]]] = {name: {} for name in exp.config.tasks}
    exp.metrics = []
    for split in exp.config.profile.report:
        for name, task in exp.config.tasks.items():
            gold = exp.samples(split)[name]
            predicted, found = predict(reader, exp.specs[name], gold)
            exp.metrics += record_split(exp.run, task, gold, predicted, split)
            counts[name][split] = dict(found)
    exp.run.write_metrics(exp.metrics)
    return counts


def finish(exp: Experiment, reader: LocalReader | ApiReader, counts: Counts, seconds: float = 0.0) -> Path:
    """Write the manifest: flags, what could not be read, requests, tokens and dollars."""
    found = {"practice": True} if any(corpus.practice for corpus in exp.corpora.values()) else {}
    device = str(reader.model.device) if isinstance(reader, LocalReader) else "api"
    return exp.run.finish(
        totals=Totals(seconds=seconds),
        device=device.partition(":")[0],
        data_hashes={name: corpus.sha256 for name, corpus in exp.corpora.items()},
        left_out={name: list(corpus.left_out) for name, corpus in exp.corpora.items()},
        flags=exp.run.facts["flags"] | found,
        selection=UNTRAINED,
        zero_shot={"answers": counts, "requests": request_facts(reader)},
    )


def request_facts(reader: Reader) -> dict[str, Any]:
    """Return what an API was asked and what it cost; empty for a local model."""
    if not isinstance(reader, ApiReader):
        return {}
    own, everything = reader.ledger.spent()
    facts = {"host": reader.model.host, "versions": sorted(reader.versions), **reader.counts}
    return facts | {"usd_of_this_run": float(own), "usd_of_all_runs": float(everything)}


def plan(exp: Experiment, reader: LocalReader | ApiReader) -> dict[str, Any]:
    """Return who is asked how many prompts, and for an API the most that one of them and the run may cost."""
    experiment, splits = exp.config.experiment, exp.config.profile.report
    samples = [
        (name, one) for split in splits for name in exp.config.tasks for one in exp.samples(split)[name]
    ]
    facts = {
        "model": exp.config.model.title,
        "prompts": len(samples),
        "answer, tokens": experiment["max_output"],
    }
    if not isinstance(reader, ApiReader):
        return facts
    specs = {name: askable(exp.specs[name])[0] for name in exp.config.tasks}
    requests = (reader.request(prompt_for(specs[name], one)) for name, one in samples)
    most = sum(reader.model.most(each, batch=reader.settings.batches) for each in requests)
    return facts | {"at most, $": float(most), "cap, $": float(experiment["most_usd"])}


def ceiling(exp: Experiment, split: str) -> dict[str, float]:
    """Return the official figures of perfect answers to every prompt of a split, of the run's one task."""
    ((name, task),) = exp.config.tasks.items()
    gold = exp.samples(split)[name]
    with tempfile.TemporaryDirectory() as folder:
        return score_samples(task, gold, perfect(exp.specs[name], gold), Path(folder))


def against_published(exp: Experiment, split: str, best: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row with the primary score beside the ceiling, the published best and the threshold.

    `spec_flag`: the score reaches `zero_shot_threshold`. `share of the way`: (score − trivial) / (published −
    trivial). Of practice data nothing was published.
    """
    ((name, task),) = exp.config.tasks.items()
    primary = (name, task.primary_metric, split)
    score = next(m.value for m in exp.metrics if (m.task, m.name, m.split) == primary)
    row = {"task": name, "metric": task.primary_metric, "score": score, "perfect answers": best[primary[1]]}
    if exp.corpora[name].practice:
        return [row]
    trivial, published = (known(asdict(task)) for known in (trivial_baseline, published_best))
    row |= {"trivial": trivial, "published": published, "threshold": task.zero_shot_threshold}
    if task.zero_shot_threshold is not None:
        row["spec_flag"] = "yes" if score >= task.zero_shot_threshold else "no"
    if trivial is not None and published is not None and published > trivial:
        row["share of the way"] = (score - trivial) / (published - trivial)
    return [row]
