"""MeasEval (SemEval-2021 Task 8): one TSV of quantities, what they measure, and how it hangs together.

    samples = read("measeval", Path("measeval/train"))      # tsv/ beside text/ or txt/

A set (`annotSet`) is one quantity with its entity, property and qualifiers; relations stay inside it.
Offsets are characters of the paragraph, ends exclusive. Format: https://github.com/harperco/MeasEval
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Relation, UnifiedSample
from kaggle_kit.data.formats.base import BLANKS, Line, Reading, corpus_files, flat, lines

EXPECTED_FILES = "tsv/<doc>.tsv files, with text/<doc>.txt or txt/<doc>.txt"

COLUMNS = ("docId", "annotSet", "annotType", "startOffset", "endOffset", "annotId", "text", "other")
TYPES = ("Quantity", "MeasuredEntity", "MeasuredProperty", "Qualifier")
RELATIONS = ("HasQuantity", "HasProperty", "Qualifies")
_TEXT_FOLDERS = ("text", "txt")
OFFICIAL_ID = re.compile(r"T?\d*-?\d+")  # what the scorer's validation lets pass


class Row(NamedTuple):
    """One line of a TSV. `other` is its JSON: unit and mods, or relation -> annotation id."""

    line: Line
    document: str
    annot_set: int
    type: str
    start: int
    end: int
    id: str
    text: str
    other: Mapping[str, Any]


def find(folder: Path) -> list[Path]:
    """Return every `.tsv` below the folder, and the texts of its text folders that have no `.tsv`."""
    tables = corpus_files(folder, ".tsv")
    annotated = {place / path.stem for path in tables for place in (path.parent, path.parent.parent)}
    texts = (path for path in corpus_files(folder, ".txt") if path.parent.name in _TEXT_FOLDERS)
    return tables + [path for path in texts if path.parent.parent / path.stem not in annotated]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the document of one TSV, or of a text that has none and so no annotations.

    Attributes of a mention: `annotSet`, and for quantities `unit` and `mods` (comma-joined). An id that an
    earlier set has used gets its set's number. A malformed line, a foreign docId and a relation that leaves
    its set are rejected.
    """
    folders = [path.parent.parent / name for name in _TEXT_FOLDERS]
    text = reading.text_of(path, path.stem, [".txt"], folders)
    rows = []
    for row in table(path, reading) if path.suffix.lower() == ".tsv" else []:
        if row.document == path.stem:
            rows.append(row)
        else:
            reading.reject(row.line.error(f"docId {quoted(row.document)}", repr(path.stem)))
    names: dict[tuple[int, str], str] = {}  # (set, annotation id) -> an id of the document
    for row in rows:
        if (row.annot_set, row.id) not in names:
            names[row.annot_set, row.id] = f"{row.id}@{row.annot_set}" if row.id in names.values() else row.id
    mentions = [_mention(row, names[row.annot_set, row.id]) for row in rows]
    if text is not None:
        for mention, row in zip(mentions, rows, strict=True):
            reading.compare(mention, row.text, text, path)
    return [reading.sample(path.stem, text, mentions, _relations(rows, names, reading), Line(path))]


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one `<doc>.tsv` per sample, the header alone where nothing was annotated.

    Sets are those of the `annotSet` attribute, else what relations connect. An entity, property or
    qualifier without a relation is left out: the official scorer stops at such a row.
    """
    for sample in samples:
        yield f"{flat(sample.document_id)}.tsv", ["\t".join(COLUMNS), *_written_rows(sample)]


def table(path: Path, reading: Reading) -> list[Row]:
    """Return the rows of a TSV below its header, in any order of columns; malformed ones are rejected.

    Raises CorpusError for another header; also the scorer reads its files through this, strictly.
    """
    if not (numbered := lines(path)):
        return []
    header = numbered[0].text.split("\t")
    if sorted(header) != sorted(COLUMNS):
        raise numbered[0].error(f"header {quoted(numbered[0].text, 90)}", " ".join(COLUMNS))
    rows = []
    for line in numbered[1:]:
        with reading.record():
            rows.append(_row(line, header))
    return rows


def _row(line: Line, header: list[str]) -> Row:
    values = line.text.split("\t")
    if len(values) == len(header) - 1 and header[-1] == "other":
        values.append("")  # editors that trim line ends cut off an empty last column
    if len(values) != len(header):
        raise line.error(f"{len(values)} fields", f"{len(header)} fields")
    enclosed = [len(value) > 1 and value[0] == value[-1] == '"' for value in values]
    values = [v[1:-1].replace('""', '"') if q else v for v, q in zip(values, enclosed, strict=True)]
    document, annot_set, kind, start, end, name, text, other = (values[header.index(c)] for c in COLUMNS)
    if kind not in TYPES:
        raise line.error(f"annotType {quoted(kind, 40)}", ", ".join(TYPES))
    number = line.integer(annot_set, "annotSet")
    span = line.integer(start, "startOffset"), line.integer(end, "endOffset")
    return Row(line, document, number, kind, *span, name, text, _other(other, line))


def _other(text: str, line: Line) -> Mapping[str, Any]:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and all(_legal(key, entry) for key, entry in value.items()):
        return value
    expected = f"JSON with unit (text), mods (list of texts) or {', '.join(RELATIONS)} (annotation id)"
    raise line.error(f"other {quoted(text)}", expected)


def _legal(key: str, value: Any) -> bool:
    if key == "mods":
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return key in ("unit", *RELATIONS) and isinstance(value, str)


def _mention(row: Row, name: str) -> Mention:
    more = {"annotSet": str(row.annot_set), "unit": row.other.get("unit", "")}
    more["mods"] = ",".join(row.other.get("mods", ()))
    attributes = {key: value for key, value in more.items() if value}
    return Mention(name, ((row.start, row.end),), row.type, (), attributes, row.line.provenance)


def _relations(
    rows: Iterable[Row], names: Mapping[tuple[int, str], str], reading: Reading
) -> Iterator[Relation]:
    for row in rows:
        source = names[row.annot_set, row.id]
        for kind in (key for key in row.other if key in RELATIONS):
            if (target := (row.annot_set, row.other[kind])) in names:
                where = row.line.provenance
                yield Relation(f"{source}:{kind}", kind, source, names[target], provenance=where)
            else:
                found = f"{kind} {quoted(row.other[kind], 40)}"
                reading.reject(row.line.error(found, f"an id of set {row.annot_set}"))


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
        if mention.type == "Quantity":
            units = {"mods": mention.attributes.get("mods"), "unit": mention.attributes.get("unit")}
            others[mention.id] = {key: value for key, value in units.items() if value}
            if "mods" in others[mention.id]:
                others[mention.id]["mods"] = others[mention.id]["mods"].split(",")
        if (other := others.get(mention.id)) is None:
            continue
        start, end = mention.start, mention.end
        words = (sample.text[start:end] if sample.text is not None else "-" * (end - start)).translate(BLANKS)
        if words.startswith('"'):  # CSV readers take such a cell for a quoted one
            words = '"' + words.replace('"', '""') + '"'
        unit = json.dumps(other, ensure_ascii=False, sort_keys=True) if other else ""
        annotation = f"{flat(sample.document_id)}\t{sets[mention.id]}\t{mention.type}"
        yield f"{annotation}\t{start}\t{end}\t{names[mention.id]}\t{words}\t{unit}"


def _sets(sample: UnifiedSample) -> dict[str, int]:
    """Mention id -> number of its set: as annotated, else connected mentions share the next free number."""
    sets = {mention.id: int(mention.attributes.get("annotSet", 0)) for mention in sample.mentions}
    following = count(max(sets.values(), default=0) + 1)
    sets = {name: number or next(following) for name, number in sets.items()}
    while apart := [r for r in sample.relations if sets[r.source] != sets[r.target]]:
        for relation in apart:  # the smaller number of two connected sets spreads until nothing moves
            smaller = min(sets[relation.source], sets[relation.target])
            sets[relation.source] = sets[relation.target] = smaller
    return sets
