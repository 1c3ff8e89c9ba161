"""From a composed note to the annotations that one task has of it.

labelled = label("practice0001", note, lexicon, "semeval2014t7", noise=0.0, rng=rng)
disorders(labelled)         # a sample of 2014 Task 7 and 2015 Task 14
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kaggle_kit.core.types import NOTHING, Access, Mention, Relation, UnifiedSample
from kaggle_kit.data.formats.share import DISORDER, NO_CONCEPT
from kaggle_kit.data.formats.share_slots import LOCATION, LOCATION_SPAN, SLOTS
from kaggle_kit.data.practice.lexicon import CLASSES, Lexicon, Rng, pick, relation_between
from kaggle_kit.data.practice.notes import Fragment, Note, Sentence, Span

EVENTS = ("disorder", "procedure", "finding")  # of 2016; drugs and body parts are no events
DEGREE = {"slight": "LITTLE", "severe": "MOST"}

Fragments = tuple[Fragment, ...]
Link = tuple[str, Fragments, Fragments]  # type, source and target


@dataclass(frozen=True, slots=True)
class LabelledNote:
    """An invented note with the annotations of one task."""

    document_id: str
    note: Note
    classes: Mapping[tuple[Fragment, ...], str]  # by a mention's fragments
    shown: Collection[int]  # the families that the task's training split shows

    def class_of(self, span: Span) -> str:
        """Return the semantic class that this task's annotator gave the mention."""
        return self.classes[span.fragments]

    def concept_of(self, span: Span) -> str:
        """Return the concept id that an annotator finds. One family in ten has none.

        Nor has a term that training does not show. Concepts are looked up among those of the own training
        mentions, which no other task adds to: else a figure that wants the concept too, as that of 2015
        does, would count against a run every such term that another task has taught it to find.
        """
        family = span.term.family.id
        return span.term.cui if family in self.shown and family // 5 % 10 != 9 else NO_CONCEPT

    def spans(self) -> Iterator[tuple[Sentence, Span]]:
        """Yield all mentions with their sentences, in the order of the text."""
        for sentence in self.note.sentences:
            for span in sorted(sentence.spans, key=lambda span: span.fragments):
                yield sentence, span

    def of_class(self, *classes: str) -> Iterator[tuple[Sentence, Span]]:
        """Yield the mentions of some classes with their sentences, in the order of the text."""
        return ((sentence, span) for sentence, span in self.spans() if self.class_of(span) in classes)

    def relations(self) -> Iterator[tuple[str, Span, Span]]:
        """Yield (type, source, target) of outermost mentions: a sentence's subject, and what it tells of it.

        Their classes decide the type. What a sentence merely lists has no relation, so that most pairs of
        such classes have none, as in real corpora.
        """
        for sentence in self.note.sentences:
            for first in sentence.about:
                for second in sentence.others:
                    relation = relation_between(self.class_of(first), self.class_of(second))
                    if relation:
                        kind, source_class, _ = relation
                        in_order = self.class_of(first) == source_class
                        yield (kind, first, second) if in_order else (kind, second, first)


def label(document_id: str, note: Note, lexicon: Lexicon, task: str, noise: float, rng: Rng) -> LabelledNote:
    """Return the note with each mention's class; a share `noise` of the mentions gets a random one."""
    labels = {
        span.fragments: noisy(lexicon.classes[task][span.term.family.id], noise, rng)
        for sentence in note.sentences
        for span in sentence.spans
    }
    return LabelledNote(document_id, note, labels, lexicon.seen[task])


def noisy(semantic_class: str, noise: float, rng: Rng) -> str:
    """Return the class, or with probability `noise` a random one."""
    return pick(rng, CLASSES) if rng.random() < noise else semantic_class


