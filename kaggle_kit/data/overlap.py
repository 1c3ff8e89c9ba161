"""Layer 1 of the contamination report: which scored documents stand in training text, by hashed n-grams.

    found = overlap_table(test, train)       # one row per scored document
    overlap_summary(overlaps({"ncbi_disease": test}, corpora))

A document is flagged whose text stands in the training text as a whole, or of which 70 % of the 8-grams of
words do (PaLM, Chowdhery et al. 2022). A single 13-gram in common (Brown et al. 2020) is shown beside it:
phrases of a form, such as a note's heading, have it too. An id in common is shown for the same reason.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.data.segments import WORD, canonical

FLAGGED_SHARE = 0.7  # of a document's 8-grams
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that no word of an n-gram is lost modulo 2**64


def whole_text(sample: UnifiedSample) -> str:
    """Return a document's text, of a question with its candidates, a line each."""
    return "\n".join(filter(None, (sample.text, *(pair.text for pair in sample.pairs))))


def hashed_grams(text: str, n: int) -> np.ndarray:
    """Return the hashes of all n-grams of words, (n-grams,) uint64; case, blanks and signs aside."""
    words = [_hash(word) for word in WORD.findall(text.casefold()) if word[0].isalnum()]
    powers = np.array([pow(MULTIPLIER, place, 2**64) for place in range(n)], dtype=np.uint64)
    if len(words) < n:
        return np.empty(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(np.array(words, dtype=np.uint64), n)
    return (windows * powers).sum(axis=1, dtype=np.uint64)  # modulo 2**64


def overlap_table(scored: Sequence[UnifiedSample], training: Iterable[UnifiedSample]) -> pd.DataFrame:
    """Return one row per scored document that has text: how much of it stands in the training documents.

    `exact`: the whole text does; `same id`: one has its id; `8-grams`, `13-grams`: the shares of its own
    that stand there, NaN for a shorter text; `flagged`: it should not be scored after such a training.
    """
    training = list(training)
    ids = {sample.document_id for sample in training}
    whole = {canonical(whole_text(sample)) for sample in training}
    known = {n: _all_grams(training, n) for n in (8, 13)}
    rows = []
    for sample in scored:
        if not (text := whole_text(sample)):
            continue
        row: dict[str, Any] = {"document": sample.document_id, "exact": canonical(text) in whole}
        row["same id"] = sample.document_id in ids
        for n, grams in known.items():
            own = hashed_grams(text, n)
            row[f"{n}-grams"] = np.isin(own, grams).mean() if len(own) else np.nan
        rows.append(row | {"flagged": row["exact"] or row["8-grams"] >= FLAGGED_SHARE})
    columns = ["document", "exact", "same id", "8-grams", "13-grams", "flagged"]
    return pd.DataFrame(rows, columns=columns)


def overlaps(scored: Mapping[str, Sequence[UnifiedSample]], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """Return `overlap_table` of every scored task against every corpus's training split, in one."""
    tables = [
        overlap_table(samples, corpus.splits["train"]).assign(scored=name, training=other)
        for name, samples in scored.items()
        for other, corpus in corpora.items()
    ]
    return pd.concat(tables, ignore_index=True)


def overlap_summary(found: pd.DataFrame) -> pd.DataFrame:
    """Count the documents of `overlaps` by scored task and training corpus."""
    pairs = found.assign(**{"13-grams": found["13-grams"] > 0}).groupby(["scored", "training"], sort=False)
    counts = pairs[["exact", "same id", "13-grams", "flagged"]].sum().astype(int)
    counts.insert(0, "n", pairs.size())
    counts = counts.rename(columns={"13-grams": "with a 13-gram"})
    return counts.assign(**{"8-grams, mean": pairs["8-grams"].mean()}).reset_index()


def _all_grams(samples: Iterable[UnifiedSample], n: int) -> np.ndarray:
    grams = (hashed_grams(whole_text(sample), n) for sample in samples)
    return np.unique(np.concatenate([hashed_grams("", n), *grams]))


@cache
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
