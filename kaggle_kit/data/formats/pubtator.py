"""PubTator: title, abstract, mentions with concepts and concept-level relations, many documents a file.

    samples = read("pubtator", Path("NCBItrainset_corpus.txt"))

    8528200|t|A title.
    8528200|a|An abstract.
    8528200<TAB>2<TAB>7<TAB>title<TAB>SpecificDisease<TAB>D003110|D009369
    8528200<TAB>CID<TAB>D003110<TAB>D009369[<TAB>Novel]

Offsets count the title, one separating character (a line break here) and the abstract, ends exclusive. Some
releases end the title in the separator itself: the way that makes more of the stored texts agree is taken.
Format: https://www.ncbi.nlm.nih.gov/research/pubtator3/tutorial and the BioCreative V CDR readme.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from kaggle_kit.core.restricted import quoted, unless_withheld
from kaggle_kit.core.types import NOTHING, Mention, Relation, UnifiedSample
from kaggle_kit.data.candidates import CONCEPTS, in_order, related_concepts
from kaggle_kit.data.formats.base import BLANKS, Line, Reading, corpus_files, lines, readme

EXPECTED_FILES = "PubTator files (*.txt or *.PubTator)"
PREDICTIONS_FILE = "predictions.PubTator.txt"

_LIST = re.compile("[,;]")
_VARIANT = re.compile(r"(?:tmVar:)?[a-z]?\|[A-Za-z]+\|")  # tmVar's normal form: sequence, kind of change, …
NO_CONCEPT = "-1"  # what the CDR corpus writes for a mention outside its vocabulary
_PASSAGE = re.compile(r"([^|\t]+)\|([ta])\|(.*)")
SEPARATORS = ("\n", "")  # what may stand between title and abstract, the usual one first
REMARK = "remark"  # the attribute for a relation's fifth field: BioRED's novelty, a system's confidence


def find(folder: Path) -> list[Path]:
    """Return every `.txt` and `.PubTator` file below the folder, read-me and licence files left out."""
    return [path for path in corpus_files(folder, ".txt", ".pubtator") if not readme(path)]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return all documents of a file, an identifier that comes back included; text is None without title.

    A relation holds between concepts: it is linked to the first mention of each and keeps
    `CONCEPTS` "C1|C2" as an attribute; without a mention of both it is dropped
    with a warning. A malformed line is rejected.
    """
    documents = _documents(path, reading)
    in_blank = [document for document in documents if document.ends_in_blank]
    usual = max(SEPARATORS, key=lambda separator: sum(document.agreeing(separator) for document in in_blank))
    return [document.sample(reading, usual) for document in documents]


def concept_relations(place: Path) -> dict[str, set[tuple[str, str, str]]]:
    """Return document -> (type, concept, concept) of every relation line of a file or folder.

    Unlike the samples' relations they need no mention: official prediction files have none. The concepts of
    an `UNDIRECTED` relation are in one order, whichever the line has.
    """
    found: dict[str, set[tuple[str, str, str]]] = {}
    for path in find(place) if place.is_dir() else [place]:
        for document in _documents(path, Reading(strict=True)):
            related = found.setdefault(document.name, set())
            for _, (_, kind, one, two, *_) in document.relations:
                related.update((kind, *in_order(kind, pair)) for pair in _pairs(one, two))
    return found


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one file with the annotations of all samples, a blank line between documents, no texts.

    The format has no pieces and no mention-level relations: a discontiguous mention is written as
    the stretch from its first to its last character, relations between mentions as those of their concepts,
    each once, and only where these are known.
    """
    annotated = [block for block in map(_annotation_lines, samples) if block]
    yield PREDICTIONS_FILE, [line for block in annotated for line in ([""] + block)][1:]


@dataclass
class _Document:
    """The lines of one document, as they are met."""

    name: str
    first: Line
    passages: dict[str, str] = field(default_factory=dict)  # "t" and "a"
    mentions: list[tuple[Line, list[str]]] = field(default_factory=list)
    relations: list[tuple[Line, list[str]]] = field(default_factory=list)

    def sample(self, reading: Reading, usual: str) -> UnifiedSample:
        """Return the document as a sample; `usual` separates the file's other titles that end in a blank."""
        first = usual if self.ends_in_blank else SEPARATORS[0]  # of equals
        chosen = max(sorted(SEPARATORS, key=first.__ne__), key=self.agreeing)
        text = self._text(chosen) if self.passages else None
        mentions = list(self._mentions(text, reading))
        return reading.sample(self.name, text, mentions, self._relations(mentions, reading), self.first)

    @property
    def ends_in_blank(self) -> bool:
        return self.passages.get("t", "").endswith(" ")

    def _text(self, separator: str) -> str:
        return separator.join(self.passages.get(part, "") for part in "ta")

    def agreeing(self, separator: str) -> int:
        """Count the stored texts that stand at their offsets where this separates title and abstract."""
        text = self._text(separator)
        return sum(
            text[int(start) : int(end)].translate(BLANKS) == words
            for _, (_, start, end, words, *_) in self.mentions
            if start.isdecimal() and end.isdecimal() and int(end) <= len(text)
        )

    def _mentions(self, text: str | None, reading: Reading) -> Iterator[Mention]:
        seen: set[tuple[str, ...]] = set()
        for line, fields in self.mentions:
            if tuple(fields) in seen:
                reading.warn(line.error("the same mention again", "each mention once"))
                continue
            seen.add(tuple(fields))
            with reading.record(again=True):
                _, start, end, stored, kind, *concepts = fields
                span, where = (line.integer(start, "start"), line.integer(end, "end")), line.provenance
                mention = Mention(f"T{len(seen)}", (span,), kind, _concepts(concepts), NOTHING, where)
                if text is not None:
                    reading.compare(mention, stored, text, line.path)
                yield mention

    def _relations(self, mentions: Iterable[Mention], reading: Reading) -> Iterator[Relation]:
        first: dict[str, str] = {}
        for mention in mentions:
            for concept in mention.concepts:
                first.setdefault(concept, mention.id)
        for place, (line, (_, kind, *ends)) in enumerate(self.relations, start=1):
            more = {REMARK: ends[2]} if ends[2:] else {}
            pairs = _pairs(*ends[:2]) or [(ends[0], ends[1])]
            linked = [pair for pair in pairs if first.keys() >= set(pair)]
            for lost in [pair for pair in pairs if pair not in linked]:
                pair = " and ".join(quoted(concept, 40) for concept in lost)
                found = f"{unless_withheld(kind, 'a relation')} between {pair}"
                reading.warn(line.error(found, "a mention of both concepts; the relation is dropped"))
            for number, (one, two) in enumerate(linked, start=1):
                name = f"R{place}" if len(linked) == 1 else f"R{place}.{number}"
                concepts = {CONCEPTS: f"{one}|{two}"} | more
                ends_at = first[one], first[two]
                yield Relation(name, kind, *ends_at, attributes=concepts, provenance=line.provenance)


