"""MeasEval (SemEval-2021 Task 8): one TSV of quantities, what they measure, and how it hangs together.

    samples = read("measeval", Path("measeval/train"))      # tsv/ beside text/ or txt/

A set (`annotSet`) is one quantity with its entity, property and qualifiers; relations stay inside it.
Offsets are characters of the paragraph, ends exclusive. Format: https://github.com/harperco/MeasEval
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, Relation, UnifiedSample
from kaggle_kit.data.formats.base import BLANKS, Reading, corpus_files, decode, flat, integer, lines, sibling

EXPECTED_FILES = "tsv/<doc>.tsv files, with text/<doc>.txt or txt/<doc>.txt"

COLUMNS = ("docId", "annotSet", "annotType", "startOffset", "endOffset", "annotId", "text", "other")
TYPES = ("Quantity", "MeasuredEntity", "MeasuredProperty", "Qualifier")
RELATIONS = ("HasQuantity", "HasProperty", "Qualifies")
_TEXT_FOLDERS = ("text", "txt")
OFFICIAL_ID = re.compile(r"T?\d*-?\d+")  # what the scorer's validation lets pass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a TSV. `other` is its JSON: unit and mods, or relation -> annotation id."""

    line: int
    document: str
    annot_set: int
    type: str
    start: int
    end: int
    id: str
    text: str
    other: Mapping[str, Any]


def find(folder: Path) -> list[Path]:
    """Every `.tsv` below the folder, and the texts of its text folders that have no `.tsv`."""
    tables = corpus_files(folder, ".tsv")
    annotated = {place / path.stem for path in tables for place in (path.parent, path.parent.parent)}
    texts = (path for path in corpus_files(folder, ".txt") if path.parent.name in _TEXT_FOLDERS)
    return tables + [path for path in texts if path.parent.parent / path.stem not in annotated]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """The document of one TSV, or of a text that has none and so no annotations.

    Attributes of a mention: `annotSet`, and for quantities `unit` and `mods` (comma-joined).
    A malformed line, a foreign docId and a relation that leaves its set are rejected.
    """
    rows = (
        [row for row in table(path, reading) if _own(row, path, reading)]
        if path.suffix.lower() == ".tsv"
        else []
    )
    text = decode(path) if path.suffix.lower() == ".txt" else _document_text(path, reading)
    names = _mention_ids(rows)
    mentions = [_mention(row, names, path) for row in rows]
    if text is not None:
        for mention, row in zip(mentions, rows, strict=True):
            reading.compare(mention, row.text, text, path)
    return [
        UnifiedSample(
            document_id=path.stem,
            text=text,
            split=reading.split,
            access=reading.access,
            mentions=tuple(mentions),
            relations=tuple(_relations(rows, names, path, reading)),
            provenance=Provenance(str(path)),
        )
    ]


def write(samples: Iterable[UnifiedSample], folder: Path) -> list[Path]:
    """One `<doc>.tsv` per sample, the header alone where nothing was annotated.

    Sets are those of the `annotSet` attribute, else what relations connect. An entity, property or
    qualifier without a relation is left out: the official scorer stops at such a row.
    """
    paths = []
    for sample in samples:
        path = folder / f"{flat(sample.document_id)}.tsv"
        rows = ["\t".join(COLUMNS), *_written_rows(sample)]
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", newline="")
        paths.append(path)
    return paths


def table(path: Path, reading: Reading) -> list[Row]:
    """The rows of a TSV below its header, whatever the order of the columns; malformed ones are rejected.

    Raises CorpusError for another header; also the scorer reads its files through this, strictly.
    """
    numbered = lines(path)
    if not numbered:
        return []
    line, first = numbered[0]
    header = first.split("\t")
    if sorted(header) != sorted(COLUMNS):
        raise CorpusError(path, line=line, found=f"header {quoted(first, 90)}", expected=" ".join(COLUMNS))
    rows = []
    for number, text in numbered[1:]:
        with reading.record():
            rows.append(_row(path, number, dict(_cells(path, number, header, text))))
    return rows


def _own(row: Row, path: Path, reading: Reading) -> bool:
    """Whether the row is of the document that its file is named after; another's is rejected."""
    if row.document != path.stem:
        found = f"docId {quoted(row.document)}"
        reading.reject(CorpusError(path, line=row.line, found=found, expected=f"{path.stem!r}"))
    return row.document == path.stem


def _cells(path: Path, line: int, header: list[str], text: str) -> Iterator[tuple[str, str]]:
    values = text.split("\t")
    if len(values) == len(header) - 1 and header[-1] == "other":
        values.append("")  # editors that trim line ends cut off an empty last column
    if len(values) != len(header):
        raise CorpusError(path, line=line, found=f"{len(values)} fields", expected=f"{len(header)} fields")
    for name, value in zip(header, values, strict=True):
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        yield name, value[1:-1].replace('""', '"') if quoted else value


