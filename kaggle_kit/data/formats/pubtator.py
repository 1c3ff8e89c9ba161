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

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted, told
from kaggle_kit.core.types import Mention, Provenance, Relation, UnifiedSample
from kaggle_kit.data.concepts import CONCEPTS, in_order, related_concepts
from kaggle_kit.data.formats.base import BLANKS, Reading, corpus_files, integer, lines, readme

EXPECTED_FILES = "PubTator files (*.txt or *.PubTator)"
PREDICTIONS_FILE = "predictions.PubTator.txt"

_LIST = re.compile("[,;]")
_VARIANT = re.compile(r"(?:tmVar:)?[a-z]?\|[A-Za-z]+\|")  # tmVar's normal form: sequence, kind of change, …
NO_CONCEPT = "-1"  # what the CDR corpus writes for a mention outside its vocabulary
_PASSAGE = re.compile(r"([^|\t]+)\|([ta])\|(.*)")
SEPARATORS = ("\n", "")  # what may stand between title and abstract, the usual one first
REMARK = "remark"  # the attribute for a relation's fifth field: BioRED's novelty, a system's confidence


def find(folder: Path) -> list[Path]:
    """Every `.txt` and `.PubTator` file below the folder, read-me and licence files left out."""
    return [path for path in corpus_files(folder, ".txt", ".pubtator") if not readme(path)]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """All documents of a file, an identifier that comes back included; text is None without title.

    A relation holds between concepts: it is linked to the first mention of each and keeps
    `CONCEPTS` "C1|C2" as an attribute; without a mention of both it is dropped
    with a warning. A malformed line is rejected.
    """
    documents = _documents(path, reading)
    ending_in_blank = [document for document in documents if document.ends_in_blank]
    usual = max(SEPARATORS, key=lambda separator: sum(d.agreeing(separator) for d in ending_in_blank))
    return [document.sample(reading, usual) for document in documents]


def concept_relations(place: Path) -> dict[str, set[tuple[str, str, str]]]:
    """Document -> (type, concept, concept) of every relation line of a file or folder.

    Unlike the samples' relations they need no mention: official prediction files have none. The concepts of
    an `UNDIRECTED` relation are in one order, whichever the line has.
    """
    found: dict[str, set[tuple[str, str, str]]] = {}
    for path in find(place) if place.is_dir() else [place]:
        for document in _documents(path, Reading(strict=True)):
            lines = found.setdefault(document.name, set())
            for _, (_, kind, one, two, *_) in document.relations:
                lines.add((kind, *in_order(kind, (one, two))))
    return found


def write(samples: Iterable[UnifiedSample], folder: Path) -> list[Path]:
    """One file with the annotations of all samples, a blank line between documents, no texts.

    The format has no pieces and no mention-level relations: a discontiguous mention is written as
    the stretch from its first to its last character, relations between mentions as those of their concepts,
    each once, and only where these are known.
    """
    blocks = ("".join(f"{line}\n" for line in _annotation_lines(sample)) for sample in samples)
    path = folder / PREDICTIONS_FILE
    path.write_text("\n".join(block for block in blocks if block), encoding="utf-8", newline="")
    return [path]


