"""What every format reader shares: decoding, problems with path and line, and the checks on a sample.

A format is a module with three functions and the constant EXPECTED_FILES, a phrase for errors; one that is
only read has no `files`:

    find(folder)             -> list[Path]                       the files to read, in a fixed order
    read_file(path, reading) -> list[UnifiedSample]              the samples of one file
    files(samples)           -> Iterator[tuple[str, list[str]]]  the same format, for predictions: the path of
                                                                 each file below the folder, and its lines

`read_file` raises `CorpusError` for a file that cannot be read at all, calls `reading.reject` for a record
that cannot be used, and `reading.warn` for an oddity with a defined outcome (a repeated line). A text that a
file stores beside its offsets goes through `reading.compare`: the offsets win.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import NOTHING, Access, Mention, Provenance, Relation, UnifiedSample
from kaggle_kit.data.segments import canonical

BLANKS = str.maketrans("\r\n\t", "   ")  # what formats of lines and columns write for white space

MAX_REJECTED = 0.5  # share of the records; beyond it the files are of another format
MAX_DISAGREEING = 0.05  # share of the stored texts that may not be the text at their offsets
CONSTANT = 0.8  # share of those from which on a shift is named as their common one
FARTHEST = 10  # characters that a shift is looked for
SHIFTS = sorted(range(-FARTHEST, FARTHEST + 1), key=abs)
MAX_CUT = 0.5  # share of the mentions that may begin or end inside a word, where no text is stored


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a corpus file.

    An error makes the corpus unusable, a skipped record is not read, a warning changes nothing.
    """

    severity: str  # "error" | "skipped" | "warning"
    path: Path
    line: int | None
    found: str
    expected: str

    @classmethod
    def from_error(cls, severity: str, error: CorpusError) -> Problem:
        """Make a finding of a reader's error, at the error's path and line."""
        return cls(severity, error.path, error.line, error.found, error.expected)

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else f"{self.path}"
        return f"{self.severity}: {where}: found {self.found}; expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Line:
    """A place in a corpus file: a numbered line with its text, or where an XML element begins."""

    path: Path
    number: int | None = None
    text: str = ""

    @property
    def provenance(self) -> Provenance:
        """The place as annotations carry it."""
        return Provenance(str(self.path), self.number)

    def error(self, found: str, expected: str) -> CorpusError:
        """Return the error that names this place."""
        return CorpusError(self.path, line=self.number, found=found, expected=expected)

    def integer(self, text: str, what: str) -> int:
        """Parse a non-negative decimal integer; CorpusError names what it should have been."""
        if text.isascii() and text.isdigit() and len(text) < 16:
            return int(text)
        raise self.error(f"{what} {quoted(text, 40)}", "a non-negative integer")


@dataclass
class Tally:
    """What was read of a split: records and how many of them could not be used, stored texts and how far off.

    `shifts` maps a number of characters to how often a stored text stands so far behind its offsets; None
    counts those that are found nowhere near. Where no texts are stored, `fits` maps each of `SHIFTS` to how
    many of the `placed` mentions would cut no word there.
    """

    records: int = 0
    rejected: int = 0
    first: CorpusError | None = None  # of the rejected ones
    compared: int = 0
    shifts: Counter[int | None] = field(default_factory=Counter)
    placed: int = 0
    fits: Counter[int] = field(default_factory=Counter)

    def place(self, sample: UnifiedSample) -> None:
        """Count where the mentions would cut no word, as long as no stored texts were compared."""
        text = sample.text
        if text is None or self.compared:
            return
        for mention in sample.mentions:
            self.placed += 1
            self.fits.update(s for s in SHIFTS if _fits(text, mention.start + s, mention.end + s))

    def errors(self, root: Path) -> Iterator[CorpusError]:
        """Yield the faults of the whole split: most records odd, or offsets that count something else."""
        if self.first and self.rejected > MAX_REJECTED * self.records:
            found = f"{self.rejected} of {self.records} records that cannot be used, the first: "
            yield Line(self.first.path, self.first.line).error(found + self.first.found, self.first.expected)
        wrong, cut = self.shifts.total(), self.placed - self.fits[0]
        if wrong > MAX_DISAGREEING * self.compared:
            found = f"{wrong} of {self.compared} stored texts that are not the text at their offsets"
            (shift, times), *_ = self.shifts.most_common(1)
        elif not self.compared and cut > MAX_CUT * self.placed:
            found = f"{cut} of {self.placed} mentions that begin or end inside a word, or with a blank"
            shift = max(SHIFTS, key=self.fits.__getitem__)
            wrong, times = self.placed, self.fits[shift]
        else:
            return
        if shift is not None and times >= CONSTANT * wrong:
            side = "later" if shift > 0 else "earlier"
            found += f"; {times} of them stand {abs(shift)} character(s) {side}"
        yield Line(root).error(found, "offsets that count the characters of these texts")


