"""Community question answering (2016/2017 Task 3): English forum XML (A, B, C), Arabic medical XML (D).

One sample is one question with its candidates. A ranks a thread's comments, B the threads related to
an original question, C all the comments of these threads, D question-answer pairs.

    samples = read("cqa", folder, Reading(options={"subtask": "A"}))
    write("cqa", predicted, folder)       # predictions.pred, or gold.relevancy for unscored pairs

The test questions of the organisers withhold their labels and circulate as `…-test-subtaskA-input.xml`, the
answers as `….xml.subtaskA.relevancy`: lines of query, item, rank, score and true or false. Names and folders
differ from copy to copy, so that file is told by what it lists.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.restricted import quoted, unless_withheld
from kaggle_kit.core.types import RankedPair, UnifiedSample
from kaggle_kit.data.formats.base import Reading, corpus_files, lines
from kaggle_kit.data.formats.xml_safe import attribute, child_text, line_of, parse

EXPECTED_FILES = "*.xml or *.xml.gz of the Task 3 distribution"
WITHHELD = "?"
REPEATED_THREAD = "SubtaskA_Skip_Because_Same_As_RelQuestion_ID"
LABEL_THRESHOLD = 0.5  # a predicted score from here on means relevant, unless the prediction says itself
LABELS_FROM = "labels_from"  # the sample's metadata: which file its labels come from

Labels = dict[tuple[str, str], bool]  # (query, candidate) -> whether relevant


class Subtask(NamedTuple):
    """Where a subtask has its questions and candidates, how it names them, and which labels are relevant."""

    holder: str  # the elements below which question and candidates are found
    question: str
    query_id: str
    query_text: tuple[str, ...]
    candidate: str
    candidate_id: str
    candidate_text: tuple[str, ...]
    label: str
    relevant: Mapping[str, bool]


_COMMENT = {"Good": True, "PotentiallyUseful": False, "Bad": False}
_QUESTION = {"PerfectMatch": True, "Relevant": True, "Irrelevant": False}
_ARABIC = {"D": True, "R": True, "I": False}  # direct, related, irrelevant
_THREAD = ("Thread", "RelQuestion", "RELQ_ID", ("RelQSubject", "RelQBody"))
_ORIGINAL = ("OrgQuestion", ".", "ORGQ_ID", ("OrgQSubject", "OrgQBody"))
_ANSWER = ("RELC_ID", ("RelCText",))

SUBTASKS = {
    "A": Subtask(*_THREAD, "RelComment", *_ANSWER, "RELC_RELEVANCE2RELQ", _COMMENT),
    "B": Subtask(*_ORIGINAL, "Thread/RelQuestion", *_THREAD[2:], "RELQ_RELEVANCE2ORGQ", _QUESTION),
    "C": Subtask(*_ORIGINAL, "Thread/RelComment", *_ANSWER, "RELC_RELEVANCE2ORGQ", _COMMENT),
    "D": Subtask(
        *("Question", ".", "QID", ("Qtext",)), "QApair", "QAID", ("QAquestion", "QAanswer"), "QArel", _ARABIC
    ),
}


def find(folder: Path) -> list[Path]:
    """Return the folder's XML files, packed ones included."""
    return corpus_files(folder, ".xml", ".xml.gz")


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Read one sample per question, in file order. `reading.options["subtask"]` is A, B, C or D.

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
    for holder in root.iter(subtask.holder):  # an original question comes once per thread
        if (question := holder.find(subtask.question)) is None:
            raise line_of(holder, path).error("<Thread> without <RelQuestion>", "the thread's question")
        if holder.get(REPEATED_THREAD):
            continue
        query_id = attribute(question, subtask.query_id, path)
        first = questions.setdefault(query_id, question)
        candidates.setdefault(query_id, []).extend(holder.findall(subtask.candidate))
        if _text(question, subtask.query_text, path) != _text(first, subtask.query_text, path):
            found = f"question {quoted(query_id)} with another text"
            reading.warn(line_of(question, path).error(found, "its first text, which stands"))
    if not questions:
        found = f"<{unless_withheld(root.tag, '…')}> without any question"
        raise line_of(root, path).error(found, f"the questions of subtask {name}")
    samples = []
    for query_id, question in questions.items():
        text = _text(question, subtask.query_text, path)
        sample = reading.sample(query_id, text, (), (), line_of(question, path))
        pairs = _pairs(query_id, candidates[query_id], subtask, path, reading)
        origin = {"subtask": name, "file": path.name.removesuffix(".gz")}
        samples.append(replace(sample, pairs=pairs, metadata=origin))
    return _labelled(samples, path, name, reading)


