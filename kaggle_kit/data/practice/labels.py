"""From a composed note to a labelled one: the class of each mention, as one task sees it.

labelled = label("practice0001", note, lexicon.classes["semeval2014t7"], noise=0.0, rng=rng)
labelled.of_class("disorder")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kaggle_kit.data.practice.lexicon import CLASSES, pick, relation_between
from kaggle_kit.data.practice.notes import Fragment, Note, Sentence, Span


@dataclass(frozen=True, slots=True)
class LabelledNote:
    document_id: str
    note: Note
    classes: Mapping[tuple[Fragment, ...], str]  # by a mention's fragments

    def class_of(self, span: Span) -> str:
        return self.classes[span.fragments]

    def spans(self) -> Iterator[tuple[Sentence, Span]]:
        """All mentions with their sentences, in the order of the text."""
        for sentence in self.note.sentences:
            for span in sorted(sentence.spans, key=lambda span: span.fragments):
                yield sentence, span

    def of_class(self, *classes: str) -> Iterator[tuple[Sentence, Span]]:
        return ((sentence, span) for sentence, span in self.spans() if self.class_of(span) in classes)

    def relations(self) -> Iterator[tuple[str, Span, Span]]:
        """(type, source, target): it is the classes of two outermost mentions of a sentence that decide."""
        for sentence in self.note.sentences:
            for first, second in combinations(sentence.outer, 2):
                relation = relation_between(self.class_of(first), self.class_of(second))
                if relation and first.slot != second.slot:
                    kind, source_class, _ = relation
                    in_order = self.class_of(first) == source_class
                    yield (kind, first, second) if in_order else (kind, second, first)


def label(
    document_id: str, note: Note, classes: Mapping[int, str], noise: float, rng: np.random.Generator
) -> LabelledNote:
    """The note with each mention's class; a share `noise` of the mentions gets a random one."""
    labels = {
        span.fragments: noisy(classes[span.term.family.id], noise, rng)
        for sentence in note.sentences
        for span in sentence.spans
    }
    return LabelledNote(document_id, note, labels)


def noisy(semantic_class: str, noise: float, rng: np.random.Generator) -> str:
    return pick(rng, CLASSES) if rng.random() < noise else semantic_class
