"""The `|`-separated slot files of SemEval-2015 Task 14: disorders with concept and eight attributes.

    samples = read_file(Path("train/discharge/00098-016139-DISCHARGE_SUMMARY.pipe"), Reading())

One line has 19 fields: `document|span|CUI`, then value and cue span of negation, subject,
uncertainty, course, severity, conditional, generic and body location. A span is `start-end`, pieces
joined by commas, ends exclusive. Several lines with one span are one disorder with several body
locations. Source: Elhadad et al. 2015 (S15-2051). The 22-field layout of ShARe/CLEF 2014 Task 2,
which adds three fields on time and marks defaults with `*`, is read too and never written.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.formats import share
from kaggle_kit.data.formats.base import Line, Reading, origin

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
LOCATION, LOCATION_SPAN = "body_location", "body_location_span"

find = share.find


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the one document of a `.pipe` file, or of a `.text` file that has no annotations.

    Attributes are the slots and `<slot>_span` for their cues. Several body locations are joined by
    `,` in `body_location`, their cues by `;` in `body_location_span`. Where lines of one span
    disagree on anything else, the last one counts, as the scorer has it (warning).
    """
    return share.read_file(path, reading, _mention, _merged)


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """One `<document>.pipe` of 19 fields per sample, one line per body location; a slot that a
    mention lacks gets its default, a cue `null`."""
    return share.files(samples, "|", _rows)


def _mention(line: Line) -> Mention:
    fields = line.text.split("|")
    if len(fields) - 1 in LAYOUTS and not fields[-1].strip():
        fields.pop()  # the organisers' README asks for a closing pipe, their validator forbids it
    if len(fields) not in LAYOUTS:
        raise line.error(f"{len(fields)} field(s)", "19 (or 22) fields separated by |")
    _, span, concept, *values = fields
    if not concept.strip():
        raise line.error("an empty CUI", f"a CUI or {share.NO_CONCEPT}")
    *slots, location, cue = (value.strip().removeprefix("*") for value in values[:16])
    if not location or "," in location:
        raise line.error(f"body location {quoted(location, 40)}", "one CUI, or null")
    attributes = _slots(slots, line)
    attributes[LOCATION] = NULL if location.lower() == NULL else location
    attributes[LOCATION_SPAN] = _cue(cue, line, LOCATION)
    fragments = _fragments(span, line, "span")
    return Mention("", fragments, share.DISORDER, (concept,), attributes, line.provenance)


def _slots(values: Sequence[str], line: Line) -> dict[str, str]:
    """Return the seven closed slots with their cues; empty where all are null, as in a Task 1 run."""
    if all(value.lower() == NULL for value in values):
        return {}
    slots: dict[str, str] = {}
    for (slot, legal), value, cue in zip(SLOTS.items(), values[::2], values[1::2], strict=True):
        value = value.lower()
        if slot == "course" and value == "false":
            value = "unmarked"  # how the 22-field layout spells its default
        if value not in legal:
            raise line.error(f"{slot} {quoted(value, 40)}", f"one of {', '.join(legal)}")
        slots |= {slot: value, f"{slot}_span": _cue(cue, line, slot)}
    return slots


def _cue(span: str, line: Line, slot: str) -> str:
    if span.lower() == NULL:
        return NULL
    _fragments(span, line, f"{slot} cue")
    return span


def _fragments(span: str, line: Line, what: str) -> tuple[tuple[int, int], ...]:
    fragments = []
    for piece in span.split(","):
        start, dash, end = piece.partition("-")
        if not dash:
            raise line.error(f"{what} {quoted(span)}", "start-end, pieces joined by commas")
        fragments.append((line.integer(start, what), line.integer(end, what)))
        if fragments[-1][0] >= fragments[-1][1]:
            raise line.error(f"{what} {piece}", "start before end")
    return tuple(fragments)


def _merged(rows: list[Mention], path: Path, reading: Reading) -> Mention:
    locations: dict[str, str] = {}
    for row in rows:
        if _without_location(row) != _without_location(rows[-1]) or row.attributes[LOCATION] in locations:
            expected = "further lines to add a body location only; the last counts"
            reading.warn(origin(row, path).error("a span with several annotations", expected))
        locations[row.attributes[LOCATION]] = row.attributes[LOCATION_SPAN]
    concepts, attributes = _without_location(rows[-1])
    if attributes or set(locations) != {NULL}:
        attributes |= {LOCATION: ",".join(locations), LOCATION_SPAN: ";".join(locations.values())}
    return replace(rows[0], concepts=concepts, attributes=attributes)


def _without_location(row: Mention) -> tuple[tuple[str, ...], dict[str, str]]:
    slots = {slot: value for slot, value in row.attributes.items() if not slot.startswith(LOCATION)}
    return row.concepts, slots


def _rows(mention: Mention) -> list[list[str]]:
    """Fields 2 to 19 of a mention, once per body location."""
    attributes = mention.attributes
    fields = [
        ",".join(f"{start}-{end}" for start, end in mention.fragments),
        mention.concepts[0] if mention.concepts else share.NO_CONCEPT,
    ]
    for slot, (default, *_) in SLOTS.items():
        fields += [attributes.get(slot, default), attributes.get(f"{slot}_span", NULL)]
    places = attributes.get(LOCATION, NULL).split(",")
    cues = attributes.get(LOCATION_SPAN, NULL).split(";")[: len(places)]
    return [[*fields, *place] for place in zip_longest(places, cues, fillvalue=NULL)]
