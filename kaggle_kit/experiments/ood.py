"""Out of distribution (RQ2): finished runs on a corpus of the same kind that none was trained on.

    arms = [load_trained_run(folder) for folder in comparable_arms(config, runs_dir)]
    held_out = ood.open_held_out(config, arms)
    results = [ood.evaluate_arm(run, arm, held_out) for arm in arms]

The runs are loaded, not trained. Each arm's predictions, official files and per-document scores lie in
`arms/<its run id>/` of the page's own run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.config import validate
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import Kind, TaskSpec, UnifiedSample
from kaggle_kit.data import practice, registry
from kaggle_kit.data.corpus import Corpus, fingerprint, fingerprints, limit, load_corpus
from kaggle_kit.data.locate import locate
from kaggle_kit.evaluation.documents import document_statistics
from kaggle_kit.evaluation.official import metrics_of, score_samples
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import assert_reproduced, judged_split
from kaggle_kit.experiment.scoring import predictions

ENTITIES = (Kind.TOKENS, Kind.SPANS)
SPLIT = "ood"  # of the figures out of distribution, whatever split of the corpus they come from


@dataclass(frozen=True)
class HeldOut:
    """The corpus that no arm was trained on. `samples` speak the labels of the runs."""

    entry: TaskConfig
    corpus: Corpus
    split: str
    samples: tuple[UnifiedSample, ...]
    labels: frozenset[str] | None  # entity labels that count; None: all


@dataclass(frozen=True)
class ArmResult:
    """One arm's primary figure in and out of distribution, and all figures out of it."""

    run: RunFolder
    split: str  # of the figure in distribution
    primary: tuple[str, str]  # the metrics' names, in and out of distribution: each corpus's primary one
    inside: float
    outside: float
    metrics: tuple[Metric, ...]

    @property
    def drop(self) -> float:
        return self.inside - self.outside


def check(config: RunConfig) -> None:
    """Raises ConfigError, before anything is loaded, unless the experiment says what is held out."""
    if not {"split", "types", "practice"} <= config.experiment.keys():
        raise ConfigError("the experiment says nothing of a held-out corpus; add experiment=ood")
    held_out_task(config, [])


def held_out_task(config: RunConfig, arms: Sequence[RunFolder]) -> TaskConfig:
    """The entry of the held-out corpus; on practice data the task itself, written anew.

    Raises ConfigError where it is not named, is one that an arm was trained on, or is not admitted.
    """
    (task,) = config.tasks
    name = config.experiment.get("corpus")
    if config.profile.corpora == "practice":
        if name or not config.experiment.get("practice"):
            raise ConfigError(
                "on practice data the held-out corpus is another practice corpus: leave experiment.corpus "
                "empty and say by experiment.practice how it differs, such as {terms: 80}"
            )
        return config.tasks[task]
    if not name:
        raise ConfigError(
            "experiment.corpus is empty; name an entry of params/task that no run was trained on"
        )
    for arm in arms:
        if name in arm.facts["tasks"]:
            raise ConfigError(f"experiment.corpus={name}: {arm.run_id} was trained on it")
    entry = registry.task(name)
    validate(replace(config, tasks={name: entry}))
    return entry


def open_held_out(config: RunConfig, arms: Sequence[Experiment]) -> HeldOut:
    """The held-out split in the labels of the runs.

    Raises ConfigError for mention types that no label is declared for, and for a document whose text an
    arm was trained on, in whichever of its tasks.
    """
    (task,) = config.tasks
    entry, split = held_out_task(config, [arm.run for arm in arms]), config.experiment["split"]
    if config.profile.corpora == "practice":
        shifted = replace(arms[0].config.practice, **config.experiment["practice"])
        corpus = load_corpus(entry, practice.cached(shifted, tasks=[task])[task], (split,), practice=True)
    else:
        corpus = load_corpus(entry, locate(entry), (split,))
    samples = limit(corpus.splits[split], config.profile.max_dev_samples, config.seed)
    types = config.experiment.get("types") or {}
    samples = tuple(relabelled(sample, types) for sample in samples)
    for arm in arms:
        _assert_labels(samples, _spec_of(arm.specs[task], entry))
        assert_unseen(samples, arm)
    return HeldOut(entry, corpus, split, samples, frozenset(types.values()) or None)


def relabelled(sample: UnifiedSample, types: Mapping[str, str]) -> UnifiedSample:
    """The sample with its mention types renamed; those not named are left out, with their relations."""
    if not types:
        return sample
    renamed = tuple(replace(m, type=types[m.type]) for m in sample.mentions if m.type in types)
    return _with_mentions(sample, renamed)


