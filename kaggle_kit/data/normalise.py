"""Concept normalisation: from a disorder's words to its CUI, for 2014 Task 7 B and 2015 Task 14.

    normaliser = ConceptNormaliser.fit([("heart attack", "C0027051"), …])
    normaliser.predict(["Heart  attack", "heart atack", "something else"])

A phrase seen in training gets its most frequent CUI there; any other the CUI of the most similar
known name by character n-grams, or CUI-less where nothing is similar enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from kaggle_kit.data.formats.share import NO_CONCEPT
from kaggle_kit.data.segments import canonical

BATCH = 64  # phrases compared with all names at once; bounds the memory of a large corpus


@dataclass(frozen=True)
class ConceptNormaliser:
    """`known` maps canonical phrases to CUIs; `vectors` (names, n-grams) are TF-IDF rows of length 1
    for `names`, the phrases among them that have a concept. `threshold` is a cosine, 0 to 1."""

    known: dict[str, str]
    names: list[str]
    vectorizer: TfidfVectorizer | None
    vectors: csr_matrix | None
    threshold: float

    @classmethod
    def fit(cls, mentions_with_text: Iterable[tuple[str, str]], threshold: float = 0.7) -> ConceptNormaliser:
        """Learn from (mention text, CUI) of the training split.

        The most frequent CUI wins, of equally frequent ones the first in the alphabet.
        """
        return cls.of(most_frequent(mentions_with_text), threshold)

    @classmethod
    def of(cls, known: dict[str, str], threshold: float = 0.7) -> ConceptNormaliser:
        """Make one of what `most_frequent` has found."""
        names = sorted(phrase for phrase, cui in known.items() if phrase and cui != NO_CONCEPT)
        if not names:
            return cls(known, [], None, None, threshold)
        vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), lowercase=False, dtype=np.float32
        )
        return cls(known, names, vectorizer, vectorizer.fit_transform(names), threshold)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return one CUI, or CUI-less, per text."""
        phrases = [canonical(text) for text in texts]
        unseen = sorted({phrase for phrase in phrases if phrase not in self.known})
        guesses = dict(zip(unseen, self._nearest(unseen), strict=True))
        return [self.known.get(phrase) or guesses[phrase] for phrase in phrases]

    def _nearest(self, phrases: list[str]) -> list[str]:
        if self.vectorizer is None or self.vectors is None:
            return [NO_CONCEPT] * len(phrases)
        cuis = []
        for start in range(0, len(phrases), BATCH):
            batch = self.vectorizer.transform(phrases[start : start + BATCH])
            similarity = batch @ self.vectors.T  # (phrases, names), cosines, sparse
            similarity.sort_indices()  # equal cosines go to the first name in the alphabet
            cosines = similarity.max(axis=1).toarray().ravel()
            for cosine, best in zip(cosines, np.ravel(similarity.argmax(axis=1)), strict=True):
                cuis.append(self.known[self.names[best]] if cosine >= self.threshold else NO_CONCEPT)
        return cuis


def most_frequent(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return canonical phrase -> its most frequent CUI among (text, CUI), of equals the first by name."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, cui in pairs:
        counts[canonical(text)][cui] += 1
    return {
        phrase: min(seen.items(), key=lambda item: (-item[1], item[0]))[0] for phrase, seen in counts.items()
    }
