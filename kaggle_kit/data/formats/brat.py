"""BRAT stand-off: `<doc>.ann` beside `<doc>.txt`, with discontinuous spans, relations and events.

    samples = read("brat", Path("ddi2013/train"))

Events become mentions (their trigger) and one relation per role argument; wherever an event's id is
used, its trigger is meant. Offsets are characters of the text file, ends exclusive.
Format: https://brat.nlplab.org/standoff.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, Relation, UnifiedSample
from kaggle_kit.data.formats.base import (
    BLANKS,
    Reading,
    corpus_files,
    decode,
    integer,
    lines,
    readme,
    sibling,
)

EXPECTED_FILES = "<doc>.ann files, with <doc>.txt beside them"

NO_TEXT = "-"  # brateval drops a T line whose third field is empty
ANNOTATIONS = (".ann", ".a1", ".a2")  # of the BioNLP shared tasks: given mentions, then what is to be found


def find(folder: Path) -> list[Path]:
    """One file per document: its `.ann` (or `.a1`), else the `.txt` that nobody annotated.

    A read-me or licence without annotations is no document.
    """
    chosen: dict[Path, Path] = {}
    for ending in (*ANNOTATIONS, ".txt"):
        for path in corpus_files(folder, ending):
            if ending != ".txt" or not readme(path):
                chosen.setdefault(path.with_suffix(""), path)
    return sorted(chosen.values())


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """The one document of an `.ann` file, of `.a1` and `.a2`, or of a `.txt` file that nobody annotated.

    Notes (#), equivalences (*) and normalisations of a shared task are read past. A malformed line is
    rejected, and so is what refers to it.
    """
    text = _document_text(path, reading)
    if path.suffix.lower() == ".ann" and (second := sibling(path.parent, path.stem, *ANNOTATIONS[1:])):
        reading.warn(
            second, None, found=f"annotations beside {path.name}", expected="one of the two; it stands"
        )
    document = _Document(path, reading)
    for part in _annotation_files(path):
        document.path = part
        for number, line in lines(part):
            with reading.record():
                document.add(number, line)
    mentions = tuple(document.finished_mentions())
    if text is not None:
        for mention in mentions:
            if (stored := document.stored_texts[mention.id]) != NO_TEXT:
                reading.compare(mention, stored, text, path)
    return [
        UnifiedSample(
            document_id=path.stem,
            text=text,
            split=reading.split,
            access=reading.access,
            mentions=mentions,
            relations=tuple(document.finished_relations()),
            provenance=Provenance(str(path)),
        )
    ]


def write(samples: Iterable[UnifiedSample], folder: Path) -> list[Path]:
    """One `<doc>.ann` per sample, empty where nothing was annotated: the scorer wants every file."""
    paths = []
    for sample in samples:
        path = folder / f"{sample.document_id}.ann"
        path.write_text(
            "".join(f"{line}\n" for line in _annotation_lines(sample)), encoding="utf-8", newline=""
        )
        paths.append(path)
    return paths


@dataclass
class _Document:
    """One `.ann` file as it is read; references are resolved once all lines are known."""

    path: Path  # of the lines at hand
    reading: Reading
    mentions: dict[str, Mention] = field(default_factory=dict)
    repeated: list[Mention] = field(default_factory=list)
    stored_texts: dict[str, str] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    triggers: dict[str, str] = field(default_factory=dict)  # event id -> id of its trigger
    attributes: list[tuple[Path, int, str, str, str]] = field(default_factory=list)  # …, target, name, value
    concepts: list[tuple[Path, int, str, str]] = field(default_factory=list)  # …, target, concept id

    def add(self, number: int, line: str) -> None:
        readers = {"T": self._mention, "R": self._relation, "E": self._event, "N": self._concept}
        readers |= {"A": self._attribute, "M": self._attribute, "#": self._nothing, "*": self._nothing}
        reader = readers.get(line[0])
        if reader is None:
            raise self._error(number, line, "a line that begins with T, R, E, A, M, N, # or *")
        reader(number, line)

    def _mention(self, number: int, line: str) -> None:
        matched = re.fullmatch(r"(\S+)\t(\S+) ([^\t]+)\t(.*)", line)
        if not matched:
            raise self._error(number, line, "T<n>, TAB, type start end[;start end …], TAB, text")
        name, kind, spans, stored = matched.groups()
        fragments = tuple(self._fragment(number, span) for span in spans.strip().split(";"))
        mention = Mention(name, fragments, kind, provenance=Provenance(str(self.path), number))
        if name in self.mentions:
            self.repeated.append(mention)  # the shared check of a sample reports it, with its line
        self.mentions.setdefault(name, mention)
        self.stored_texts.setdefault(name, stored)

    def _fragment(self, number: int, span: str) -> tuple[int, int]:
        if len(ends := span.split()) != 2:
            raise self._error(number, span, "start and end of a piece")
        start, end = (integer(end, self.path, number, "offset") for end in ends)
        return start, end

    def _relation(self, number: int, line: str) -> None:
        matched = re.fullmatch(r"(\S+)\t(\S+) ([^\s:]+):(\S+) ([^\s:]+):(\S+)", line.rstrip())
        if not matched:
            raise self._error(number, line, "R<n>, TAB, type Arg1:id Arg2:id")
        name, kind, role1, source, role2, target = matched.groups()
        where = Provenance(str(self.path), number)
        self.relations.append(Relation(name, kind, source, target, (role1, role2), provenance=where))

    def _event(self, number: int, line: str) -> None:
        matched = re.fullmatch(r"(\S+)\t[^\s:]+:(\S+)((?: +[^\s:]+:\S+)*)\s*", line)
        if not matched:
            raise self._error(number, line, "E<n>, TAB, type:trigger role:id …")
        event, trigger, arguments = matched.groups()
        self.triggers[event] = trigger
        where = Provenance(str(self.path), number)
        for place, argument in enumerate(arguments.split(), start=1):
            role, target = argument.split(":", 1)
            link = Relation(
                f"{event}.{place}", role, event, target, attributes={"event": event}, provenance=where
            )
            self.relations.append(link)

    def _attribute(self, number: int, line: str) -> None:
        matched = re.fullmatch(r"\S+\t(\S+) (\S+)(?: (.*))?", line.rstrip())
        if not matched:
            raise self._error(number, line, "A<n>, TAB, name id [value]")
        name, target, value = matched.groups()
        self.attributes.append((self.path, number, target, name, value or "true"))

    def _concept(self, number: int, line: str) -> None:
        matched = re.fullmatch(r"\S+\t\S+ (\S+) ([^\t]+)(?:\t.*)?", line)
        if not matched:
            raise self._error(number, line, "N<n>, TAB, Reference id resource:concept, TAB, name")
        self.concepts.append((self.path, number, *matched.groups()))

    def _nothing(self, number: int, line: str) -> None:
        """A note or an equivalence: no part of the sample."""

    def finished_mentions(self) -> list[Mention]:
        """Mentions with the attributes and concepts that other lines gave them."""
        attributes = self._attributes_by_target
        concepts: dict[str, list[str]] = {}
        for path, number, target, concept in self.concepts:
            with self.reading.record(again=True):
                concepts.setdefault(self._known(path, number, target), []).append(concept)
        finished = []
        for mention in self.mentions.values():
            extra = {"attributes": attributes[mention.id]} if mention.id in attributes else {}
            finished.append(replace(mention, concepts=tuple(concepts.get(mention.id, ())), **extra))
        return finished + self.repeated

    def finished_relations(self) -> list[Relation]:
        """Relations between mentions: an event's id is replaced by its trigger's."""
        attributes = self._attributes_by_target
        return [
            replace(
                relation,
                source=self._trigger(relation.source),
                target=self._trigger(relation.target),
                attributes={**relation.attributes, **attributes.get(relation.id, {})},
            )
            for relation in self.relations
        ]

    @cached_property
    def _attributes_by_target(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for path, number, target, name, value in self.attributes:
            with self.reading.record(again=True):
                found.setdefault(self._known(path, number, target), {})[name] = value
        return found

    @cached_property
    def _names(self) -> set[str]:
        """Every id that an attribute or a concept may be given to."""
        return {*self.mentions, *(relation.id for relation in self.relations)}

    def _trigger(self, name: str) -> str:
        return self.triggers.get(name, name)

    def _known(self, path: Path, number: int, target: str) -> str:
        name = self._trigger(target)
        if name not in self._names:
            expected = "the id of a mention, event or relation of this file"
            raise CorpusError(path, line=number, found=quoted(target), expected=expected)
        return name

    def _error(self, number: int, found: str, expected: str) -> CorpusError:
        return CorpusError(self.path, line=number, found=quoted(found), expected=expected)


def _annotation_files(path: Path) -> list[Path]:
    """The file, and the `.a2` beside an `.a1`; none for a text."""
    if path.suffix.lower() == ".txt":
        return []
    second = sibling(path.parent, path.stem, ".a2") if path.suffix.lower() == ".a1" else None
    return [path, second] if second else [path]


def _document_text(path: Path, reading: Reading) -> str | None:
    for folder in filter(None, (path.parent, reading.text_folder)):
        if place := sibling(folder, path.stem, ".txt"):
            return decode(place)
    reading.warn(path, None, found="no text beside the annotations", expected=f"{path.stem}.txt")
    return None


def _annotation_lines(sample: UnifiedSample) -> list[str]:
    names = _numbered("T", [mention.id for mention in sample.mentions])
    written = [_mention_line(names[mention.id], mention, sample.text) for mention in sample.mentions]
    links = [relation for relation in sample.relations if "event" not in relation.attributes]
    numbers = _numbered("R", [relation.id for relation in links])
    for link in links:
        (role1, role2), source, target = link.roles, names[link.source], names[link.target]
        written.append(f"{numbers[link.id]}\t{link.type} {role1}:{source} {role2}:{target}")
    written += _event_lines(sample, names)
    owners = [(names[mention.id], mention) for mention in sample.mentions]
    named = [(owner, key, value) for owner, mention in owners for key, value in mention.attributes.items()]
    named += [(numbers[link.id], key, value) for link in links for key, value in link.attributes.items()]
    written += [f"A{n}\t{key} {owner} {value}" for n, (owner, key, value) in enumerate(named, start=1)]
    concepts = [(owner, concept) for owner, mention in owners for concept in mention.concepts]
    written += [
        f"N{n}\tReference {owner} {concept}\t" for n, (owner, concept) in enumerate(concepts, start=1)
    ]
    return written


def _mention_line(name: str, mention: Mention, text: str | None) -> str:
    spans = ";".join(f"{start} {end}" for start, end in mention.fragments)
    words = mention.text(text).translate(BLANKS) if text is not None else NO_TEXT
    return f"{name}\t{mention.type} {spans}\t{words or NO_TEXT}"


def _event_lines(sample: UnifiedSample, names: Mapping[str, str]) -> list[str]:
    """Role relations as events again; events without arguments are no more than their trigger."""
    types = {mention.id: mention.type for mention in sample.mentions}
    events: dict[str, str] = {}
    for relation in sample.relations:
        if event := relation.attributes.get("event"):
            start = f"{event}\t{types[relation.source]}:{names[relation.source]}"
            events[event] = f"{events.get(event, start)} {relation.type}:{names[relation.target]}"
    return list(events.values())


def _numbered(letter: str, ids: list[str]) -> dict[str, str]:
    """Ids as brat wants them: kept where all are a letter and a number already, else counted anew."""
    if all(re.fullmatch(rf"{letter}\d+", name) for name in ids):
        return {name: name for name in ids}
    return {name: f"{letter}{place}" for place, name in enumerate(ids, start=1)}
