"""BRAT stand-off: `<doc>.ann` beside `<doc>.txt`, with discontinuous spans, relations and events.

    samples = read("brat", Path("ddi2013/train"))

Events become mentions (their trigger) and one relation per role argument; wherever an event's id is
used, its trigger is meant. Offsets are characters of the text file, ends exclusive.
Format: https://brat.nlplab.org/standoff.html
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import NOTHING, Mention, Relation, UnifiedSample
from kaggle_kit.data.formats.base import BLANKS, Line, Reading, corpus_files, lines, readme, sibling

EXPECTED_FILES = "<doc>.ann files, with <doc>.txt beside them"

NO_TEXT = "-"  # brateval drops a T line whose third field is empty
ANNOTATIONS = (".ann", ".a1", ".a2")  # of the BioNLP shared tasks: given mentions, then what is to be found

# First letter of a line -> its fields, and what they should have been.
FIELDS = {
    "T": (r"(\S+)\t(\S+) ([^\t]+)\t(.*)", "T<n>, TAB, type start end[;start end …], TAB, text"),
    "R": (r"(\S+)\t(\S+) ([^\s:]+):(\S+) ([^\s:]+):(\S+)\s*", "R<n>, TAB, type Arg1:id Arg2:id"),
    "E": (r"(\S+)\t[^\s:]+:(\S+)((?: +[^\s:]+:\S+)*)\s*", "E<n>, TAB, type:trigger role:id …"),
    "A": (r"\S+\t(\S+) (\S+)(?: (.*\S))?\s*", "A<n>, TAB, name id [value]"),
    "N": (r"\S+\t\S+ (\S+) ([^\t]+)(?:\t.*)?", "N<n>, TAB, Reference id resource:concept, TAB, name"),
}
FIELDS["M"] = FIELDS["A"]
PASSED = ("#", "*")  # notes and equivalences


def find(folder: Path) -> list[Path]:
    """Return one file per document: its `.ann` (or `.a1`), else the `.txt` that nobody annotated.

    A read-me or licence without annotations is no document.
    """
    chosen: dict[Path, Path] = {}
    for ending in (*ANNOTATIONS, ".txt"):
        for path in corpus_files(folder, ending):
            if ending != ".txt" or not readme(path):
                chosen.setdefault(path.with_suffix(""), path)
    return sorted(chosen.values())


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the one document of an `.ann` file, of `.a1` and `.a2`, or of a `.txt` without annotations.

    Notes (#), equivalences (*) and normalisations of a shared task are read past. A malformed line is
    rejected, and so is what refers to it.
    """
    text = reading.text_of(path, path.stem, [".txt"])
    ending = path.suffix.lower()
    if ending == ".ann" and (second := sibling(path.parent, path.stem, *ANNOTATIONS[1:])):
        found = f"annotations beside {path.name}"
        reading.warn(CorpusError(second, found=found, expected="one of the two; it stands"))
    parts = [] if ending == ".txt" else [path]
    if ending == ".a1" and (second := sibling(path.parent, path.stem, ".a2")):
        parts.append(second)
    document = _Document()
    for line in (line for part in parts for line in lines(part)):
        with reading.record():
            document.add(line)
    document.resolve(reading)
    if text is not None:
        for mention, stored in zip(document.mentions, document.stored_texts, strict=True):
            if stored != NO_TEXT:
                reading.compare(mention, stored, text, path)
    return [reading.sample(path.stem, text, document.mentions, document.relations, Line(path))]


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one `<doc>.ann` per sample, empty where nothing was annotated: the scorer wants every file."""
    for sample in samples:
        yield f"{sample.document_id}.ann", _annotation_lines(sample)


@dataclass
class _Document:
    """The annotations of one document as they are read; ids are resolved once all lines are known."""

    mentions: list[Mention] = field(default_factory=list)
    stored_texts: list[str] = field(default_factory=list)  # of the mentions
    relations: list[Relation] = field(default_factory=list)
    triggers: dict[str, str] = field(default_factory=dict)  # event id -> id of its trigger
    additions: list[tuple[Line, str, str | None, str]] = field(default_factory=list)
    """Line, the id it is about, the attribute's name (None for a concept), and the value."""

    def add(self, line: Line) -> None:
        """Take in one line; CorpusError where it is malformed."""
        kind = line.text[0]
        if kind in PASSED:
            return
        if kind not in FIELDS:
            raise line.error(quoted(line.text), "a line that begins with T, R, E, A, M, N, # or *")
        pattern, expected = FIELDS[kind]
        if not (matched := re.fullmatch(pattern, line.text)):
            raise line.error(quoted(line.text), expected)
        match kind, matched.groups():
            case "T", (name, label, spans, stored):
                pieces = tuple(_piece(span, line) for span in spans.strip().split(";"))
                self.mentions.append(Mention(name, pieces, label, provenance=line.provenance))
                self.stored_texts.append(stored)
            case "R", (name, label, role1, source, role2, target):
                roles = role1, role2
                self.relations.append(Relation(name, label, source, target, roles, NOTHING, line.provenance))
            case "E", (event, trigger, arguments):
                self.triggers[event] = trigger
                for place, argument in enumerate(arguments.split(), start=1):
                    role, target = argument.split(":", 1)
                    name, more = f"{event}.{place}", {"event": event}
                    link = Relation(name, role, event, target, attributes=more, provenance=line.provenance)
                    self.relations.append(link)
            case "N", (target, concept):
                self.additions.append((line, target, None, concept))
            case _, (name, target, value):
                self.additions.append((line, target, name, value or "true"))

    def resolve(self, reading: Reading) -> None:
        """Give mentions and relations what other lines say of them, and put triggers for events."""
        known = {mention.id for mention in self.mentions} | {relation.id for relation in self.relations}
        attributes: defaultdict[str, dict[str, str]] = defaultdict(dict)
        concepts: defaultdict[str, list[str]] = defaultdict(list)
        for line, target, name, value in self.additions:
            with reading.record(again=True):
                owner = self.triggers.get(target, target)
                if owner not in known:
                    raise line.error(quoted(target), "the id of a mention, event or relation of this file")
                if name is None:
                    concepts[owner].append(value)
                else:
                    attributes[owner][name] = value
        for place, mention in enumerate(self.mentions):
            of_mention = attributes.get(mention.id, NOTHING), tuple(concepts.get(mention.id, ()))
            self.mentions[place] = replace(mention, attributes=of_mention[0], concepts=of_mention[1])
        for place, link in enumerate(self.relations):
            source, target = (self.triggers.get(end, end) for end in (link.source, link.target))
            more = {**link.attributes, **attributes.get(link.id, {})}
            self.relations[place] = replace(link, source=source, target=target, attributes=more)


