"""Practice notes as Anafora XML, as in 2016 Task 12: events, time expressions and what contains what.

write(labelled, folder)    # <doc>/<doc>, <doc>/<doc>.Temporal-Relation.gold.completed.xml
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kaggle_kit.data.practice.labels import LabelledNote
from kaggle_kit.data.practice.notes import Fragment, Sentence, Span

EVENTS = ("disorder", "procedure", "finding")  # drugs and body parts are no events
DEGREE = {"slight": "LITTLE", "severe": "MOST"}

FRAME = """<?xml version="1.0" encoding="UTF-8"?>

<data>
<info>
  <savetime>00:00:00 01-01-2000</savetime>
  <progress>completed</progress>
</info>

<schema path="./" protocol="file">temporal.schema.xml</schema>

<annotations>
{annotations}
</annotations>

</data>
"""
ENTITY = """\t<entity>
\t\t<id>{id}</id>
\t\t<span>{span}</span>
\t\t<type>{type}</type>
\t\t<parentsType>TemporalEntities</parentsType>
\t\t<properties>{properties}</properties>
\t</entity>
"""
CONTAINS = """\t<relation>
\t\t<id>{id}</id>
\t\t<type>TLINK</type>
\t\t<parentsType>TemporalRelations</parentsType>
\t\t<properties><Source>{source}</Source><Type>CONTAINS</Type><Target>{target}</Target></properties>
\t</relation>
"""


def write(labelled: LabelledNote, folder: Path) -> None:
    """EVENTs are the mentions of `EVENTS` classes; their DocTimeRel is the cue of their sentence.

    Each time expression of a sentence CONTAINS the events that the sentence is about.
    """
    document = labelled.document_id
    folder = folder / document
    folder.mkdir(parents=True, exist_ok=True)
    (folder / document).write_bytes(labelled.note.text.encode())
    frame = FRAME.format(annotations="\n".join(_annotations(labelled)))
    (folder / f"{document}.Temporal-Relation.gold.completed.xml").write_bytes(frame.encode())


def _annotations(labelled: LabelledNote) -> Iterator[str]:
    ids: dict[tuple[Fragment, ...], str] = {}

    def entity(fragments: tuple[Fragment, ...], kind: str, **properties: str) -> str:
        ids[fragments] = f"{len(ids) + 1}@e@{labelled.document_id}@gold"
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in properties.items())
        span = ";".join(f"{start},{end}" for start, end in fragments)
        return ENTITY.format(id=ids[fragments], span=span, type=kind, properties=inside)

    yield entity((labelled.note.doctime,), "DOCTIME")
    for place in labelled.note.sectiontimes:
        yield entity((place,), "SECTIONTIME")
    links = []
    for sentence in labelled.note.sentences:
        for timex in sentence.timexes:
            yield entity((timex.fragment,), "TIMEX3", Class=timex.kind)
        events = [span for span in sentence.spans if labelled.class_of(span) in EVENTS]
        for span in events:
            yield entity(span.fragments, "EVENT", **_properties(sentence, span, labelled.class_of(span)))
        times = [timex for timex in sentence.timexes if not timex.listed]
        contained = [span for span in sentence.about if span in events]
        links += [((timex.fragment,), span.fragments) for timex in times for span in contained]
    for number, (source, target) in enumerate(links, start=1):
        yield CONTAINS.format(
            id=f"{number}@r@{labelled.document_id}@gold", source=ids[source], target=ids[target]
        )


def _properties(sentence: Sentence, span: Span, semantic_class: str) -> dict[str, str]:
    """The seven properties of an EVENT; all cues but `when` speak of slot 0 alone."""
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
