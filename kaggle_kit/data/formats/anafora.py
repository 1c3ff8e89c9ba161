"""Anafora stand-off XML (2016 Task 12, Clinical TempEval): entities and temporal links of clinical notes.

`<ID>/<ID>.Temporal-Relation.gold.completed.xml` holds the annotations of the text file `<ID>/<ID>`.

    samples = read("anafora", folder, Reading(split="train"))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lxml import etree

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted, told
from kaggle_kit.core.types import Mention, Provenance, Relation, UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files, decode, integer, validate
from kaggle_kit.data.formats.xml_safe import filled_text, parse

EXPECTED_FILES = "<ID>/<ID>.Temporal-Relation.gold.completed.xml (or Entity, or system) or a note <ID>/<ID>"
ROLES = ("Source", "Target")

_NAME = re.compile(r"(?P<id>.+)\.(?P<schema>Temporal-\w+)\.(?P<status>gold|system)\.completed\.xml")


def find(folder: Path) -> list[Path]:
    """One annotation file per note, or the note itself where it has none, in the order of their paths.

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
    """A sort key that puts the better of several annotation files of one note first."""
    return ".gold." not in path.name, "Temporal-Relation" not in path.name, path.name


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """The note of one annotation file, or of one text without annotations.

    Properties become attributes; an empty property is an empty string, a missing one no key. A link
    with an end that no entity has is dropped with a warning.
    """
    name = _NAME.fullmatch(path.name)
    document_id = name["id"] if name else path.name.removesuffix(".xml")
    if not document_id.strip("."):  # as a folder it would lie above the corpus
        raise CorpusError(path, found=f"note id {document_id!r}", expected="a name before the schema's")
    mentions: list[Mention] = []
    relations: list[Relation] = []
    if name or path.suffix == ".xml":
        root = parse(path)
        if root.tag != "data":
            raise CorpusError(
                path, line=root.sourceline, found=f"<{told(root.tag, '…')}>", expected="Anafora's <data>"
            )
        for element in root.iterfind("annotations/entity"):
            with reading.record():
                mentions.append(_mention(element, path))
        known = {mention.id for mention in mentions}
        seen: set[str] = set()
        for element in root.iterfind("annotations/relation"):
            with reading.record():
                if (link := _relation(element, known, path, reading)) is None:
                    continue
                if link.id in seen:
                    found = f"link id {quoted(link.id)} twice"
                    raise CorpusError(path, line=element.sourceline, found=found, expected="unique ids")
                seen.add(link.id)
                relations.append(link)
    else:
        for other in corpus_files(path.parent, ".xml"):
            reading.warn(other, None, found="annotations that are not read", expected=EXPECTED_FILES)
    sample = UnifiedSample(
        document_id,
        _text(path, document_id, reading),
        reading.split,
        reading.access,
        tuple(mentions),
        tuple(relations),
        metadata={"schema": name["schema"], "status": name["status"]} if name else {},
        provenance=Provenance(str(path), 1),
    )
    return [sample]


def write(samples: Sequence[UnifiedSample], folder: Path) -> list[Path]:
    """`<ID>/<ID>.Temporal-Relation.system.completed.xml` for each sample.

    The schema is the one in `metadata["schema"]`; the file is gold where `metadata["status"]` is.
    """
    paths = []
    for sample in samples:
        schema = sample.metadata.get("schema", "Temporal-Relation")
        status = "gold" if sample.metadata.get("status") == "gold" else "system"
        place = folder / sample.document_id
        path = place / f"{place.name}.{schema}.{status}.completed.xml"
        validate(sample, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        root = _document(sample, status)
        etree.indent(root, "\t")
        path.write_bytes(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
        paths.append(path)
    return paths


def _text(path: Path, document_id: str, reading: Reading) -> str | None:
    places = [path.with_name(document_id)]
    if reading.text_folder is not None:
        places.append(reading.text_folder / document_id)
    for place in places:
        if place.is_file():
            return decode(place)
    reading.warn(path, None, found="no text", expected=f"the note {document_id!r} beside its annotations")
    return None


def _mention(element: etree._Element, path: Path) -> Mention:
    line = element.sourceline
    span = filled_text(element, "span", path)
    return Mention(
        filled_text(element, "id", path),
        tuple(_piece(piece, path, line) for piece in span.split(";")),
        filled_text(element, "type", path),
        attributes=_properties(element),
        provenance=Provenance(str(path), line),
    )


def _piece(text: str, path: Path, line: int) -> tuple[int, int]:
    offsets = [integer(offset.strip(), path, line, "offset") for offset in text.split(",")]
    if len(offsets) != 2:
        raise CorpusError(path, line=line, found=f"span {quoted(text, 40)}", expected="start,end;start,end…")
    return offsets[0], offsets[1]


def _relation(element: etree._Element, known: set[str], path: Path, reading: Reading) -> Relation | None:
    identifier = filled_text(element, "id", path)
    properties = _properties(element)
    ends = [properties.pop(role, "") for role in ROLES]
    lost = [role for role, end in zip(ROLES, ends, strict=True) if end not in known]
    if lost:
        found = f"link {quoted(identifier)} without {' and '.join(lost)}"
        reading.warn(path, element.sourceline, found=found, expected="two entities; the link is dropped")
        return None
    where = Provenance(str(path), element.sourceline)
    return Relation(identifier, filled_text(element, "type", path), *ends, ROLES, properties, where)


def _properties(element: etree._Element) -> dict[str, str]:
    properties = element.find("properties")
    return {} if properties is None else {p.tag: "".join(p.itertext()).strip() for p in properties}


def _document(sample: UnifiedSample, status: str) -> etree._Element:
    root = etree.Element("data")
    etree.SubElement(etree.SubElement(root, "info"), "progress").text = "completed"
    etree.SubElement(root, "schema", path="./", protocol="file").text = "temporal.schema.xml"
    annotations = etree.SubElement(root, "annotations")
    entity_ids = _written_ids(sample.mentions, "e", sample.document_id, status)
    link_ids = _written_ids(sample.relations, "r", sample.document_id, status)
    for mention in sample.mentions:
        parts = {"id": entity_ids[mention.id]}
        parts["span"] = ";".join(f"{start},{end}" for start, end in mention.fragments)
        parts |= {"type": mention.type, "parentsType": "TemporalEntities"}
        _append(annotations, "entity", parts, mention.attributes)
    for link in sample.relations:
        parts = {"id": link_ids[link.id], "type": link.type, "parentsType": "TemporalRelations"}
        ends = {"Source": entity_ids[link.source], "Target": entity_ids[link.target]}
        _append(annotations, "relation", parts, ends | dict(link.attributes))
    return root


def _written_ids(
    items: Sequence[Mention] | Sequence[Relation], kind: str, document_id: str, status: str
) -> Mapping[str, str]:
    """Anafora's own ids are kept; foreign ones (T1, R1) become `<number>@<e or r>@<note>@<status>`."""
    if all(f"@{kind}@" in item.id for item in items):
        return {item.id: item.id for item in items}
    return {item.id: f"{number}@{kind}@{document_id}@{status}" for number, item in enumerate(items, start=1)}


def _append(
    annotations: etree._Element, tag: str, parts: Mapping[str, str], properties: Mapping[str, str]
) -> None:
    element = etree.SubElement(annotations, tag)
    for name, text in parts.items():
        etree.SubElement(element, name).text = text
    listed = etree.SubElement(element, "properties")
    for name, text in properties.items():
        etree.SubElement(listed, name).text = text