def _row(path: Path, line: int, cells: Mapping[str, str]) -> Row:
    if (kind := cells["annotType"]) not in TYPES:
        raise CorpusError(path, line=line, found=f"annotType {quoted(kind, 40)}", expected=", ".join(TYPES))
    return Row(
        line=line,
        document=cells["docId"],
        annot_set=integer(cells["annotSet"], path, line, "annotSet"),
        type=kind,
        start=integer(cells["startOffset"], path, line, "startOffset"),
        end=integer(cells["endOffset"], path, line, "endOffset"),
        id=cells["annotId"],
        text=cells["text"],
        other=_other(cells["other"], path, line),
    )


def _other(text: str, path: Path, line: int) -> Mapping[str, Any]:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and all(_legal(key, entry) for key, entry in value.items()):
        return value
    expected = f"JSON with unit (text), mods (list of texts) or {', '.join(RELATIONS)} (annotation id)"
    raise CorpusError(path, line=line, found=f"other {quoted(text)}", expected=expected)


def _legal(key: str, value: Any) -> bool:
    if key == "mods":
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return key in ("unit", *RELATIONS) and isinstance(value, str)


def _document_text(path: Path, reading: Reading) -> str | None:
    folders = [path.parent.parent / name for name in _TEXT_FOLDERS]
    folders += [path.parent, *([reading.text_folder] if reading.text_folder is not None else [])]
    for folder in folders:
        if place := sibling(folder, path.stem, ".txt"):
            return decode(place)
    reading.warn(path, None, found="no text for the annotations", expected=f"text/{path.stem}.txt")
    return None


def _mention_ids(rows: Iterable[Row]) -> dict[tuple[int, str], str]:
    """(set, annotation id) -> an id of the document; one used by an earlier set gets its set's number."""
    names: dict[tuple[int, str], str] = {}
    for row in rows:
        if (row.annot_set, row.id) not in names:
            names[row.annot_set, row.id] = f"{row.id}@{row.annot_set}" if row.id in names.values() else row.id
    return names


def _mention(row: Row, names: Mapping[tuple[int, str], str], path: Path) -> Mention:
    attributes = {"annotSet": str(row.annot_set)}
    if row.other.get("unit"):
        attributes["unit"] = row.other["unit"]
    if row.other.get("mods"):
        attributes["mods"] = ",".join(row.other["mods"])
    span = (row.start, row.end)
    where = Provenance(str(path), row.line)
    return Mention(names[row.annot_set, row.id], (span,), row.type, attributes=attributes, provenance=where)


def _relations(
    rows: Iterable[Row], names: Mapping[tuple[int, str], str], path: Path, reading: Reading
) -> Iterator[Relation]:
    for row in rows:
        for kind in (key for key in row.other if key in RELATIONS):
            if (target := (row.annot_set, row.other[kind])) not in names:
                found = f"{kind} {quoted(row.other[kind], 40)}"
                expected = f"an id of set {row.annot_set}"
                reading.reject(CorpusError(path, line=row.line, found=found, expected=expected))
                continue
            source = names[row.annot_set, row.id]
            where = Provenance(str(path), row.line)
            yield Relation(f"{source}:{kind}", kind, source, names[target], provenance=where)


def _written_rows(sample: UnifiedSample) -> Iterator[str]:
    sets = _sets(sample)
    official = all(OFFICIAL_ID.fullmatch(mention.id) for mention in sample.mentions)
    names = {
        mention.id: mention.id if official else f"T{place}-{sets[mention.id]}"
        for place, mention in enumerate(sample.mentions, start=1)
    }
    others: dict[str, dict[str, Any]] = {}
    for relation in sample.relations:
        others.setdefault(relation.source, {}).setdefault(relation.type, names[relation.target])
    for mention in sample.mentions:
        other = _quantity_json(mention) if mention.type == "Quantity" else others.get(mention.id)
        if other is not None:
            size = mention.end - mention.start
            words = sample.text[mention.start : mention.end] if sample.text is not None else "-" * size
            cells = [
                flat(sample.document_id),
                str(sets[mention.id]),
                mention.type,
                str(mention.start),
                str(mention.end),
            ]
            cells += [names[mention.id], _quoted(words.translate(BLANKS))]
            yield "\t".join([*cells, json.dumps(other, ensure_ascii=False, sort_keys=True) if other else ""])


def _quantity_json(mention: Mention) -> dict[str, Any]:
    mods = mention.attributes.get("mods", "")
    unit = mention.attributes.get("unit", "")
    return {**({"mods": mods.split(",")} if mods else {}), **({"unit": unit} if unit else {})}


def _quoted(text: str) -> str:
    """CSV readers take a cell that begins with a quotation mark for a quoted one."""
    return '"' + text.replace('"', '""') + '"' if text.startswith('"') else text


def _sets(sample: UnifiedSample) -> dict[str, int]:
    """Mention id -> number of its set: as annotated, else connected mentions share the next free number."""
    sets = {mention.id: int(mention.attributes.get("annotSet", 0)) for mention in sample.mentions}
    following = max(sets.values(), default=0) + 1
    for mention in sample.mentions:
        if not sets[mention.id]:
            sets[mention.id], following = following, following + 1
    changed = True
    while changed:  # the smaller number of two connected sets spreads until nothing moves
        changed = False
        for relation in sample.relations:
            if sets[relation.source] != sets[relation.target]:
                sets[relation.source] = sets[relation.target] = min(
                    sets[relation.source], sets[relation.target]
                )
                changed = True
    return sets