def files(samples: Sequence[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one file for the official scorer: lines of query, item, rank, score and true or false.

    Pairs with scores make a `.pred`, their label being `relevant` or, where that is None, whether the
    score reaches LABEL_THRESHOLD. Pairs without scores make a gold `.relevancy` with the score 1/rank.
    """
    if pairs := [pair for sample in samples for pair in sample.pairs]:
        scored = any(pair.score is not None for pair in pairs)
        name = _file_name(samples, scored)
        yield name, ["\t".join(_row(pair, scored, name)) for pair in pairs]


def _pairs(
    query_id: str, elements: Sequence[etree._Element], subtask: Subtask, path: Path, reading: Reading
) -> tuple[RankedPair, ...]:
    pairs: dict[str, RankedPair] = {}
    for rank, element in enumerate(elements, start=1):
        with reading.record():
            pair = _pair(query_id, element, rank, subtask, path)
            if pair.candidate_id in pairs:
                found = f"candidate {quoted(pair.candidate_id)} of question {quoted(query_id)} again"
                reading.warn(line_of(element, path).error(found, "each candidate once"))
            pairs.setdefault(pair.candidate_id, pair)
    if subtask is SUBTASKS["D"]:  # the organisers' own files list an Arabic question's pairs by number
        return tuple(sorted(pairs.values(), key=lambda pair: (len(pair.candidate_id), pair.candidate_id)))
    return tuple(pairs.values())


def _pair(query_id: str, element: etree._Element, rank: int, subtask: Subtask, path: Path) -> RankedPair:
    label = attribute(element, subtask.label, path)
    if label not in subtask.relevant and label != WITHHELD:
        allowed = ", ".join([*subtask.relevant, WITHHELD])
        raise line_of(element, path).error(f"{subtask.label} {quoted(label, 40)}", f"one of {allowed}")
    name, text = attribute(element, subtask.candidate_id, path), _text(element, subtask.candidate_text, path)
    told = None if label == WITHHELD else label, subtask.relevant.get(label)
    return RankedPair(query_id, name, text, rank, *told, line_of(element, path).provenance)


def _text(element: etree._Element, tags: Sequence[str], path: Path) -> str:
    return "\n".join(text for text in (child_text(element, tag, path) for tag in tags) if text)


def _labelled(
    samples: list[UnifiedSample], path: Path, subtask: str, reading: Reading
) -> list[UnifiedSample]:
    """Return the samples of `path` with the withheld labels of a `.relevancy` file, if one lists them all.

    It is looked for below the corpus's root, or beside `path` where that is not known. Raises CorpusError
    where two such files disagree, and warns where all labels of the file stay withheld.
    """
    pairs = [pair for sample in samples for pair in sample.pairs]
    wanted = {(pair.query_id, pair.candidate_id) for pair in pairs if pair.relevant is None}
    endings = [f".subtask{subtask.lower()}.relevancy"] + ([".xml.relevancy"] if subtask == "D" else [])
    listed = [(file, _labels(file)) for file in corpus_files(reading.root or path.parent, *endings) if wanted]
    found = [(file, labels) for file, labels in listed if wanted <= labels.keys()]
    for file, labels in found[1:]:
        if any(labels[key] != found[0][1][key] for key in wanted):
            other = f"other labels than in {found[0][0]}"
            raise CorpusError(file, found=other, expected="one of the two files")
    if not found:
        if wanted and len(wanted) == len(pairs):
            expected = f"a .relevancy file of subtask {subtask} with all of them, to score them"
            reading.warn(CorpusError(path, found=f"{len(wanted)} pairs without labels", expected=expected))
        return samples
    file, labels = found[0]

    def filled(pair: RankedPair) -> RankedPair:
        withheld = pair.relevant is None
        return replace(pair, relevant=labels[pair.query_id, pair.candidate_id]) if withheld else pair

    origin = {LABELS_FROM: file.name}
    return [
        replace(sample, pairs=tuple(map(filled, sample.pairs)), metadata={**sample.metadata, **origin})
        for sample in samples
    ]


def _labels(file: Path) -> Labels:
    labels: Labels = {}
    for line in lines(file):
        fields = line.text.split()
        if len(fields) != 5 or fields[4] not in ("true", "false"):
            raise line.error(quoted(line.text, 80), "query, item, rank, score and true or false")
        labels[fields[0], fields[1]] = fields[4] == "true"
    return labels


def _file_name(samples: Sequence[UnifiedSample], scored: bool) -> str:
    """Return the organisers' name where all samples come from one file, else a general one."""
    suffix = "pred" if scored else "relevancy"
    origins = {(sample.metadata.get("file"), sample.metadata.get("subtask")) for sample in samples}
    (file, subtask), *others = origins
    if others or not file:
        return f"predictions.{suffix}" if scored else f"gold.{suffix}"
    return f"{file}.{suffix}" if subtask == "D" else f"{file}.subtask{subtask}.{suffix}"


def _row(pair: RankedPair, scored: bool, file: str) -> tuple[str, ...]:
    name = f"pair {pair.query_id} {pair.candidate_id}"
    if scored and (pair.score is None or not isfinite(pair.score)):
        expected = "a finite score for every predicted pair"
        raise CorpusError(file, found=f"{name} with score {pair.score}", expected=expected)
    if not scored and pair.relevant is None:
        raise CorpusError(file, found=f"{name} without a label", expected="a label for every gold pair")
    score = repr(float(pair.score)) if pair.score is not None else f"{1 / pair.rank:.15g}"
    relevant = pair.relevant if pair.relevant is not None else float(score) >= LABEL_THRESHOLD
    return pair.query_id, pair.candidate_id, str(pair.rank), score, str(relevant).lower()
