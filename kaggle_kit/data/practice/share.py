"""Practice notes as ShARe files: the pipes of 2014 Task 7 and the 19 slots of 2015 Task 14.

write_pipe(labelled, folder)    # <doc>.text, <doc>.pipe
write_slots(labelled, folder)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kaggle_kit.data.practice.labels import LabelledNote
from kaggle_kit.data.practice.notes import Fragment, Sentence, Span

# The slots in the order of the file, with the value that a mention without cue gets.
SLOTS = {
    "negation": "no",
    "subject": "patient",
    "uncertainty": "no",
    "course": "unmarked",
    "severity": "unmarked",
    "conditional": "false",
    "generic": "false",
}


def write_pipe(labelled: LabelledNote, folder: Path) -> None:
    """2014 Task 7: disorders are Disease_Disorder, the other classes are not annotated."""
    name = f"{labelled.document_id}.txt"
    lines = [
        "||".join(
            (
                name,
                "Disease_Disorder",
                labelled.concept_of(span),
                *(str(o) for f in span.fragments for o in f),
            )
        )
        for _, span in labelled.of_class("disorder")
    ]
    _write(labelled, folder, lines)


def write_slots(labelled: LabelledNote, folder: Path) -> None:
    """2015 Task 14: disorders with their slots. Cues speak of slot 0 of their carrier sentence, and
    an anatomy term in a locating slot is its body location; two of them make two lines."""
    lines = []
    for sentence, span in labelled.of_class("disorder"):
        fields = [f"{labelled.document_id}.txt", _span(span.fragments), labelled.concept_of(span)]
        for slot, default in SLOTS.items():
            cue = sentence.cues.get(slot) if span.slot == 0 else None
            fields += [cue[0], _span((cue[1],))] if cue else [default, "null"]
        locations = list(_locations(labelled, sentence, span)) or [("null", "null")]
        lines += ["|".join((*fields, *location)) for location in locations]
    _write(labelled, folder, lines)


def _locations(labelled: LabelledNote, sentence: Sentence, span: Span) -> Iterator[tuple[str, str]]:
    for other in sentence.outer:
        if span.slot == 0 and other.locates and labelled.class_of(other) == "anatomy":
            yield other.term.cui, _span(other.fragments)


def _span(fragments: tuple[Fragment, ...]) -> str:
    return ",".join(f"{start}-{end}" for start, end in fragments)


def _write(labelled: LabelledNote, folder: Path, lines: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{labelled.document_id}.text"
    path.write_bytes(labelled.note.text.encode())
    path.with_suffix(".pipe").write_bytes("".join(f"{line}\n" for line in lines).encode())
