"""A finished run as probes take it: items of its tasks, and every model that is to read them.

    probed = Probed.of(load_trained_run(run), split="dev", most=2000)
    for name, read in models(probed, single_task_runs(run, "runs")):
        states = read("ddi2013, entity type")      # (layers + 1, items, ends * hidden)

What is probed is the adapter that all tasks of the run share, alone: S3a, S3b and S4 add others to it, S1 has
no other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kaggle_kit.analysis.overview import arm_of
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.evaluation.documents import cluster_of
from kaggle_kit.evaluation.layer_states import layer_states
from kaggle_kit.evaluation.predict import Predictor
from kaggle_kit.evaluation.probing import Items
from kaggle_kit.evaluation.properties import properties
from kaggle_kit.experiment.finished_runs import practice_run
from kaggle_kit.experiment.load_trained_run import TrainedRun, load_trained_run
from kaggle_kit.experiment.scoring import predictor
from kaggle_kit.models.adapter_files import STRATEGY, saved_ranks
from kaggle_kit.models.adapters import SHARED
from kaggle_kit.models.build import SINGLE
from kaggle_kit.models.random_adapter import randomised

TASKS = "semeval2016t12,semeval2021t6"  # of a practice run that has something for every probe
SEED = 0  # of items, control tasks, blocks of the code and the random adapter
BASE, RANDOM, S1 = "frozen base", "random adapter", "s1_single"
Read = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Probed:
    """A run with its token files by task, items by "task, property", and reasons for what is left out."""

    run: TrainedRun
    encoded: dict[str, EncodedTask]
    items: dict[str, Items]
    left_out: dict[str, str]

    @classmethod
    def of(cls, run: TrainedRun, split: str, most: int) -> "Probed":
        """Gather at most so many items of every property of every task from a split.

        Documents of one patient or question are kept together. Raises ConfigError for a changed corpus, and
        where nothing can be probed.
        """
        samples, probed = run.samples(split), cls(run, {}, {}, {})
        for task, config in run.scored_config.tasks.items():
            encoded = probed.encoded[task] = run.encode({task: samples[task]})[task]
            names = [sample.document_id for sample in samples[task]]
            groups = [cluster_of(config, name).get("cluster", name) for name in names]
            found, reasons = properties(encoded, samples[task], groups, most, SEED)
            probed.items.update({f"{task}, {name}": items for name, items in found.items()})
            probed.left_out.update({f"{task}, {name}": reason for name, reason in reasons.items()})
        if not probed.items:
            why = "; ".join(f"{what}: {reason}" for what, reason in probed.left_out.items())
            raise ConfigError(f"{run.run.run_id}, {split}: nothing can be probed ({why}); name another run")
        return probed


def shared_run(runs_dir: Path | str, named: str = "") -> RunFolder:
    """Return the run of this id or folder; without one the newest practice run with a shared adapter."""
    return practice_run(runs_dir, named, TASKS, lambda run: _has(run, SHARED))


def single_task_runs(run: RunFolder, runs_dir: Path | str) -> list[RunFolder]:
    """Return the newest S1 run of each of the run's tasks, of its model and profile and on the same corpora.

    None for a run of S1 itself.
    """
    own = run.manifest()
    newest: dict[str, RunFolder] = {}
    runs = find_runs(in_workspace(runs_dir), damaged=[])
    for other in sorted(runs, key=lambda found: str(found.manifest()["finished"])):
        facts = other.manifest()
        alike = arm_of(facts) == S1 and all(facts[key] == own[key] for key in ("model", "profile"))
        if alike and _has(other, SINGLE):  # not where the whole backbone was trained
            hashes = facts["data_hashes"].items()
            newest |= {task: other for task, sha256 in hashes if own["data_hashes"].get(task) == sha256}
    return [] if own["strategy"] == S1 else list(newest.values())


def _has(run: RunFolder, adapter: str) -> bool:
    """Whether a run saved this adapter; a search, for one, saves none at all."""
    return (run.adapters / STRATEGY).is_file() and adapter in saved_ranks(run.adapters)


def models(probed: Probed, singles: Sequence[RunFolder]) -> Iterator[tuple[str, Read]]:
    """Yield each model by its name with what reads items: the adapter in question, the base, S1, random.

    The random one has rank and size of the one in question. Only the run itself and one S1 run lie in memory,
    if one is taken after the other.
    """
    run = probed.run
    adapter = shared_adapter(run)
    read = partial(_read, probed, predictor(run))
    yield f"{'own' if adapter == SINGLE else adapter} adapter", partial(read, (adapter,))
    yield BASE, partial(read, ())
    for single in singles:
        other = load_trained_run(single, run.config.model.path)
        name = f"{arm_of(single.manifest())}, {'+'.join(other.specs)}"
        yield name, partial(_read, probed, predictor(other), (shared_adapter(other),))
    with randomised(run.model.lora, adapter, SEED):
        yield RANDOM, partial(read, (adapter,))


def shared_adapter(run: TrainedRun) -> str:
    """Return the name of the adapter that all tasks of a run pass through. ConfigError where it has none."""
    for name in (SHARED, SINGLE):
        if name in run.model.lora.ranks:
            return name
    names = ", ".join(run.model.lora.ranks) or "none"
    raise ConfigError(f"{run.run.run_id} has no adapter for all tasks ({names}); name another run")


def _read(probed: Probed, by: Predictor, adapters: Sequence[str], what: str) -> np.ndarray:
    encoded = probed.encoded[what.partition(", ")[0]]
    return layer_states(by, adapters, encoded, probed.items[what].places)
