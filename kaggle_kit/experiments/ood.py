"""Out of distribution (RQ2): finished runs on a corpus of the same kind that none was trained on.

    arms = [load_trained_run(folder) for folder in comparable_arms(config, runs_dir)]
    held_out = ood.open_held_out(config, arms)
    results = [ood.evaluate_arm(run, arm, held_out) for arm in arms]
    ood.drop_figure(ood.arm_table(run, results))

The runs are loaded, not trained. Each arm's predictions, official files and per-document scores lie in
`arms/<its run id>/` of the page's own run folder.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, ROW, STYLE, WIDTH, name_rows
from kaggle_kit.analysis.stats import resampled_scores
from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.config import validate
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import Kind, TaskSpec, UnifiedSample
from kaggle_kit.data import practice, registry
from kaggle_kit.data.corpus import Corpus, fingerprint, fingerprints, limit, load_corpus
from kaggle_kit.data.locate import locate
from kaggle_kit.evaluation.documents import document_table, figure
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import assert_reproduced, judged_split
from kaggle_kit.experiment.scoring import predictions, record_split
from kaggle_kit.experiments.transfer_similarity import count_words

ENTITIES = (Kind.TOKENS, Kind.SPANS)
SPLIT = "ood"  # of the figures out of distribution, whatever split of the corpus they come from


@dataclass(frozen=True)
class HeldOut:
    """The corpus that no arm was trained on. `samples` speak the labels of the runs."""

    entry: TaskConfig
    corpus: Corpus
    split: str
    samples: tuple[UnifiedSample, ...]
    labels: Mapping[str, str]  # entity labels that count, each for itself; empty: all


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
        """Return the score in distribution minus the score out of it."""
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
            how = "leave experiment.corpus empty and say by experiment.practice how it differs: {terms: 80}"
            raise ConfigError(f"on practice data the held-out corpus is another practice corpus: {how}")
        return config.tasks[task]
    if not name:
        raise ConfigError("experiment.corpus is empty; name a task of params/task that no run was trained on")
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
    return HeldOut(entry, corpus, split, samples, {name: name for name in types.values()})


def relabelled(sample: UnifiedSample, types: Mapping[str, str]) -> UnifiedSample:
    """The sample with its mention types renamed; those not named are left out, with their relations."""
    if not types:
        return sample
    renamed = tuple(replace(m, type=types[m.type]) for m in sample.mentions if m.type in types)
    kept = {mention.id for mention in renamed}
    relations = tuple(r for r in sample.relations if {r.source, r.target} <= kept)
    return replace(sample, mentions=renamed, relations=relations)


def assert_unseen(samples: Sequence[UnifiedSample], arm: Experiment) -> None:
    """Raises ConfigError for the first document whose text is among the training texts of an arm."""
    for task, corpus in arm.corpora.items():
        seen = fingerprints(corpus.splits["train"])
        for sample in samples:
            if fingerprint(sample) in seen:
                where = f"document {sample.document_id}: {arm.run.run_id} was trained on its text, in {task}"
                raise ConfigError(f"{where}; choose another corpus or split")


def evaluate_arm(run: RunFolder, arm: Experiment, held_out: HeldOut) -> ArmResult:
    """Predict and score the held-out corpus by its own official rules, after the run's own split.

    Raises RunFolderError where the reloaded model does not score what its run recorded.
    """
    (task,) = run.facts["tasks"]
    inside = assert_reproduced(arm, task)
    trained = arm.config.tasks[task]
    entry = replace(held_out.entry, name=task, segments=trained.segments)  # cut as the model knows it
    spec = _spec_of(arm.specs[task], held_out.entry)
    found = predictions(arm, entry, spec, held_out.samples)
    predicted = [relabelled(sample, held_out.labels) for sample in found]
    folder = RunFolder(run.path / "arms" / arm.run.run_id)
    metrics = record_split(folder, entry, held_out.samples, predicted, SPLIT)
    folder.write_metrics(metrics)
    outside = next((m.value for m in metrics if m.name == entry.primary_metric), 0.0)
    names = (trained.primary_metric, entry.primary_metric)
    return ArmResult(arm.run, judged_split(arm), names, inside, outside, tuple(metrics))


def metrics_by_arm(results: Sequence[ArmResult]) -> list[Metric]:
    """Every figure under `<run id>:<name>`, and each arm's drop in its primary metric."""
    found = []
    for result in results:
        name = result.run.run_id
        found += [replace(metric, name=f"{name}:{metric.name}") for metric in result.metrics]
        found.append(replace(result.metrics[0], name=f"{name}:drop", value=result.drop, unit="fraction"))
    return found


