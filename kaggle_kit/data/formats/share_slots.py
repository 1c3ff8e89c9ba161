"""The `|`-separated slot files of SemEval-2015 Task 14: disorders with concept and eight attributes.

    samples = read_file(Path("train/discharge/00098-016139-DISCHARGE_SUMMARY.pipe"), Reading())

One line has 19 fields: `document|span|CUI`, then value and cue span of negation, subject,
uncertainty, course, severity, conditional, generic and body location. A span is `start-end`, pieces
joined by commas, ends exclusive. Several lines with one span are one disorder with several body
locations. Source: Elhadad et al. 2015 (S15-2051). The 22-field layout of ShARe/CLEF 2014 Task 2,
which adds three fields on time and marks defaults with `*`, is read too and never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, UnifiedSample
from kaggle_kit.data.formats import share
from kaggle_kit.data.formats.base import Reading, flat, integer, lines

EXPECTED_FILES = "*.pipe files with 19 |-separated fields per line, each with its note (.text) beside it"
NULL = "null"

# Slot, its legal values (the default first), in the order of the fields. Both spellings of the
# donor are in circulation: the validator's donor_other and the scorer's doner_other.
SLOTS: dict[str, tuple[str, ...]] = {
    "negation": ("no", "yes"),
    "subject": ("patient", "family_member", "other", "donor_other", "doner_other"),
    "uncertainty": ("no", "yes"),
    "course": ("unmarked", "increased", "improved", "worsened", "resolved", "decreased", "changed"),
    "severity": ("unmarked", "moderate", "severe", "slight"),
    "conditional": ("false", "true"),
    "generic": ("false", "true"),
}
LAYOUTS = (19, 22)

find = share.find


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    doc_field: str
    fragments: tuple[tuple[int, int], ...]
    concept: str
    slots: dict[str, str]
    location: tuple[str, str]  # a body location's CUI and its cue span


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """The one document of a `.pipe` file, or of a `.text` file that has no annotations.

    Attributes are the slots and `<slot>_span` for their cues. Several body locations are joined by
    `,` in `body_location`, their cues by `;` in `body_location_span`. Where lines of one span
    disagree on anything else, the last one counts, as the scorer has it (warning).
    """
    if share.is_text(path):
        return [share.document(path, reading)]
    disorders: dict[tuple[tuple[int, int], ...], list[_Row]] = {}
    doc_field = None
    for number, line in lines(path):
        with reading.record():
            row = _row(line, path, number)
            doc_field = row.doc_field
            disorders.setdefault(row.fragments, []).append(row)
    mentions = [_mention(f"T{n}", rows, path, reading) for n, rows in enumerate(disorders.values(), start=1)]
    return [share.document(path, reading, mentions, doc_field)]


def write(samples: Sequence[UnifiedSample], folder: Path) -> list[Path]:
    """One `<document>.pipe` of 19 fields per sample, one line per body location; a slot that a
    mention lacks gets its default, a cue `null`."""
    return [_write_document(sample, folder / f"{flat(sample.document_id)}.pipe") for sample in samples]


def _row(line: str, path: Path, number: int) -> _Row:
    fields = line.split("|")
    if len(fields) - 1 in LAYOUTS and not fields[-1].strip():
        fields.pop()  # the organisers' README asks for a closing pipe, their validator forbids it
    if len(fields) not in LAYOUTS:
        found = f"{len(fields)} field(s)"
        raise CorpusError(path, line=number, found=found, expected="19 (or 22) fields separated by |")
    doc_field, span, concept, *values = fields
    share.check_field(doc_field, path, number)
    if not concept.strip():
        raise CorpusError(path, line=number, found="an empty CUI", expected=f"a CUI or {share.NO_CONCEPT}")
    *slots, location, location_span = (value.strip().removeprefix("*") for value in values[:16])
    if not location or "," in location:
        found = f"body location {quoted(location, 40)}"
        raise CorpusError(path, line=number, found=found, expected="one CUI, or null")
    location = NULL if location.lower() == NULL else location
    return _Row(
        number,
        doc_field,
        _fragments(span, path, number, "span"),
        concept,
        _slots(slots, path, number),
        (location, _cue(location_span, path, number, "body_location")),
    )


def _slots(values: list[str], path: Path, number: int) -> dict[str, str]:
    """The seven closed slots with their cues; empty where all are null, as in a Task 1 run."""
    if all(value.lower() == NULL for value in values):
        return {}
    slots: dict[str, str] = {}
    for (slot, legal), value, cue in zip(SLOTS.items(), values[::2], values[1::2], strict=True):
        value = value.lower()
        if slot == "course" and value == "false":
            value = "unmarked"  # how the 22-field layout spells its default
        if value not in legal:
            found = f"{slot} {quoted(value, 40)}"
            raise CorpusError(path, line=number, found=found, expected=f"one of {', '.join(legal)}")
        slots[slot] = value
        slots[f"{slot}_span"] = _cue(cue, path, number, slot)
    return slots


def _cue(span: str, path: Path, number: int, slot: str) -> str:
    if span.lower() == NULL:
        return NULL
    _fragments(span, path, number, f"{slot} cue")
    return span


def _fragments(span: str, path: Path, number: int, what: str) -> tuple[tuple[int, int], ...]:
    fragments = []
    for piece in span.split(","):
        start, dash, end = piece.partition("-")
        if not dash:
            expected = "start-end, pieces joined by commas"
            raise CorpusError(path, line=number, found=f"{what} {quoted(span)}", expected=expected)
        fragment = integer(start, path, number, what), integer(end, path, number, what)
        if fragment[0] >= fragment[1]:
            raise CorpusError(path, line=number, found=f"{what} {piece}", expected="start before end")
        fragments.append(fragment)
    return tuple(fragments)


def _mention(identifier: str, rows: list[_Row], path: Path, reading: Reading) -> Mention:
    last = rows[-1]
    locations: dict[str, str] = {}
    for row in rows:
        agrees = (row.concept, row.slots) == (last.concept, last.slots)
        if not agrees or row.location[0] in locations:
            expected = "further lines to add a body location only; the last counts"
            reading.warn(path, row.line, found="a span with several annotations", expected=expected)
        locations[row.location[0]] = row.location[1]
    attributes = dict(last.slots)
    if attributes or set(locations) != {NULL}:
        attributes["body_location"] = ",".join(locations)
        attributes["body_location_span"] = ";".join(locations.values())
    provenance = Provenance(str(path), rows[0].line)
    return Mention(identifier, last.fragments, share.DISORDER, (last.concept,), attributes, provenance)


def _write_document(sample: UnifiedSample, path: Path) -> Path:
    doc_field = share.field_of(sample)
    rows = [
        "|".join([doc_field, *fields]) + "\n" for mention in sample.mentions for fields in _fields(mention)
    ]
    path.write_text("".join(rows), encoding="utf-8", newline="\n")
    return path


def _fields(mention: Mention) -> list[list[str]]:
    """Fields 2 to 19 of a mention, once per body location."""
    attributes = mention.attributes
    fields = [
        ",".join(f"{start}-{end}" for start, end in mention.fragments),
        mention.concepts[0] if mention.concepts else share.NO_CONCEPT,
    ]
    for slot, (default, *_) in SLOTS.items():
        fields += [attributes.get(slot, default), attributes.get(f"{slot}_span", NULL)]
    locations = attributes.get("body_location", NULL).split(",")
    cues = attributes.get("body_location_span", NULL).split(";")
    cues += [NULL] * (len(locations) - len(cues))
    return [[*fields, location, cue] for location, cue in zip(locations, cues, strict=False)]
