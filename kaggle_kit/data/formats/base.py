"""What every format reader shares: decoding, problems with path and line, and the checks on a sample.

A format is a module with three functions:

    find(folder)            -> list[Path]            the files to read, in a fixed order
    read_file(path, reading) -> list[UnifiedSample]  the samples of one file
    write(samples, folder)  -> list[Path]            the same format, for predictions

`read_file` raises `CorpusError` for a malformed file and calls `reading.warn` for an oddity with a
defined outcome (a repeated line, stored text that disagrees with its offsets: the offsets win).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import NOTHING, Access, Provenance, UnifiedSample


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a corpus file. An error makes the corpus unusable, a warning does not."""

    severity: str  # "error" | "warning"
    path: Path
    line: int | None
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else f"{self.path}"
        return f"{self.severity}: {where}: found {self.found}; expected {self.expected}"


@dataclass
class Reading:
    """What a reader is told about the corpus, and where it leaves its warnings."""

    split: str = "train"
    access: Access = Access.PUBLIC
    text_folder: Path | None = None  # looked at when a document's text is not beside its annotations
    options: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    warnings: list[Problem] = field(default_factory=list)

    def warn(self, path: Path, line: int | None, *, found: str, expected: str) -> None:
        self.warnings.append(Problem("warning", path, line, found, expected))


def decode(path: Path) -> str:
    """The file's text, line endings untouched, a leading byte order mark dropped.

    Raises CorpusError for bytes that are not UTF-8 (naming the line) and for unreadable files.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            path, found=f"unreadable file ({error.strerror})", expected="a readable file"
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        found = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise CorpusError(path, line=line, found=found, expected="UTF-8 text") from error


def lines(path: Path) -> list[tuple[int, str]]:
    """Numbered non-blank lines of an annotation file, without line ends (LF or CRLF)."""
    numbered = enumerate(decode(path).split("\n"), start=1)
    return [
        (number, text) for number, text in ((n, t.removesuffix("\r")) for n, t in numbered) if text.strip()
    ]


def integer(text: str, path: Path, line: int | None, what: str) -> int:
    """A non-negative decimal integer, or CorpusError naming what it should have been."""
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    raise CorpusError(path, line=line, found=f"{what} {quoted(text, 40)}", expected="a non-negative integer")


def validate(sample: UnifiedSample, path: Path) -> None:
    """Checks every reader owes: offsets inside the text and ordered, ids unique, links resolvable."""
    size = len(sample.text) if sample.text is not None else None
    known: set[str] = set()
    for mention in sample.mentions:
        line = _line(mention.provenance)
        if mention.id in known:
            raise CorpusError(
                path, line=line, found=f"mention id {quoted(mention.id)} twice", expected="unique ids"
            )
        known.add(mention.id)
        for start, end in mention.fragments:
            if not 0 <= start < end:
                raise CorpusError(path, line=line, found=f"span {start}-{end}", expected="start before end")
            if size is not None and end > size:
                found = f"span {start}-{end} in a text of {size} characters"
                raise CorpusError(path, line=line, found=found, expected="offsets inside the text")
    for relation in sample.relations:
        for end_point in (relation.source, relation.target):
            if end_point not in known:
                found = f"relation {quoted(relation.id)} to unknown id {quoted(end_point, 40)}"
                raise CorpusError(
                    path, line=_line(relation.provenance), found=found, expected="the id of a mention"
                )


def _line(provenance: Provenance | None) -> int | None:
    return provenance.line if provenance else None
