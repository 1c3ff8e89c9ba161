"""The `||`-separated pipe files of SemEval-2014 Task 7: disorder mentions with their concepts.

    samples = read_file(Path("train/00098-016139-DISCHARGE_SUMMARY.pipe"), Reading(split="train"))

One line is one mention: `document || type || CUI or CUI-less || start || end [|| start || end …]`,
offsets counted in characters from 0 into the untouched note, ends exclusive. The note itself
stands beside it as `.text`. Source: Pradhan et al. 2014 (S14-2007) and its `eval.pl`.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.formats import share
from kaggle_kit.data.formats.base import Line, Reading, origin

EXPECTED_FILES = "*.pipe files with ||-separated lines, each with its note (.text) beside it"

find = share.find


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the one document of a `.pipe` file, or of a `.text` file that has no annotations.

    A repeated span is one mention with the last line's CUI, as the scorer has it (warning).
    """
    return share.read_file(path, reading, _mention, _last)


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """One `<document>.pipe` per sample, empty where nothing is annotated; a mention without concept
    is CUI-less. Offsets never decrease along a line, or the scorer would refuse the file."""
    return share.files(samples, "||", _rows)


def _mention(line: Line) -> Mention:
    fields = line.text.split("||")
    if len(fields) < 5 or len(fields) % 2 == 0:
        expected = "document||type||CUI||start||end and further start||end pairs"
        raise line.error(f"{len(fields)} field(s)", expected)
    _, kind, concept, *offsets = fields
    if not kind.strip() or not concept.strip():
        raise line.error("an empty type or CUI", "both filled in")
    positions = [line.integer(offset, "offset") for offset in offsets]
    if any(later < earlier for earlier, later in pairwise(positions)):
        raise line.error(f"offsets {quoted('||'.join(offsets))}", "offsets that never decrease")
    fragments = tuple(zip(positions[::2], positions[1::2], strict=True))
    if any(start == end for start, end in fragments):
        raise line.error("an empty span", "start before end")
    return Mention("", fragments, kind, (concept,), provenance=line.provenance)


def _last(mentions: list[Mention], path: Path, reading: Reading) -> Mention:
    for repeated in mentions[1:]:
        found = "a span seen before"
        reading.warn(origin(repeated, path).error(found, "each span once; the last counts"))
    return mentions[-1]


def _rows(mention: Mention) -> list[list[str]]:
    concept = mention.concepts[0] if mention.concepts else share.NO_CONCEPT
    offsets = [str(position) for fragment in sorted(mention.fragments) for position in fragment]
    return [[mention.type, concept, *offsets]]
