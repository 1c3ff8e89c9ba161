"""What the two ShARe pipe formats have in common: which files, which text, whose document.

path = find(folder)[0]; sample = document(path, reading, mentions, doc_field)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files, decode

DISORDER = "Disease_Disorder"
NO_CONCEPT = "CUI-less"
TEXT_SUFFIXES = (".text", ".txt")


def find(folder: Path) -> list[Path]:
    """Every `.pipe` file below the folder, and every `.text` file whose document has none, sorted.

    A note without a disorder may come without annotation file; it is a sample all the same.
    """
    pipes = corpus_files(folder, ".pipe")
    annotated = {path.stem for path in pipes}
    return sorted(pipes + [path for path in corpus_files(folder, ".text") if path.stem not in annotated])


def document(
    path: Path, reading: Reading, mentions: Iterable[Mention] = (), doc_field: str | None = None
) -> UnifiedSample:
    """The sample of a `.pipe` file (its text looked up) or of a bare `.text` file.

    `doc_field` is the document's name as its lines spell it, kept so that writing repeats it.
    """
    text = decode(path) if path.suffix in TEXT_SUFFIXES else _text_of(path, reading)
    return UnifiedSample(
        document_id=path.stem,
        text=text,
        split=reading.split,
        access=reading.access,
        mentions=tuple(mentions),
        metadata={"doc_field": doc_field or default_field(path.stem)},
        provenance=Provenance(str(path)),
    )


def default_field(document_id: str) -> str:
    """A document's name in its own lines, as the organisers spell it."""
    return f"{document_id}.txt"


def check_field(doc_field: str, path: Path, line: int) -> None:
    """CorpusError unless the line names the document of its file, whatever the case."""
    named = doc_field
    for suffix in TEXT_SUFFIXES:
        named = named.removesuffix(suffix)
    if named.lower() != path.stem.lower():
        expected = f"the file's own document, {default_field(path.stem)!r}"
        raise CorpusError(path, line=line, found=f"document name {quoted(doc_field, 80)}", expected=expected)


def _text_of(path: Path, reading: Reading) -> str | None:
    folders = [path.parent] if reading.text_folder is None else [path.parent, reading.text_folder]
    candidates = [folder / f"{path.stem}{suffix}" for folder in folders for suffix in TEXT_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return decode(candidate)
    reading.warn(path, None, found="no text of this document", expected=f"{path.stem}.text beside it")
    return None