def _documents(path: Path, reading: Reading) -> list[_Document]:
    """Return the documents of a file; one ends where its identifier comes with a passage that it has already.

    A line that cannot be used ends none, and an annotation belongs to the last document of its identifier.
    """
    documents: list[_Document] = []
    latest: dict[str, _Document] = {}

    def of(name: str, line: Line, passage: str = "") -> _Document:
        if name not in latest or passage in latest[name].passages:
            documents.append(_Document(name, line))
            latest[name] = documents[-1]
        return latest[name]

    for line in lines(path):
        if passage := _PASSAGE.fullmatch(line.text):
            of(passage[1].strip(), line, passage[2]).passages[passage[2]] = passage[3]
            continue
        with reading.record():
            fields = _annotation(line)
            document = of(fields[0].strip(), line)
            kept = document.mentions if fields[1].isdigit() else document.relations
            kept.append((line, fields))
    return documents


def _annotation(line: Line) -> list[str]:
    """Return the fields of a mention, whose second is a number, or of a relation."""
    fields = line.text.split("\t")
    if len(fields) in (4, 5) and fields[0] and not fields[1].isdigit():
        return [field.strip() for field in fields]
    if 5 <= len(fields) <= 7 and fields[0] and fields[4]:  # CDR adds the names of a composite's parts
        line.integer(fields[1], "start")
        return fields
    mention, relation = "id start end text type [concepts]", "id relation concept concept [remark]"
    expected = f"id|t|title, id|a|abstract, or by tabs: {mention}, {relation}"
    raise line.error(quoted(line.text), expected)


def _concepts(fields: list[str]) -> tuple[str, ...]:
    """Return the concepts of a field: `A|B`, `A,B` and `A;B` are lists of two.

    `A+B` is one concept made of two, and `c|SUB|A|10|G` one sequence variant; both are kept whole.
    """
    listed = [part.strip() for part in _LIST.split(fields[0])] if fields else []
    parts = [name for part in listed for name in ([part] if _VARIANT.match(part) else part.split("|"))]
    return tuple(part for part in map(str.strip, parts) if part not in ("", "-", NO_CONCEPT))


def _pairs(one: str, two: str) -> list[tuple[str, str]]:
    """Return what a relation's two fields relate: each concept of a list with each of the other."""
    return [*dict.fromkeys(product(_concepts([one]), _concepts([two])))]


def _annotation_lines(sample: UnifiedSample) -> list[str]:
    name = sample.document_id
    written = []
    for mention in sample.mentions:
        words = sample.text[mention.start : mention.end].translate(BLANKS) if sample.text else "-"
        concepts = "|".join(mention.concepts) or NO_CONCEPT
        written.append(f"{name}\t{mention.start}\t{mention.end}\t{words}\t{mention.type}\t{concepts}")
    by_id = {mention.id: mention for mention in sample.mentions}
    related: dict[tuple[str, ...], str] = {}  # many pairs of mentions may relate the same two concepts
    for relation in sample.relations:
        kind, remark = relation.type, [relation.attributes[REMARK]] if REMARK in relation.attributes else []
        for ends in related_concepts(relation, by_id):
            line = "\t".join([name, kind, *ends, *remark])
            related.setdefault((kind, *in_order(kind, ends), *remark), line)
    return [*dict.fromkeys(written), *related.values()]