def disorders(labelled: LabelledNote) -> UnifiedSample:
    """Label for 2014 Task 7 and, with slots, 2015 Task 14: the other classes are not annotated.

    Cues speak of slot 0 of their carrier sentence, and an anatomy term in a locating slot is its body
    location.
    """
    mentions = []
    for sentence, span in labelled.of_class("disorder"):
        attributes: dict[str, str] = {}
        if span.slot == 0:
            cues = {slot: sentence.cues[slot] for slot in SLOTS if slot in sentence.cues}
            attributes |= {slot: value for slot, (value, _) in cues.items()}
            attributes |= {f"{slot}_span": _span((place,)) for slot, (_, place) in cues.items()}
            places = [s for s in sentence.outer if s.locates and labelled.class_of(s) == "anatomy"]
            if places:
                attributes[LOCATION] = ",".join(place.term.cui for place in places)
                attributes[LOCATION_SPAN] = ";".join(_span(place.fragments) for place in places)
        mentions.append(Mention("", span.fragments, DISORDER, (labelled.concept_of(span),), attributes))
    return _sample(labelled, mentions)


def times(labelled: LabelledNote) -> UnifiedSample:
    """Label for 2016 Task 12: mentions of `EVENTS` classes become EVENTs; time expressions are annotated too.

    The DocTimeRel of an event is the cue of its sentence. Each time expression of a sentence CONTAINS the
    events that the sentence is about.
    """
    mentions = [Mention("", (labelled.note.doctime,), "DOCTIME")]
    mentions += [Mention("", (place,), "SECTIONTIME") for place in labelled.note.sectiontimes]
    links: list[Link] = []
    for sentence in labelled.note.sentences:
        for timex in sentence.timexes:
            mentions.append(Mention("", (timex.fragment,), "TIMEX3", attributes={"Class": timex.kind}))
        events = [span for span in sentence.spans if labelled.class_of(span) in EVENTS]
        for span in events:
            properties = _properties(sentence, span, labelled.class_of(span))
            mentions.append(Mention("", span.fragments, "EVENT", attributes=properties))
        contained = [span for span in sentence.about if span in events]
        for timex in (timex for timex in sentence.timexes if not timex.listed):
            links += [("TLINK", (timex.fragment,), span.fragments) for span in contained]
    return _sample(labelled, mentions, links, {"Type": "CONTAINS"})


def typed_terms(labelled: LabelledNote) -> UnifiedSample:
    """Label for 2021 Task 6: every term typed by its class, relations by pairs of classes."""
    mentions = [Mention("", s.fragments, labelled.class_of(s).capitalize()) for _, s in labelled.spans()]
    links = [(kind, one.fragments, two.fragments) for kind, one, two in labelled.relations()]
    return _sample(labelled, mentions, links)


def _sample(
    labelled: LabelledNote,
    mentions: Iterable[Mention],
    links: Iterable[Link] = (),
    properties: Mapping[str, str] = NOTHING,
) -> UnifiedSample:
    """Return the gold sample of these mentions, numbered, and of these links, all with the properties."""
    numbered = [replace(mention, id=f"T{number}") for number, mention in enumerate(mentions, start=1)]
    ids = {mention.fragments: mention.id for mention in numbered}
    relations = tuple(
        Relation(f"R{number}", kind, ids[source], ids[target], attributes=properties)
        for number, (kind, source, target) in enumerate(links, start=1)
    )
    content = tuple(numbered), relations
    gold = {"status": "gold"}
    return UnifiedSample(labelled.document_id, labelled.note.text, "", Access.PUBLIC, *content, metadata=gold)


def _span(fragments: Fragments) -> str:
    return ",".join(f"{start}-{end}" for start, end in fragments)


def _properties(sentence: Sentence, span: Span, semantic_class: str) -> dict[str, str]:
    """Return the seven properties of an EVENT; all cues but `when` speak of slot 0 alone."""
    cues = {name: value for name, (value, _) in sentence.cues.items() if span.slot == 0 or name == "when"}
    modality = "HEDGED" if "uncertainty" in cues else "HYPOTHETICAL" if "conditional" in cues else "ACTUAL"
    return {
        "DocTimeRel": cues.get("when", "OVERLAP"),
        "Type": "EVIDENTIAL" if semantic_class == "procedure" else "N/A",
        "Degree": DEGREE.get(cues.get("severity", ""), "N/A"),
        "Polarity": "NEG" if cues.get("negation") == "yes" else "POS",
        "ContextualModality": "GENERIC" if "generic" in cues else modality,
        "ContextualAspect": "N/A",
        "Permanence": "UNDETERMINED",
    }