@dataclass
class Reading:
    """What a reader is told about the corpus, and where it leaves what it found."""

    split: str = "train"
    access: Access = Access.PUBLIC
    root: Path | None = None  # of the corpus, where what belongs to a file may lie elsewhere
    text_folder: Path | None = None  # looked at when a document's text is not beside its annotations
    options: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    strict: bool = False  # the first record that cannot be used is an error of the file
    warnings: list[Problem] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def warn(self, oddity: CorpusError) -> None:
        """Add an oddity that changes nothing to the warnings."""
        self.warnings.append(Problem.from_error("warning", oddity))

    def reject(self, error: CorpusError) -> None:
        """Report one record and read on without it; raises the error where the reading is strict."""
        if self.strict:
            raise error
        self.tally.rejected += 1
        self.tally.first = self.tally.first or error
        self.warnings.append(Problem.from_error("skipped", error))

    @contextmanager
    def record(self, again: bool = False) -> Iterator[None]:
        """Let a CorpusError cost the record at hand and not the file. `again`: it was counted before."""
        self.tally.records += not again
        try:
            yield
        except CorpusError as error:
            self.reject(error)

    def compare(self, mention: Mention, stored: str, text: str, path: Path) -> None:
        """Hold the stored text of a mention against the document; a difference is a warning and is counted.

        Line breaks and tabs may be stored as blanks. What differs in white space or case alone is no sign of
        wrong offsets.
        """
        if mention.end > len(text):
            return  # `checked` rejects it
        self.tally.compared += 1
        actual = mention.text(text).translate(BLANKS)
        if actual == stored:
            return
        found = f"stored text {quoted(stored, 40)} of {quoted(mention.id)}"
        self.warn(origin(mention, path).error(found, f"{quoted(actual, 40)}, the text at its offsets"))
        if canonical(actual) != canonical(stored):
            self.tally.shifts[_shift(mention, stored, text)] += 1

    def text_of(
        self, path: Path, name: str, endings: Sequence[str], folders: Sequence[Path] = ()
    ) -> str | None:
        """Return the text of document `name`: the file itself if it is one, else the text that belongs to it.

        That is looked for in the folders, beside the file, and in `text_folder`; its absence is a warning.
        """
        if path.suffix.lower() in endings:
            return decode(path)
        for folder in filter(None, (*folders, path.parent, self.text_folder)):
            if place := sibling(folder, name, *endings):
                return decode(place)
        self.warn(CorpusError(path, found="no text", expected=f"{name}{endings[0]} beside the annotations"))
        return None

    def sample(
        self,
        document_id: str,
        text: str | None,
        mentions: Iterable[Mention],
        relations: Iterable[Relation],
        at: Line,
    ) -> UnifiedSample:
        """Return a document of this split, read from the place."""
        parts = self.split, self.access, tuple(mentions), tuple(relations)
        return UnifiedSample(document_id, text, *parts, provenance=at.provenance)


def _shift(mention: Mention, stored: str, text: str) -> int | None:
    """How many characters behind its offsets the stored text stands, the nearest place first."""
    for shift in SHIFTS:
        if mention.start + shift >= 0:
            pieces = tuple((start + shift, end + shift) for start, end in mention.fragments)
            if replace(mention, fragments=pieces).text(text).translate(BLANKS) == stored:
                return shift
    return None