def record(run: RunFolder, arms: Sequence[Experiment], results: list[ArmResult], held_out: HeldOut) -> Path:
    """The manifest, written last: nothing was trained, and what was compared is named by run ids."""
    (task,) = run.facts["tasks"]
    facts = []
    for result in results:
        manifest = result.run.manifest()
        arm = {key: manifest[key] for key in ("run_id", "config_hash", "strategy", "tasks", "seed")}
        arm |= {"tokens": manifest["totals"]["tokens"]}
        arm |= {"active_parameters": manifest["active_parameters"][task]}
        arm |= {"split": result.split, "metrics": list(result.primary), "drop": result.drop}
        facts.append(arm | {"in_domain": result.inside, "out_of_domain": result.outside})
    hashes = {task: arms[0].corpora[task].sha256, SPLIT: held_out.corpus.sha256}
    named = {"corpus": held_out.entry.name, "split": held_out.split}
    device = arms[0].backbone.decisions["device"].value
    return run.finish(totals=Totals(), device=device, data_hashes=hashes, held_out=named, arms=facts)


def run_table(folders: Sequence[RunFolder], task: str) -> pd.DataFrame:
    """One row per arm: its tasks, seed, tokens of all tasks, and the parameters that `task` passes."""
    facts = pd.DataFrame([folder.manifest() for folder in folders])
    tokens = [sum(totals["tokens"].values()) for totals in facts["totals"]]
    found = pd.DataFrame({"run": facts["run_id"], "tasks": facts["tasks"].map(len), "seed": facts["seed"]})
    return found.assign(tokens=tokens, **{"active parameters": facts["active_parameters"].str[task]})


def shift_table(inside: Sequence[UnifiedSample], outside: Sequence[UnifiedSample]) -> pd.DataFrame:
    """How far the held-out corpus is from the training split: figures only, no word of either.

    `new` is the share of words, or of mentions' texts, that the training split does not have.
    """
    corpora = {"training split": inside, "held out": outside}
    shift = pd.DataFrame({"corpus": corpora.keys(), "documents": map(len, corpora.values())})
    for what, count in {"words": count_words, "mentions": _mentioned}.items():
        known, *_ = counted = [count(samples) for samples in corpora.values()]
        shift[what] = [found.total() for found in counted]
        new = [sum(found[text] for text in found.keys() - known.keys()) for found in counted]
        shift[f"new {what}"] = np.array(new) / shift[what]  # NaN of nothing
    return shift