@dataclass
class _Document:
    """The lines of one document, as they are met."""

    name: str
    path: Path
    line: int
    passages: dict[str, str] = field(default_factory=dict)  # "t" and "a"
    mentions: list[tuple[int, list[str]]] = field(default_factory=list)
    relations: list[tuple[int, list[str]]] = field(default_factory=list)

    def sample(self, reading: Reading, usual: str = SEPARATORS[0]) -> UnifiedSample:
        """The document as a sample; `usual` separates titles that end in a blank in the rest of the file."""
        first = usual if self.ends_in_blank else SEPARATORS[0]  # of equals
        chosen = max(sorted(SEPARATORS, key=first.__ne__), key=self.agreeing)
        text = self._text(chosen) if self.passages else None
        mentions = tuple(self._mentions(text, reading))
        return UnifiedSample(
            document_id=self.name,
            text=text,
            split=reading.split,
            access=reading.access,
            mentions=mentions,
            relations=tuple(self._relations(mentions, reading)),
            provenance=Provenance(str(self.path), self.line),
        )

    @property
    def ends_in_blank(self) -> bool:
        return self.passages.get("t", "").endswith(" ")

    def _text(self, separator: str) -> str:
        return separator.join(self.passages.get(part, "") for part in "ta")

    def agreeing(self, separator: str) -> int:
        """How many stored texts stand at their offsets where this separates title and abstract."""
        text = self._text(separator)
        return sum(
            text[int(start) : int(end)].translate(BLANKS) == words
            for _, (_, start, end, words, *_) in self.mentions
            if start.isdecimal() and end.isdecimal() and int(end) <= len(text)
        )

    def _mentions(self, text: str | None, reading: Reading) -> Iterator[Mention]:
        seen: set[tuple[str, ...]] = set()
        for number, fields in self.mentions:
            if tuple(fields) in seen:
                reading.warn(self.path, number, found="the same mention again", expected="each mention once")
                continue
            seen.add(tuple(fields))
            with reading.record(again=True):
                _, start, end, stored, kind, *concepts = fields
                span = (integer(start, self.path, number, "start"), integer(end, self.path, number, "end"))
                where = Provenance(str(self.path), number)
                mention = Mention(f"T{len(seen)}", (span,), kind, _concepts(concepts), provenance=where)
                if text is not None:
                    reading.compare(mention, stored, text, self.path)
                yield mention

    def _relations(self, mentions: Iterable[Mention], reading: Reading) -> Iterator[Relation]:
        first: dict[str, str] = {}
        for mention in mentions:
            for concept in mention.concepts:
                first.setdefault(concept, mention.id)
        for place, (number, (_, kind, source, target, *remark)) in enumerate(self.relations, start=1):
            if source in first and target in first:
                more = {CONCEPTS: f"{source}|{target}"} | ({REMARK: remark[0]} if remark else {})
                where = Provenance(str(self.path), number)
                yield Relation(
                    f"R{place}", kind, first[source], first[target], attributes=more, provenance=where
                )
            else:
                found = f"{told(kind, 'a relation')} between {quoted(source, 40)} and {quoted(target, 40)}"
                expected = "a mention of both concepts; the relation is dropped"
                reading.warn(self.path, number, found=found, expected=expected)


def _documents(path: Path, reading: Reading) -> list[_Document]:
    """The documents of a file; one ends where its identifier comes with a passage that it has already.

    A line that cannot be used ends none, and an annotation belongs to the last document of its identifier.
    """
    documents: list[_Document] = []
    latest: dict[str, _Document] = {}

    def of(name: str, number: int, passage: str = "") -> _Document:
        if name not in latest or passage in latest[name].passages:
            documents.append(_Document(name, path, number))
            latest[name] = documents[-1]
        return latest[name]

    for number, line in lines(path):
        if passage := _PASSAGE.fullmatch(line):
            of(passage[1].strip(), number, passage[2]).passages[passage[2]] = passage[3]
            continue
        with reading.record():
            fields = _annotation(path, number, line)
            document = of(fields[0].strip(), number)
            kept = document.mentions if fields[1].isdigit() else document.relations
            kept.append((number, fields))
    return documents


def _annotation(path: Path, number: int, line: str) -> list[str]:
    """The fields of a mention, whose second is a number, or of a relation."""
    fields = line.split("\t")
    if len(fields) in (4, 5) and fields[0] and not fields[1].isdigit():
        return [field.strip() for field in fields]
    if 5 <= len(fields) <= 7 and fields[0] and fields[4]:  # CDR adds the names of a composite's parts
        integer(fields[1], path, number, "start")
        return fields
    expected = (
        "id|t|title, id|a|abstract, or by tabs: id start end text type [concepts], "
        "id relation concept concept [remark]"
    )
    raise CorpusError(path, line=number, found=quoted(line), expected=expected)


def _concepts(fields: list[str]) -> tuple[str, ...]:
    """The concepts of a field: `A|B`, `A,B` and `A;B` are lists of two.

    `A+B` is one concept made of two, and `c|SUB|A|10|G` one sequence variant; both are kept whole.
    """
    listed = [part.strip() for part in _LIST.split(fields[0])] if fields else []
    parts = [name for part in listed for name in ([part] if _VARIANT.match(part) else part.split("|"))]
    return tuple(part for part in map(str.strip, parts) if part not in ("", "-", NO_CONCEPT))


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
        remark = [relation.attributes[REMARK]] if REMARK in relation.attributes else []
        for ends in related_concepts(relation, by_id):
            line = "\t".join([name, relation.type, *ends, *remark])
            related.setdefault((relation.type, *in_order(relation.type, ends), *remark), line)
    return [*dict.fromkeys(written), *related.values()]
