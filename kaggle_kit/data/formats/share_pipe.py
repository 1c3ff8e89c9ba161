"""The `||`-separated pipe files of SemEval-2014 Task 7: disorder mentions with their concepts.

    samples = read_file(Path("train/00098-016139-DISCHARGE_SUMMARY.pipe"), Reading(split="train"))

One line is one mention: `document || type || CUI or CUI-less || start || end [|| start || end …]`,
offsets counted in characters from 0 into the untouched note, ends exclusive. The note itself
stands beside it as `.text`. Source: Pradhan et al. 2014 (S14-2007) and its `eval.pl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, Provenance, UnifiedSample
from kaggle_kit.data.formats import share
from kaggle_kit.data.formats.base import Reading, flat, integer, lines

EXPECTED_FILES = "*.pipe files with ||-separated lines, each with its note (.text) beside it"

find = share.find


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """The one document of a `.pipe` file, or of a `.text` file that has no annotations.

    A repeated span is one mention with the last line's CUI, as the scorer has it (warning).
    """
    if share.is_text(path):
        return [share.document(path, reading)]
    mentions: dict[tuple[tuple[int, int], ...], Mention] = {}
    doc_field = None
    for number, line in lines(path):
        with reading.record():
            doc_field, mention = _mention(line, path, number)
            earlier = mentions.get(mention.fragments)
            if earlier:
                expected = "each span once; the last counts"
                reading.warn(path, number, found="a span seen before", expected=expected)
            identifier = earlier.id if earlier else f"T{len(mentions) + 1}"
            mentions[mention.fragments] = replace(mention, id=identifier)
    return [share.document(path, reading, mentions.values(), doc_field)]


def write(samples: Sequence[UnifiedSample], folder: Path) -> list[Path]:
    """One `<document>.pipe` per sample, empty where nothing is annotated; a mention without concept
    is CUI-less. Offsets never decrease along a line, or the scorer would refuse the file."""
    return [_write_document(sample, folder / f"{flat(sample.document_id)}.pipe") for sample in samples]


def _mention(line: str, path: Path, number: int) -> tuple[str, Mention]:
    fields = line.split("||")
    if len(fields) < 5 or len(fields) % 2 == 0:
        expected = "document||type||CUI||start||end and further start||end pairs"
        raise CorpusError(path, line=number, found=f"{len(fields)} field(s)", expected=expected)
    doc_field, kind, concept, *offsets = fields
    share.check_field(doc_field, path, number)
    if not kind.strip() or not concept.strip():
        raise CorpusError(path, line=number, found="an empty type or CUI", expected="both filled in")
    positions = [integer(offset, path, number, "offset") for offset in offsets]
    if any(later < earlier for earlier, later in pairwise(positions)):
        found = f"offsets {quoted('||'.join(offsets))}"
        raise CorpusError(path, line=number, found=found, expected="offsets that never decrease")
    fragments = tuple(zip(positions[::2], positions[1::2], strict=True))
    if any(start == end for start, end in fragments):
        raise CorpusError(path, line=number, found="an empty span", expected="start before end")
    return doc_field, Mention("", fragments, kind, (concept,), provenance=Provenance(str(path), number))


def _write_document(sample: UnifiedSample, path: Path) -> Path:
    rows = []
    for mention in sample.mentions:
        concept = mention.concepts[0] if mention.concepts else share.NO_CONCEPT
        offsets = [str(position) for fragment in sorted(mention.fragments) for position in fragment]
        rows.append("||".join([share.field_of(sample), mention.type, concept, *offsets]) + "\n")
    path.write_text("".join(rows), encoding="utf-8", newline="\n")
    return path
