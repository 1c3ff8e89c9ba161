"""Training documents that a run leaves out, because another task is scored on their text.

    corpora = drop_leaked_documents(config, corpora)     # preparation.open_corpora does it
    corpora["semeval2015t14"].left_out                   # ids, in the order of the corpus

2015 Task 14 trains on the development notes of 2014 Task 7. A run on both would learn from the notes that
it is then scored on, its token-controlled baseline on one of them would not, and the leak would look like
transfer. What a task's `shares_notes_with` names counts where that corpus is found on this machine, even if
the run does not train on it, so that a run on the task alone learns from the same notes; the other tasks of a
run always do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kaggle_kit.core.errors import ConfigError, CorpusMissing
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data import registry
from kaggle_kit.data.corpus import Corpus, fingerprint, fingerprints, load_corpus
from kaggle_kit.data.locate import locate

SCORED = ("dev", "test")  # of a task that is named; of the run's other tasks, the splits that it scores


def drop_leaked_documents(
    config: RunConfig, corpora: Mapping[str, Corpus], left_out: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Corpus]:
    """Return the corpora without such training documents, and log a line on each that lost some.

    `left_out`, task -> document ids, is what another run left out: exactly that is left out again, whatever
    is found here. Raises ConfigError where nothing would be left to train on.
    """
    if left_out is not None:
        return {name: _without(corpus, left_out.get(name, ())) for name, corpus in corpora.items()}
    kept = {}
    for name, corpus in corpora.items():
        leaked: set[str] = set()
        for other, scored in _scored_beside(config, corpora, name).items():
            ids = {s.document_id for s in corpus.splits["train"] if fingerprint(s) in scored}
            leaked |= ids
            if ids:
                logger.warning(
                    "%s: %d training documents left out, %s is scored on them", name, len(ids), other
                )
            elif other in config.tasks[name].shares_notes_with and not corpus.practice:
                logger.warning("%s shares notes with %s, but none of its texts was found there", name, other)
        kept[name] = _without(corpus, leaked)
    return kept


def _scored_beside(config: RunConfig, corpora: Mapping[str, Corpus], name: str) -> dict[str, frozenset[str]]:
    """Return task -> fingerprints of its scored documents, for every other task whose notes count."""
    scored = {
        other: fingerprints(s for split, found in corpus.splits.items() if split != "train" for s in found)
        for other, corpus in corpora.items()
        if other != name
    }
    if config.profile.corpora == "practice":  # invented for each task by itself
        return scored
    for other in config.tasks[name].shares_notes_with:
        entry = config.tasks.get(other) or registry.task(other)
        try:
            root = corpora[other].root if other in corpora else locate(entry)
        except CorpusMissing:
            then = f"`python -m kaggle_kit data locate {other}` says how to get it"
            logger.warning("%s shares notes with %s, which is not on this machine: %s", name, other, then)
            continue
        scored.setdefault(other, frozenset())
        for split in SCORED:
            try:
                found = fingerprints(load_corpus(entry, root, (split,)).splits[split])
            except CorpusMissing:  # such as a release without its test notes
                logger.warning("%s has no split %r at %s: nothing of it is left out", other, split, root)
                continue
            scored[other] |= found
    return scored


def _without(corpus: Corpus, ids: Iterable[str]) -> Corpus:
    unwanted, train = set(ids), corpus.splits["train"]
    left_out = tuple(sample.document_id for sample in train if sample.document_id in unwanted)
    if not left_out:
        return corpus
    train = tuple(sample for sample in train if sample.document_id not in unwanted)
    if not train:
        all_ = f"{corpus.task.name}: all {len(left_out)} training documents are scored in another task"
        raise ConfigError(f"{all_}; train on the two in separate runs, or give one of them other files")
    return replace(corpus, splits={**corpus.splits, "train": train}, left_out=left_out)
