"""Practice notes as BRAT stand-off: every term typed by its class, relations by pairs of classes.

write(labelled, folder)    # <doc>.txt, <doc>.ann
"""

from __future__ import annotations

from pathlib import Path

from kaggle_kit.data.practice.labels import LabelledNote


def write(labelled: LabelledNote, folder: Path) -> None:
    text = labelled.note.text
    ids: dict[tuple[tuple[int, int], ...], str] = {}
    lines = []
    for number, (_, span) in enumerate(labelled.spans(), start=1):
        ids[span.fragments] = f"T{number}"
        offsets = ";".join(f"{start} {end}" for start, end in span.fragments)
        words = " ".join(text[start:end] for start, end in span.fragments)
        lines.append(f"T{number}\t{labelled.class_of(span).capitalize()} {offsets}\t{words}")
    for number, (kind, source, target) in enumerate(labelled.relations(), start=1):
        lines.append(f"R{number}\t{kind} Arg1:{ids[source.fragments]} Arg2:{ids[target.fragments]}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{labelled.document_id}.txt").write_bytes(text.encode())
    (folder / f"{labelled.document_id}.ann").write_bytes("".join(f"{line}\n" for line in lines).encode())