def assert_unseen(samples: Sequence[UnifiedSample], arm: Experiment) -> None:
    """Raises ConfigError for the first document whose text is among the training texts of an arm."""
    for task, corpus in arm.corpora.items():
        seen = fingerprints(corpus.splits["train"])
        for sample in samples:
            if fingerprint(sample) in seen:
                raise ConfigError(
                    f"document {sample.document_id}: {arm.run.run_id} was trained on its text, in "
                    f"{task}; choose another corpus or split"
                )


def evaluate_arm(run: RunFolder, arm: Experiment, held_out: HeldOut) -> ArmResult:
    """Predict and score the held-out corpus by its own official rules, after the run's own split.

    Raises RunFolderError where the reloaded model does not score what its run recorded.
    """
    (task,) = run.facts["tasks"]
    inside = assert_reproduced(arm, task)
    trained = arm.config.tasks[task]
    entry = replace(held_out.entry, name=task, segments=trained.segments)  # cut as the model knows it
    spec = _spec_of(arm.specs[task], held_out.entry)
    predicted = [only(sample, held_out.labels) for sample in predictions(arm, entry, spec, held_out.samples)]
    folder = RunFolder(run.path / "arms" / arm.run.run_id)
    folder.predictions.mkdir(parents=True, exist_ok=True)
    folder.write_predictions(task, SPLIT, predicted)
    figures = score_samples(entry, held_out.samples, predicted, folder.official(task))
    folder.write_documents(task, SPLIT, document_statistics(entry, held_out.samples, folder.official(task)))
    metrics = metrics_of(entry, figures, held_out.samples, SPLIT)
    folder.write_metrics(metrics)
    outside = figures.get(entry.primary_metric, 0.0)
    names = (trained.primary_metric, entry.primary_metric)
    return ArmResult(arm.run, judged_split(arm), names, inside, outside, tuple(metrics))


def only(sample: UnifiedSample, labels: frozenset[str] | None) -> UnifiedSample:
    """A prediction without the mentions of other labels, and without the relations to them."""
    if labels is None:
        return sample
    return _with_mentions(sample, tuple(m for m in sample.mentions if m.type in labels))


def metrics_by_arm(results: Sequence[ArmResult]) -> list[Metric]:
    """Every figure under `<run id>:<name>`, and each arm's drop in its primary metric."""
    found = []
    for result in results:
        name = result.run.run_id
        found += [replace(metric, name=f"{name}:{metric.name}") for metric in result.metrics]
        found.append(replace(result.metrics[0], name=f"{name}:drop", value=result.drop, unit="fraction"))
    return found


def record(
    run: RunFolder, arms: Sequence[Experiment], results: Sequence[ArmResult], held_out: HeldOut
) -> Path:
    """The manifest, written last: nothing was trained, and what was compared is named by run ids."""
    (task,) = run.facts["tasks"]
    return run.finish(
        totals=Totals(),
        device=arms[0].backbone.decisions["device"].value,
        data_hashes={task: arms[0].corpora[task].sha256, SPLIT: held_out.corpus.sha256},
        held_out={"corpus": held_out.entry.name, "split": held_out.split},
        arms=[arm_facts(result, task) for result in results],
    )


def arm_facts(result: ArmResult, task: str) -> dict[str, Any]:
    """What the manifest keeps of an arm."""
    manifest = result.run.manifest()
    return {
        **{key: manifest[key] for key in ("run_id", "config_hash", "strategy", "tasks", "seed")},
        "tokens": manifest["totals"]["tokens"],
        "active_parameters": manifest["active_parameters"][task],
        "split": result.split,
        "metrics": list(result.primary),
        "in_domain": result.inside,
        "out_of_domain": result.outside,
        "drop": result.drop,
    }


def _spec_of(spec: TaskSpec, entry: TaskConfig) -> TaskSpec:
    """The components of the trained task that the held-out corpus can score, by their kind."""
    kinds = {part.kind for part in entry.components}
    parts = tuple(part for part in spec.components if part.kind in kinds)
    if not parts:
        trained = ", ".join(part.kind for part in spec.components)
        raise ConfigError(
            f"{entry.name} has components {', '.join(kinds)}, the runs {trained}: not of a kind"
        )
    return replace(spec, components=parts)


def _assert_labels(samples: Sequence[UnifiedSample], spec: TaskSpec) -> None:
    known = {label for part in spec.components if part.kind in ENTITIES for label in part.labels}
    found = {mention.type for sample in samples for mention in sample.mentions}
    if known and not found <= known:
        raise ConfigError(
            f"the held-out corpus has mentions of {', '.join(sorted(found - known))}, the runs know "
            f"{', '.join(sorted(known))}; say by experiment.types which type is which label"
        )


def _with_mentions(sample: UnifiedSample, mentions: tuple) -> UnifiedSample:
    kept = {mention.id for mention in mentions}
    relations = tuple(r for r in sample.relations if {r.source, r.target} <= kept)
    return replace(sample, mentions=mentions, relations=relations)