def drop_interval(
    run: RunFolder, result: ArmResult, resamples: int, alpha: float = 0.05
) -> tuple[float, float] | None:
    """The percentile interval of an arm's drop over documents, drawn anew inside and outside.

    It holds the choice of documents and not the luck of the training, for an arm is one run. None where the
    run kept no documents of its own split.
    """
    (task,) = run.facts["tasks"]
    rng = np.random.default_rng(0)
    outside, drawn = RunFolder(run.path / "arms" / result.run.run_id), []
    for folder, split in ((result.run, result.split), (outside, SPLIT)):
        if not (records := folder.read_documents(task, split)):
            return None
        _, parts = document_table(records)
        drawn.append(resampled_scores(parts[None], resamples, rng)[:, 0])
    low, high = np.quantile(drawn[0] - drawn[1], [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def arm_table(run: RunFolder, results: Sequence[ArmResult], resamples: int = 2_000) -> pd.DataFrame:
    """One row per arm: its score inside and outside, and the drop with its interval over documents."""
    rows = []
    for result in results:
        low, high = drop_interval(run, result, resamples) or (math.nan, math.nan)
        row = {"arm": _named(result), "seed": result.run.facts["seed"], "inside": result.inside}
        rows.append(row | {"outside": result.outside, "drop": result.drop, "low": low, "high": high})
    return pd.DataFrame(rows)


def document_scores(run: RunFolder, results: Sequence[ArmResult]) -> pd.DataFrame:
    """The score of every held-out document under every arm, those with the largest spread first."""
    (task,) = run.facts["tasks"]
    sides = {}
    for result in results:
        records = RunFolder(run.path / "arms" / result.run.run_id).read_documents(task, SPLIT)
        ids, parts = document_table(records)
        sides[f"{_named(result)}, seed {result.run.facts['seed']}"] = pd.Series(figure(parts), index=ids)
    found = pd.DataFrame(sides)
    found["spread"] = found.max(axis=1) - found.min(axis=1)
    ordered = found.sort_values("spread", ascending=False, kind="stable")
    return ordered.rename_axis("document").reset_index()


def drop_figure(arms: pd.DataFrame, note: str = "") -> Figure:
    """Left: the score inside (open) and outside (full) of every arm. Right: the drop with its interval."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        drawn = Figure(figsize=(WIDTH, 1.2 + 1.4 * ROW * len(arms)), layout="constrained")
        left, right = drawn.subplots(1, 2, sharey=True)
        for row, arm in enumerate(arms.itertuples()):
            colour = COLOURS[row % len(COLOURS)]
            left.plot([arm.inside, arm.outside], [row, row], color=colour, lw=1)
            left.plot(arm.inside, row, "o", mfc="white", mec=colour, ms=7)
            left.plot(arm.outside, row, "o", color=colour, ms=7)
            right.plot([100 * arm.low, 100 * arm.high], [row, row], color=colour, lw=2.2)
            right.plot(100 * arm.drop, row, "o", color=colour, ms=7)
        right.axvline(0, color="#3a3f47", lw=0.9, zorder=1)
        name_rows(left, [f"{arm.arm}\nseed {arm.seed}" for arm in arms.itertuples()])
        left.set(title=f"Inside ○, outside ●{note}", xlabel="primary metric")
        right.set(title="Drop, with interval over documents", xlabel="points")
        return drawn


def _spec_of(spec: TaskSpec, entry: TaskConfig) -> TaskSpec:
    """The components of the trained task that the held-out corpus can score, by their kind."""
    kinds = {part.kind for part in entry.components}
    parts = tuple(part for part in spec.components if part.kind in kinds)
    if not parts:
        has, trained = (", ".join(part.kind for part in of.components) for of in (entry, spec))
        raise ConfigError(f"{entry.name} has components {has}, the runs {trained}: not of a kind")
    return replace(spec, components=parts)


def _assert_labels(samples: Sequence[UnifiedSample], spec: TaskSpec) -> None:
    known = {label for part in spec.components if part.kind in ENTITIES for label in part.labels}
    found = {mention.type for sample in samples for mention in sample.mentions}
    if known and not found <= known:
        new, labels = (", ".join(sorted(names)) for names in (found - known, known))
        then = "say by experiment.types which type is which label"
        raise ConfigError(f"the held-out corpus has mentions of {new}, the runs know {labels}; {then}")


def _named(result: ArmResult) -> str:
    tasks = len(result.run.facts["tasks"])
    return f"{result.run.facts['strategy']} on {tasks} task{'s' if tasks > 1 else ''}"


def _mentioned(samples: Sequence[UnifiedSample]) -> Counter[str]:
    """The texts of all mentions, in lower case."""
    return Counter(mention.text(s.text).lower() for s in samples if s.text for mention in s.mentions)
