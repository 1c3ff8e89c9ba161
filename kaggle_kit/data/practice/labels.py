"""From a composed note to a labelled one: class and concept of each mention, as one task sees them.

labelled = label("practice0001", note, lexicon.truth("semeval2014t7"), noise=0.0, rng=rng)
labelled.of_class("disorder")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kaggle_kit.data.normalise import NO_CONCEPT
from kaggle_kit.data.practice.lexicon import CLASSES, Truth, pick, relation_between
from kaggle_kit.data.practice.notes import Fragment, Note, Sentence, Span


@dataclass(frozen=True, slots=True)
class LabelledNote:
    document_id: str
    note: Note
    classes: Mapping[tuple[Fragment, ...], str]  # by a mention's fragments
    shown: frozenset[int]  # the families that the task's training split shows

    def class_of(self, span: Span) -> str:
        return self.classes[span.fragments]

    def concept_of(self, span: Span) -> str:
        """The concept id that an annotator finds. One family in ten has none.

        Nor has a term that training does not show. Concepts are looked up among those of the own training
        mentions, which no other task adds to: else a figure that wants the concept too, as that of 2015
        does, would count against a run every such term that another task has taught it to find.
        """
        family = span.term.family.id
        return span.term.cui if family in self.shown and family // 5 % 10 != 9 else NO_CONCEPT

    def spans(self) -> Iterator[tuple[Sentence, Span]]:
        """All mentions with their sentences, in the order of the text."""
        for sentence in self.note.sentences:
            for span in sorted(sentence.spans, key=lambda span: span.fragments):
                yield sentence, span

    def of_class(self, *classes: str) -> Iterator[tuple[Sentence, Span]]:
        return ((sentence, span) for sentence, span in self.spans() if self.class_of(span) in classes)

    def relations(self) -> Iterator[tuple[str, Span, Span]]:
        """(type, source, target) of outermost mentions: of what a sentence speaks, and what it tells of it.

        Their classes decide the type. What a sentence merely lists has no relation, so that most pairs of
        such classes have none, as in real corpora.
        """
        for sentence in self.note.sentences:
            for first in sentence.about:
                for second in sentence.told:
                    relation = relation_between(self.class_of(first), self.class_of(second))
                    if relation:
                        kind, source_class, _ = relation
                        in_order = self.class_of(first) == source_class
                        yield (kind, first, second) if in_order else (kind, second, first)


def label(document_id: str, note: Note, truth: Truth, noise: float, rng: np.random.Generator) -> LabelledNote:
    """The note with each mention's class; a share `noise` of the mentions gets a random one."""
    labels = {
        span.fragments: noisy(truth.classes[span.term.family.id], noise, rng)
        for sentence in note.sentences
        for span in sentence.spans
    }
    return LabelledNote(document_id, note, labels, truth.shown)


def noisy(semantic_class: str, noise: float, rng: np.random.Generator) -> str:
    return pick(rng, CLASSES) if rng.random() < noise else semantic_class
