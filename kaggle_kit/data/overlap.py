"""Documents that two corpora have in common, told by their text and not by their ids.

    seen = fingerprints(corpus.splits["train"])
    [sample for sample in held_out if fingerprint(sample) in seen]

A sample is a whole document (sentences are cut when it is encoded), so one match is one note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.normalise import canonical


def fingerprint(sample: UnifiedSample) -> str | None:
    """The hash of a document's text, case and white space aside; None for one without text."""
    words = canonical(sample.text or "")
    return hashlib.sha256(words.encode()).hexdigest() if words else None


def fingerprints(samples: Iterable[UnifiedSample]) -> frozenset[str]:
    """Those of all documents that have text."""
    return frozenset(filter(None, map(fingerprint, samples)))
