"""Runs that began and never finished: counted, named, and never silently left out of a comparison.

    unfinished, seeds = lost("ablation", {"a3": runs, "a4": others}, as_they_stand=False)

A comparison of the seeds that survived is not one of the methods: a diverged run is what its method did. So
a seed whose run did not finish in some arm refuses the comparison, unless its runs are scored as they stand.
Then whatever is missing is taken for the run of its arm that speaks most against the first arm: for the
worst run of the first, for the best run of the others. A gain of the first arm that is still found is none
of the missing runs' making; a loss may be.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from kaggle_kit.analysis.comparability import ArmRuns, configured, documents_of
from kaggle_kit.analysis.stats import scores
from kaggle_kit.analysis.verdict_rule import FEWEST_SEEDS
from kaggle_kit.core.artifacts import ending, unfinished_beside
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.errors import IncomparableRuns

Unfinished = dict[str, list[dict[str, Any]]]  # arm -> run_id, seed and ending of each


def lost(question: str, arms: ArmRuns, as_they_stand: bool) -> tuple[Unfinished, set[int]]:
    """Return the unfinished runs of each arm, and the seeds that an arm lacks because of one.

    An unfinished run belongs to an arm that has its page and its configuration but for the seed. Raises
    IncomparableRuns where a seed is lost, unless runs are scored `as_they_stand`.
    """
    entries = [entry for runs in arms.values() for entry in runs]
    folders = [(run, without_machine_keys(run.config())) for run in unfinished_beside(e.run for e in entries)]
    ids = {entry.id for entry in entries}
    unfinished: Unfinished = {}
    seeds: set[int] = set()
    for arm, runs in arms.items():
        own = configured(question, runs[0].config)
        for run, config in folders:
            of_these = config["experiment"].get("twin") in (None, *ids)
            if of_these and run.facts["page"] == runs[0]["page"] and configured(question, config) == own:
                facts = {"run_id": run.run_id, "seed": config["seed"], "ending": ending(run)}
                unfinished.setdefault(arm, []).append(facts)
        has = {entry.seed for entry in runs}
        missing = [facts for facts in unfinished.get(arm, ()) if facts["seed"] not in has]
        if missing and not as_they_stand:
            names = ", ".join(f"{m['seed']} ({m['run_id']}, {m['ending']})" for m in missing)
            then = "finish them with `run … --resume FOLDER`, or score them as they stand by --as-they-stand"
            raise IncomparableRuns("seed", f"unfinished in {arm}: {names}; {then}")
        seeds |= {facts["seed"] for facts in missing}
    for arm, runs in arms.items():
        if seeds and len(runs) < FEWEST_SEEDS:  # copies of one run have no variance
            needed = f"at least {FEWEST_SEEDS} per arm are needed before others are scored as they stand"
            raise IncomparableRuns("seed", f"only {len(runs)} finished in {arm}; {needed}: train more")
    return unfinished, seeds


def documents_by_arm(arms: ArmRuns, task: str, split: str, seeds: Collection[int]) -> dict[str, np.ndarray]:
    """Return arm -> (seeds, documents, columns) of a task; a missing seed is filled as it stands.

    The first arm is the one that the comparison is about: its worst run stands in, of the others the best.
    """
    parts = documents_of([run for runs in arms.values() for run in runs], task, split)
    ends = np.cumsum([len(runs) for runs in arms.values()])[:-1]
    by_arm: dict[str, np.ndarray] = {}
    for (arm, runs), own in zip(arms.items(), np.split(parts, ends), strict=True):
        by_seed = {run.seed: part for run, part in zip(runs, own, strict=True)}
        stand_in = own[scores(own).argmax() if by_arm else scores(own).argmin()]
        by_arm[arm] = np.stack([by_seed.get(seed, stand_in) for seed in sorted(seeds)])
    return by_arm


def unfinished_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on every unfinished run of a verdict or of contrasts, and on how it was counted."""
    for arm, runs in document.get("unfinished", {}).items():
        for run in runs:
            yield f"unfinished in {arm}: seed {run['seed']}, {run['run_id']}, {run['ending']}."
    if document.get("as_they_stand"):
        yield (
            "Missing runs are scored as they stand: as the worst run of the first arm, and as the best of "
            "the others. Only a gain of the first arm can be read from it."
        )