def _fits(text: str, start: int, end: int) -> bool:
    """Whether a stretch lies in the text, cuts no word, and has no blank at its ends."""
    if not 0 <= start < end <= len(text) or text[start].isspace() or text[end - 1].isspace():
        return False
    return not any(0 < at < len(text) and text[at - 1 : at + 1].isalnum() for at in (start, end))


def corpus_files(folder: Path, *endings: str) -> list[Path]:
    """Return all files below the folder with one of the endings, in any case, sorted, without `leftover`s.

    Linked folders are entered, but none that is a folder above itself.
    """
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {here.resolve(), *here.resolve().parents}
        folders[:] = [name for name in folders if (here / name).resolve() not in above]
        found += [here / name for name in files if name.lower().endswith(endings) and (here / name).is_file()]
    return sorted(path for path in found if not leftover(path.relative_to(folder)))


def sibling(folder: Path, stem: str, *endings: str) -> Path | None:
    """Return the file of that name with the first of the endings that exists, in lower or upper case."""
    spelt = [way for ending in endings for way in (ending, ending.upper(), f".{ending[1:].capitalize()}")]
    return next((place for way in spelt if (place := folder / f"{stem}{way}").is_file()), None)


def flat(document_id: str) -> str:
    """Return a document's name in formats of one folder: `b1__001` for document 001 of sub-folder b1."""
    return document_id.replace("/", "__")


def leftover(place: Path) -> bool:
    """Whether a path below a corpus folder is what a system or an editor left there: hidden, or of a Mac."""
    return any(part.startswith(".") or part == "__MACOSX" for part in place.parts)


def readme(path: Path) -> bool:
    """Whether a text file describes a corpus instead of being part of it."""
    return path.name.lower().startswith(("readme", "license", "licence"))


def decode(path: Path) -> str:
    """Return the file's text, line endings untouched, a leading byte order mark dropped.

    Raises CorpusError for bytes that are not UTF-8 (naming the line) and for unreadable files.
    """
    try:
        return (raw := path.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        found = f"unreadable file ({error.strerror})"
        raise CorpusError(path, found=found, expected="a readable file") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        found = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise Line(path, line).error(found, "UTF-8 text") from error


def lines(path: Path) -> list[Line]:
    """Return the non-blank lines of an annotation file, without line ends (LF, CRLF, or CR alone)."""
    text = decode(path)
    ends = "\r" if "\n" not in text.rstrip() else "\n"
    numbered = ((number, line.strip("\r\n")) for number, line in enumerate(text.split(ends), start=1))
    return [Line(path, number, line) for number, line in numbered if line.strip()]


def checked(sample: UnifiedSample, path: Path, reading: Reading) -> UnifiedSample:
    """Return the sample without mentions and relations that cannot be used, each of them rejected.

    In the others offsets are ordered and inside the text, ids unique, and the ends of relations known.
    """
    mentions: dict[str, Mention] = {}
    for mention in sample.mentions:
        with reading.record(again=True):
            where = origin(mention, path)
            if mention.id in mentions:
                raise where.error(f"mention id {quoted(mention.id)} twice", "unique ids")
            for start, end in mention.fragments:
                if not 0 <= start < end:
                    raise where.error(f"span {start}-{end}", "start before end")
                if sample.text is not None and end > len(sample.text):
                    found = f"span {start}-{end} in a text of {len(sample.text)} characters"
                    raise where.error(found, "offsets inside the text")
            mentions[mention.id] = mention
    relations = []
    for relation in sample.relations:
        with reading.record(again=True):
            for name in (relation.source, relation.target):
                if name not in mentions:
                    found = f"relation {quoted(relation.id)} to unknown id {quoted(name, 40)}"
                    raise origin(relation, path).error(found, "the id of a mention")
            relations.append(relation)
    return replace(sample, mentions=tuple(mentions.values()), relations=tuple(relations))


def origin(record: Mention | Relation | UnifiedSample, path: Path) -> Line:
    """Return the place of a record that was read from the file."""
    return Line(path, record.provenance.line if record.provenance else None)