def _piece(span: str, line: Line) -> tuple[int, int]:
    if len(ends := span.split()) != 2:
        raise line.error(quoted(span), "start and end of a piece")
    return line.integer(ends[0], "offset"), line.integer(ends[1], "offset")


def _annotation_lines(sample: UnifiedSample) -> list[str]:
    links = [relation for relation in sample.relations if "event" not in relation.attributes]
    names, numbers = _numbered("T", [m.id for m in sample.mentions]), _numbered("R", [r.id for r in links])
    types = {mention.id: mention.type for mention in sample.mentions}
    written = []
    for mention in sample.mentions:
        spans = ";".join(f"{start} {end}" for start, end in mention.fragments)
        words = mention.text(sample.text).translate(BLANKS) if sample.text is not None else NO_TEXT
        written.append(f"{names[mention.id]}\t{_word(mention.type)} {spans}\t{words or NO_TEXT}")
    for link in links:
        (role1, role2), source, target = link.roles, names[link.source], names[link.target]
        written.append(f"{numbers[link.id]}\t{_word(link.type)} {role1}:{source} {role2}:{target}")
    events: dict[str, str] = {}  # those without arguments are no more than their trigger
    for relation in sample.relations:
        if event := relation.attributes.get("event"):
            start = f"{event}\t{types[relation.source]}:{names[relation.source]}"
            events[event] = f"{events.get(event, start)} {relation.type}:{names[relation.target]}"
    owners = [(names[mention.id], mention.attributes) for mention in sample.mentions]
    owners += [(numbers[link.id], link.attributes) for link in links]
    named = [f"{_word(key)} {one} {v.translate(BLANKS)}" for one, given in owners for key, v in given.items()]
    concepts = [f"{names[m.id]} {one.translate(BLANKS)}" for m in sample.mentions for one in m.concepts]
    written += [*events.values(), *(f"A{n}\t{attribute}" for n, attribute in enumerate(named, start=1))]
    return written + [f"N{n}\tReference {concept}\t" for n, concept in enumerate(concepts, start=1)]


def _word(name: str) -> str:
    """Return a name without white space, which ends a field: `Adverse event` becomes `Adverse_event`."""
    return "_".join(name.split())


def _numbered(letter: str, ids: Sequence[str]) -> dict[str, str]:
    """Ids as brat wants them: kept where all are a letter and a number already, else counted anew."""
    own = all(re.fullmatch(rf"{letter}\d+", name) for name in ids)
    return {name: name if own else f"{letter}{place}" for place, name in enumerate(ids, start=1)}
