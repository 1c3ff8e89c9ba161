"""Community question answering (2016/2017 Task 3): English forum XML (A, B, C), Arabic medical XML (D).

One sample is one question with its candidates. A ranks a thread's comments, B the threads related to
an original question, C all the comments of these threads, D question-answer pairs.

    samples = read("cqa", folder, Reading(options={"subtask": "A"}))
    write("cqa", predicted, folder)       # predictions.pred, or gold.relevancy for unscored pairs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.restricted import quoted, told
from kaggle_kit.core.types import Provenance, RankedPair, UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files
from kaggle_kit.data.formats.relevancy import labelled
from kaggle_kit.data.formats.xml_safe import attribute, child_text, parse

EXPECTED_FILES = "*.xml or *.xml.gz of the Task 3 distribution"
WITHHELD = "?"
REPEATED_THREAD = "SubtaskA_Skip_Because_Same_As_RelQuestion_ID"
LABEL_THRESHOLD = 0.5  # a predicted score from here on means relevant, unless the prediction says itself


class Subtask(NamedTuple):
    """The names a subtask gives to its question and candidates, and which labels are relevant."""

    query_id: str
    query_text: tuple[str, ...]
    candidate_id: str
    candidate_text: tuple[str, ...]
    label: str
    relevant: Mapping[str, bool]


_RELATED, _ORIGINAL = ("RelQSubject", "RelQBody"), ("OrgQSubject", "OrgQBody")
_COMMENT = {"Good": True, "PotentiallyUseful": False, "Bad": False}
_QUESTION = {"PerfectMatch": True, "Relevant": True, "Irrelevant": False}
_ARABIC = {"D": True, "R": True, "I": False}  # direct, related, irrelevant

SUBTASKS = {
    "A": Subtask("RELQ_ID", _RELATED, "RELC_ID", ("RelCText",), "RELC_RELEVANCE2RELQ", _COMMENT),
    "B": Subtask("ORGQ_ID", _ORIGINAL, "RELQ_ID", _RELATED, "RELQ_RELEVANCE2ORGQ", _QUESTION),
    "C": Subtask("ORGQ_ID", _ORIGINAL, "RELC_ID", ("RelCText",), "RELC_RELEVANCE2ORGQ", _COMMENT),
    "D": Subtask("QID", ("Qtext",), "QAID", ("QAquestion", "QAanswer"), "QArel", _ARABIC),
}


def find(folder: Path) -> list[Path]:
    return corpus_files(folder, ".xml", ".xml.gz")


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """One sample per question, in file order. `reading.options["subtask"]` is A, B, C or D.

    Without that option an Arabic file is read as D and an English one as A. A withheld label (`?`)
    leaves the label None, and the relevance too unless a `.relevancy` file tells it. A candidate repeated
    within its question is dropped with a warning. Raises ConfigError for another subtask, CorpusError for a
    file without its elements.
    """
    root = parse(path)
    name = reading.options.get("subtask") or ("D" if root.find("Question") is not None else "A")
    if name not in SUBTASKS:
        raise ConfigError(f"option subtask is {name!r}; allowed: {', '.join(SUBTASKS)}")
    subtask = SUBTASKS[name]
    questions: dict[str, etree._Element] = {}
    candidates: dict[str, list[etree._Element]] = {}
    for question, elements in _questions(root, name, path):
        query_id = attribute(question, subtask.query_id, path)
        first = questions.setdefault(query_id, question)
        candidates.setdefault(query_id, []).extend(elements)
        if _text(question, subtask.query_text, path) != _text(first, subtask.query_text, path):
            found = f"question {quoted(query_id)} with another text"
            reading.warn(path, question.sourceline, found=found, expected="its first text, which stands")
    if not questions:
        found, expected = f"<{told(root.tag, '…')}> without any question", f"the questions of subtask {name}"
        raise CorpusError(path, line=root.sourceline, found=found, expected=expected)
    samples = [
        UnifiedSample(
            query_id,
            _text(question, subtask.query_text, path),
            reading.split,
            reading.access,
            pairs=_pairs(query_id, candidates[query_id], subtask, path, reading),
            metadata={"subtask": name, "file": path.name.removesuffix(".gz")},
            provenance=Provenance(str(path), question.sourceline),
        )
        for query_id, question in questions.items()
    ]
    return labelled(samples, path, name, reading)


def write(samples: Sequence[UnifiedSample], folder: Path) -> list[Path]:
    """One file for the official scorer: lines of query, item, rank, score and true or false.

    Pairs with scores make a `.pred`, their label being `relevant` or, where that is None, whether the
    score reaches LABEL_THRESHOLD. Pairs without scores make a gold `.relevancy` with the score 1/rank.
    """
    pairs = [pair for sample in samples for pair in sample.pairs]
    if not pairs:
        return []
    scored = any(pair.score is not None for pair in pairs)
    path = folder / _file_name(samples, scored)
    rows = [_row(pair, scored, path) for pair in pairs]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")
    return [path]


def _questions(
    root: etree._Element, name: str, path: Path
) -> Iterator[tuple[etree._Element, list[etree._Element]]]:
    """Each question element with its candidates; an original question comes once per thread."""
    if name == "A":
        for thread in root.iter("Thread"):
            question = thread.find("RelQuestion")
            if question is None:
                found = "<Thread> without <RelQuestion>"
                raise CorpusError(path, line=thread.sourceline, found=found, expected="the thread's question")
            if not thread.get(REPEATED_THREAD):
                yield question, thread.findall("RelComment")
    elif name == "D":
        yield from ((question, question.findall("QApair")) for question in root.iter("Question"))
    else:
        place = "Thread/RelQuestion" if name == "B" else "Thread/RelComment"
        yield from ((question, question.findall(place)) for question in root.iter("OrgQuestion"))


def _pairs(
    query_id: str, elements: Sequence[etree._Element], subtask: Subtask, path: Path, reading: Reading
) -> tuple[RankedPair, ...]:
    pairs: dict[str, RankedPair] = {}
    for rank, element in enumerate(elements, start=1):
        with reading.record():
            pair = _pair(query_id, element, rank, subtask, path)
            if pair.candidate_id in pairs:
                found = f"candidate {quoted(pair.candidate_id)} of question {quoted(query_id)} again"
                reading.warn(path, element.sourceline, found=found, expected="each candidate once")
            pairs.setdefault(pair.candidate_id, pair)
    if subtask is SUBTASKS["D"]:  # the organisers' own files list an Arabic question's pairs by number
        return tuple(sorted(pairs.values(), key=lambda pair: (len(pair.candidate_id), pair.candidate_id)))
    return tuple(pairs.values())


def _pair(query_id: str, element: etree._Element, rank: int, subtask: Subtask, path: Path) -> RankedPair:
    label = attribute(element, subtask.label, path)
    if label not in subtask.relevant and label != WITHHELD:
        allowed = ", ".join([*subtask.relevant, WITHHELD])
        found = f"{subtask.label} {quoted(label, 40)}"
        raise CorpusError(path, line=element.sourceline, found=found, expected=f"one of {allowed}")
    return RankedPair(
        query_id,
        attribute(element, subtask.candidate_id, path),
        _text(element, subtask.candidate_text, path),
        rank,
        label=None if label == WITHHELD else label,
        relevant=subtask.relevant.get(label),
        provenance=Provenance(str(path), element.sourceline),
    )


def _text(element: etree._Element, tags: Sequence[str], path: Path) -> str:
    return "\n".join(text for text in (child_text(element, tag, path) for tag in tags) if text)


def _file_name(samples: Sequence[UnifiedSample], scored: bool) -> str:
    """The organisers' name where all samples come from one file, else a general one."""
    origins = {(sample.metadata.get("file"), sample.metadata.get("subtask")) for sample in samples}
    file, subtask = origins.pop() if len(origins) == 1 else (None, None)
    suffix = "pred" if scored else "relevancy"
    if not file:
        return f"predictions.{suffix}" if scored else f"gold.{suffix}"
    return f"{file}.{suffix}" if subtask == "D" else f"{file}.subtask{subtask}.{suffix}"


def _row(pair: RankedPair, scored: bool, path: Path) -> tuple[str, ...]:
    name = f"pair {pair.query_id} {pair.candidate_id}"
    if scored and (pair.score is None or not isfinite(pair.score)):
        expected = "a finite score for every predicted pair"
        raise CorpusError(path, found=f"{name} with score {pair.score}", expected=expected)
    if not scored and pair.relevant is None:
        raise CorpusError(path, found=f"{name} without a label", expected="a label for every gold pair")
    score = repr(float(pair.score)) if pair.score is not None else f"{1 / pair.rank:.15g}"
    relevant = pair.relevant if pair.relevant is not None else float(score) >= LABEL_THRESHOLD
    return pair.query_id, pair.candidate_id, str(pair.rank), score, str(relevant).lower()
