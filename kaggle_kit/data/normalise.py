"""Concept normalisation: from a disorder's words to its CUI, for 2014 Task 7 B and 2015 Task 14.

    normaliser = ConceptNormaliser.fit([("heart attack", "C0027051"), …])
    normaliser.predict(["Heart  attack", "heart atack", "something else"])

A phrase seen in training gets its most frequent CUI there; any other the CUI of the most similar
known name by character n-grams, or CUI-less where nothing is similar enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.formats.share import NO_CONCEPT
from kaggle_kit.data.segments import canonical

BATCH = 64  # phrases compared with all names at once; bounds the memory of a large corpus


@dataclass(frozen=True)
class ConceptNormaliser:
    """`known` maps canonical phrases to CUIs; `vectors` (names, n-grams) are TF-IDF rows of length 1
    for `names`, the phrases among them that have a concept. `threshold` is a cosine, 0 to 1."""

    known: dict[str, str]
    names: list[str]
    vectorizer: Any  # scikit-learn's, and SciPy's rows; None where no phrase has a concept
    vectors: Any
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
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second, and only concepts need it

        sizes, kind = (3, 5), np.float32
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=sizes, lowercase=False, dtype=kind)
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
    return {phrase: min(seen, key=lambda cui: (-seen[cui], cui)) for phrase, seen in counts.items()}


def concept_names(train: Sequence[UnifiedSample]) -> dict[str, str]:
    """Return what training mentions are called -> their concepts, tabs between; empty where none has any."""
    named = ((m.text(one.text), m.concepts) for one in train if one.text is not None for m in one.mentions)
    known = most_frequent((words, "\t".join(ids) or NO_CONCEPT) for words, ids in named)  # no id holds a tab
    return {} if set(known.values()) <= {NO_CONCEPT} else known


def with_concepts(names: dict[str, str], predicted: Sequence[UnifiedSample]) -> list[UnifiedSample]:
    """Give predicted mentions without concepts those that training knows for their words or alike ones."""
    if not names:
        return list(predicted)
    texts = list({mention.text(one.text or ""): None for one in predicted for mention in one.mentions})
    found = dict(zip(texts, ConceptNormaliser.of(names).predict(texts), strict=True))
    ids = {text: tuple(concepts.split("\t")) for text, concepts in found.items() if concepts != NO_CONCEPT}

    def named(mention: Mention, text: str) -> Mention:
        return replace(mention, concepts=mention.concepts or ids.get(mention.text(text), ()))

    return [replace(one, mentions=tuple(named(m, one.text or "") for m in one.mentions)) for one in predicted]
