"""The organisers' gold labels of 2016/2017 Task 3 in a file of their own, for questions that withhold them.

    labelled(samples, path, "A", reading)

The test questions circulate as `…-test-subtaskA-input.xml`, the answers as `….xml.subtaskA.relevancy`: lines
of query, item, rank, score and true or false. Names and folders differ from copy to copy, so the file is told
by what it lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files, lines

LABELS_FROM = "labels_from"  # the sample's metadata: which file its labels come from
_VALUES = {"true": True, "false": False}

Labels = dict[tuple[str, str], bool]


def labelled(
    samples: Sequence[UnifiedSample], path: Path, subtask: str, reading: Reading
) -> list[UnifiedSample]:
    """The samples of `path` with the withheld labels that a `.relevancy` file lists, if one lists them all.

    It is looked for below the corpus's root, or beside `path` where that is not known. Raises CorpusError
    where two such files disagree, and warns where all labels of the file stay withheld.
    """
    pairs = [pair for sample in samples for pair in sample.pairs]
    wanted = {(pair.query_id, pair.candidate_id) for pair in pairs if pair.relevant is None}
    if not wanted:
        return list(samples)
    found: tuple[Path, Labels] | None = None
    for file in _files(path, subtask, reading):
        labels = _labels(file)
        if not wanted <= labels.keys():
            continue
        labels = {key: labels[key] for key in wanted}
        if found and labels != found[1]:
            raise CorpusError(file, found=f"other labels than in {found[0]}", expected="one of the two files")
        found = found or (file, labels)
    if found is None:
        if len(wanted) == len(pairs):
            expected = f"a .relevancy file of subtask {subtask} with all of them, to score them"
            reading.warn(path, None, found=f"{len(wanted)} pairs without labels", expected=expected)
        return list(samples)
    return [_filled(sample, *found) for sample in samples]


def _filled(sample: UnifiedSample, file: Path, labels: Labels) -> UnifiedSample:
    keys = [(pair.query_id, pair.candidate_id) for pair in sample.pairs]
    pairs = tuple(
        replace(pair, relevant=labels.get(key, pair.relevant))
        for key, pair in zip(keys, sample.pairs, strict=True)
    )
    return replace(sample, pairs=pairs, metadata={**sample.metadata, LABELS_FROM: file.name})


def _files(path: Path, subtask: str, reading: Reading) -> list[Path]:
    endings = [f".subtask{subtask}.relevancy"] + ([".xml.relevancy"] if subtask == "D" else [])
    folder = reading.root or path.parent
    return corpus_files(folder, *(ending.lower() for ending in endings))


def _labels(file: Path) -> Labels:
    labels: Labels = {}
    for number, line in lines(file):
        fields = line.split()
        if len(fields) != 5 or fields[4] not in _VALUES:
            expected = "query, item, rank, score and true or false"
            raise CorpusError(file, line=number, found=quoted(line, 80), expected=expected)
        labels[fields[0], fields[1]] = _VALUES[fields[4]]
    return labels
