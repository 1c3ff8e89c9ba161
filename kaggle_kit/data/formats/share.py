"""What the two ShARe pipe formats have in common: which files, which text, whose document.

path = find(folder)[0]; sample = document(path, reading, mentions, doc_field)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files, decode, flat, readme, sibling

DISORDER = "Disease_Disorder"
NO_CONCEPT = "CUI-less"
TEXT_SUFFIXES = (".text", ".txt")


def find(folder: Path) -> list[Path]:
    """Every `.pipe` file below the folder, and every note whose document has none, sorted.

    A note without a disorder may come without annotation file; it is a sample all the same. A note of the
    same name in another folder is another note, unless the `.pipe` file has none beside it.
    """
    pipes = corpus_files(folder, ".pipe")
    found = (path for path in corpus_files(folder, *TEXT_SUFFIXES) if not readme(path))
    texts = {path.with_suffix(""): path for path in found}
    beside = {path.with_suffix("") for path in pipes}
    elsewhere = {place.name for place in beside - texts.keys()}
    alone = [p for place, p in texts.items() if place not in beside and place.name not in elsewhere]
    return sorted(pipes + alone)


def document(
    path: Path, reading: Reading, mentions: Iterable[Mention] = (), doc_field: str | None = None
) -> UnifiedSample:
    """The sample of a `.pipe` file (its text looked up) or of a bare `.text` file.

    `doc_field` is the document's name as its lines spell it, kept so that writing repeats it.
    """
    text = decode(path) if is_text(path) else _text_of(path, reading)
    return UnifiedSample(
        document_id=path.stem,
        text=text,
        split=reading.split,
        access=reading.access,
        mentions=tuple(mentions),
        metadata={"doc_field": doc_field or default_field(path.stem)},
        provenance=Provenance(str(path)),
    )


def is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_SUFFIXES


def default_field(document_id: str) -> str:
    """A document's name in its own lines, as the organisers spell it."""
    return f"{flat(document_id)}.txt"


def field_of(sample: UnifiedSample) -> str:
    """The document's name in written lines: as it was read, or with its folder's where names recur."""
    default = default_field(sample.document_id)
    return default if "/" in sample.document_id else sample.metadata.get("doc_field", default)


def check_field(doc_field: str, path: Path, line: int) -> None:
    """CorpusError unless the line names the document of its file, whatever the case."""
    named = doc_field
    for suffix in TEXT_SUFFIXES:
        named = named.removesuffix(suffix)
    if named.lower() != path.stem.lower():
        expected = f"the file's own document, {default_field(path.stem)!r}"
        raise CorpusError(path, line=line, found=f"document name {quoted(doc_field, 80)}", expected=expected)


def _text_of(path: Path, reading: Reading) -> str | None:
    for folder in filter(None, (path.parent, reading.text_folder)):
        if place := sibling(folder, path.stem, *TEXT_SUFFIXES):
            return decode(place)
    reading.warn(path, None, found="no text of this document", expected=f"{path.stem}.text beside it")
    return None
