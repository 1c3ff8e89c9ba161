"""Anafora stand-off XML (2016 Task 12, Clinical TempEval): entities and temporal links of clinical notes.

`<ID>/<ID>.Temporal-Relation.gold.completed.xml` holds the annotations of the text file `<ID>/<ID>`.

    samples = read("anafora", folder, Reading(split="train"))
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lxml import etree

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted, unless_withheld
from kaggle_kit.core.types import Mention, Relation, UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading, corpus_files
from kaggle_kit.data.formats.xml_safe import filled_text, line_of, parse

EXPECTED_FILES = "<ID>/<ID>.Temporal-Relation.gold.completed.xml (or Entity, or system) or a note <ID>/<ID>"
ROLES = ("Source", "Target")

_NAME = re.compile(r"(?P<id>.+)\.(?P<schema>Temporal-\w+)\.(?P<status>gold|system)\.completed\.xml")


def find(folder: Path) -> list[Path]:
    """Return one annotation file per note, or the note itself where it has none, in the order of their paths.

    Gold is preferred to system output, and the Relation schema, which holds the entities too, to Entity.
    """
    chosen: dict[Path, Path] = {}
    for path in sorted(corpus_files(folder, ".xml"), key=preference):
        if name := _NAME.fullmatch(path.name):
            chosen.setdefault(path.with_name(name["id"]), path)
    for path in corpus_files(folder, ""):
        if path.name == path.parent.name:
            chosen.setdefault(path, path)
    return [chosen[note] for note in sorted(chosen)]


def preference(path: Path) -> tuple[bool, bool, str]:
    """Return a sort key that puts the better of several annotation files of one note first."""
    return ".gold." not in path.name, "Temporal-Relation" not in path.name, path.name


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the note of one annotation file, or of one text without annotations.

    Properties become attributes; an empty property is an empty string, a missing one no key. A link
    with an end that no entity has is dropped with a warning.
    """
    name = _NAME.fullmatch(path.name)
    document_id = name["id"] if name else path.name.removesuffix(".xml")
    if not document_id.strip("."):  # as a folder it would lie above the corpus
        raise CorpusError(path, found=f"note id {document_id!r}", expected="a name before the schema's")
    mentions: list[Mention] = []
    relations: dict[str, Relation] = {}
    if name or path.suffix == ".xml":
        root = parse(path)
        if root.tag != "data":
            raise line_of(root, path).error(f"<{unless_withheld(root.tag, '…')}>", "Anafora's <data>")
        for element in root.iterfind("annotations/entity"):
            with reading.record():
                mentions.append(_mention(element, path))
        known = {mention.id for mention in mentions}
        for element in root.iterfind("annotations/relation"):
            with reading.record():
                link = _relation(element, path)
                if lost := [role for role in ROLES if getattr(link, role.lower()) not in known]:
                    found = f"link {quoted(link.id)} without {' and '.join(lost)}"
                    reading.warn(line_of(element, path).error(found, "two entities; the link is dropped"))
                elif link.id in relations:
                    raise line_of(element, path).error(f"link id {quoted(link.id)} twice", "unique ids")
                else:
                    relations[link.id] = link
    else:
        for other in corpus_files(path.parent, ".xml"):
            found = "annotations that are not read"
            reading.warn(CorpusError(other, found=found, expected=EXPECTED_FILES))
    text = reading.text_of(path, document_id, [""])
    sample = reading.sample(document_id, text, mentions, relations.values(), Line(path, 1))
    return [replace(sample, metadata={"schema": name["schema"], "status": name["status"]} if name else {})]


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield `<ID>/<ID>.Temporal-Relation.system.completed.xml` for each sample.

    The schema is the one in `metadata["schema"]`; the file is gold where `metadata["status"]` is.
    """
    for sample in samples:
        schema = sample.metadata.get("schema", "Temporal-Relation")
        status = "gold" if sample.metadata.get("status") == "gold" else "system"
        root = _document(sample, status)
        etree.indent(root, "\t")
        content = etree.tostring(root, encoding="UTF-8", xml_declaration=True).decode()
        name = sample.document_id.rpartition("/")[2]
        yield f"{sample.document_id}/{name}.{schema}.{status}.completed.xml", [content]


def _mention(element: etree._Element, path: Path) -> Mention:
    line = line_of(element, path)
    pieces = [_piece(piece, line) for piece in filled_text(element, "span", path).split(";")]
    name, kind = (filled_text(element, tag, path) for tag in ("id", "type"))
    return Mention(name, tuple(pieces), kind, (), _properties(element), line.provenance)


def _piece(text: str, line: Line) -> tuple[int, int]:
    offsets = [line.integer(offset.strip(), "offset") for offset in text.split(",")]
    if len(offsets) != 2:
        raise line.error(f"span {quoted(text, 40)}", "start,end;start,end…")
    return offsets[0], offsets[1]


def _relation(element: etree._Element, path: Path) -> Relation:
    name, kind = (filled_text(element, tag, path) for tag in ("id", "type"))
    properties = _properties(element)
    source, target = (properties.pop(role, "") for role in ROLES)
    return Relation(name, kind, source, target, ROLES, properties, line_of(element, path).provenance)


def _properties(element: etree._Element) -> dict[str, str]:
    properties = element.find("properties")
    return {} if properties is None else {p.tag: "".join(p.itertext()).strip() for p in properties}


def _document(sample: UnifiedSample, status: str) -> etree._Element:
    root = etree.Element("data")
    etree.SubElement(etree.SubElement(root, "info"), "progress").text = "completed"
    etree.SubElement(root, "schema", path="./", protocol="file").text = "temporal.schema.xml"
    annotations = etree.SubElement(root, "annotations")
    of = f"{sample.document_id}@{status}"
    entity_ids = _written_ids([mention.id for mention in sample.mentions], f"@e@{of}")
    link_ids = _written_ids([link.id for link in sample.relations], f"@r@{of}")
    for mention in sample.mentions:
        span = ";".join(f"{start},{end}" for start, end in mention.fragments)
        parts = {"id": entity_ids[mention.id], "span": span, "type": mention.type}
        entity = _append(annotations, "entity", parts | {"parentsType": "TemporalEntities"})
        _append(entity, "properties", mention.attributes)
    for link in sample.relations:
        parts = {"id": link_ids[link.id], "type": link.type, "parentsType": "TemporalRelations"}
        ends = {"Source": entity_ids[link.source], "Target": entity_ids[link.target]}
        _append(_append(annotations, "relation", parts), "properties", {**ends, **link.attributes})
    return root


def _append(parent: etree._Element, tag: str, texts: Mapping[str, str]) -> etree._Element:
    """Return a new last child, with a child of its own for each text."""
    element = etree.SubElement(parent, tag)
    for name, text in texts.items():
        etree.SubElement(element, name).text = text
    return element


def _written_ids(ids: Sequence[str], suffix: str) -> dict[str, str]:
    """Anafora's own ids are kept; foreign ones (T1, R1) become `<number>@<e or r>@<note>@<status>`."""
    own = all(suffix[:3] in name for name in ids)
    return {name: name if own else f"{number}{suffix}" for number, name in enumerate(ids, start=1)}
