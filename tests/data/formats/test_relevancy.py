"""Test questions as they circulate: labels withheld in the XML, and in a file of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.data.corpus import check_corpus, load_corpus
from kaggle_kit.data.formats import Reading, read, write
from kaggle_kit.data.registry import task as task_named

ENGLISH = """<xml version="1.0">
<OrgQuestion ORGQ_ID="Q1"><OrgQSubject>Shoes</OrgQSubject><OrgQBody>which?</OrgQBody>
<Thread THREAD_SEQUENCE="Q1_R1">
<RelQuestion RELQ_ID="Q1_R1" RELQ_RELEVANCE2ORGQ="?"><RelQSubject>Run</RelQSubject><RelQBody/></RelQuestion>
<RelComment RELC_ID="Q1_R1_C1" RELC_RELEVANCE2RELQ="?" RELC_RELEVANCE2ORGQ="?">
<RelCText>a</RelCText></RelComment>
<RelComment RELC_ID="Q1_R1_C2" RELC_RELEVANCE2RELQ="?" RELC_RELEVANCE2ORGQ="?">
<RelCText>b</RelCText></RelComment>
</Thread></OrgQuestion></xml>
"""
ARABIC = """<xml version="1.0"><Question QID="7"><Qtext>q</Qtext>
<QApair QAID="30" QArel="?"><QAquestion>q1</QAquestion><QAanswer>a1</QAanswer></QApair></Question></xml>
"""
A_GOLD = "Q1_R1\tQ1_R1_C1\t1\t1\tfalse\nQ1_R1\tQ1_R1_C2\t2\t0.5\ttrue\n"
XML, GOLD = "SemEval2017-task3-English-test-subtaskA-input.xml", "SemEval2017-Task3-CQA-QL-test-subtaskA.xml"


def put(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def relevant(folder: Path, subtask: str, reading: Reading | None = None) -> list[bool | None]:
    reading = reading or Reading(options={"subtask": subtask})
    return [pair.relevant for sample in read("cqa", folder, reading) for pair in sample.pairs]


@pytest.mark.parametrize(
    ("subtask", "questions", "ending", "lines", "expected"),
    [
        ("A", ENGLISH, "xml.subtaskA.relevancy", A_GOLD, [False, True]),
        ("B", ENGLISH, "xml.subtaskB.relevancy", "Q1\tQ1_R1\t1\t1\ttrue\n", [True]),
        ("C", ENGLISH, "xml.subtaskC.relevancy", A_GOLD.replace("Q1_R1\t", "Q1\t"), [False, True]),
        ("D", ARABIC, "xml.subtaskD.relevancy", "7\t30\t1\t1\ttrue\n", [True]),
        ("D", ARABIC, "xml.relevancy", "7 30 1 1 true", [True]),
    ],
)
def test_withheld_labels_are_read_from_the_relevancy_file_of_the_subtask(
    tmp_path, subtask, questions, ending, lines, expected
):
    put(tmp_path, **{"test-input.xml": questions})
    assert relevant(tmp_path, subtask) == [None] * len(expected)
    put(tmp_path, **{f"gold.{ending}": lines, "other.xml.subtaskE.relevancy": "not read"})
    assert relevant(tmp_path, subtask) == expected


def test_the_gold_file_that_is_written_from_them_is_the_organisers(tmp_path):
    put(tmp_path, **{XML: ENGLISH, f"{GOLD}.subtaskA.relevancy": A_GOLD})
    (path,) = write("cqa", read("cqa", tmp_path, Reading()), tmp_path / "out")
    assert path.read_text() == A_GOLD


def test_a_file_that_lacks_one_pair_is_not_the_gold_and_a_warning_says_so(tmp_path):
    put(tmp_path, **{XML: ENGLISH, "x.subtaskA.relevancy": A_GOLD.splitlines()[0]})
    reading = Reading(options={"subtask": "A"})
    assert relevant(tmp_path, "A", reading) == [None, None]
    assert [warning.found for warning in reading.warnings] == ["2 pairs without labels"]


def test_labels_that_the_questions_have_stand_and_need_no_other_file(tmp_path):
    known = ENGLISH.replace('RELC_RELEVANCE2RELQ="?"', 'RELC_RELEVANCE2RELQ="Good"', 1)
    put(tmp_path, **{XML: known})
    reading = Reading(options={"subtask": "A"})
    assert relevant(tmp_path, "A", reading) == [True, None] and reading.warnings == []
    put(tmp_path, **{"x.subtaskA.relevancy": A_GOLD})
    assert relevant(tmp_path, "A") == [True, True]


def test_two_files_that_disagree_are_refused_and_equal_copies_are_not(tmp_path):
    put(tmp_path, **{XML: ENGLISH, "a.subtaskA.relevancy": A_GOLD, "b.subtaskA.relevancy": A_GOLD})
    assert relevant(tmp_path, "A") == [False, True]
    put(tmp_path, **{"b.subtaskA.relevancy": A_GOLD.replace("true", "false")})
    with pytest.raises(CorpusError, match="other labels than in"):
        relevant(tmp_path, "A")


def test_a_malformed_line_is_named(tmp_path):
    put(tmp_path, **{XML: ENGLISH, "a.subtaskA.relevancy": A_GOLD + "Q1 x 1 1 yes\n"})
    with pytest.raises(CorpusError) as error:
        relevant(tmp_path, "A")
    assert error.value.line == 3


def test_the_distributions_two_archives_make_one_test_split(tmp_path):
    task = task_named("semeval2017t3")
    put(tmp_path / "test_input" / "English-ABC", **{XML: ENGLISH})
    gold = put(tmp_path / "submissions" / "_gold", **{f"{GOLD}.subtaskA.relevancy": A_GOLD})
    corpus = load_corpus(task, tmp_path, ("test",))
    assert [pair.relevant for pair in corpus.splits["test"][0].pairs] == [False, True]
    assert corpus.warnings == ()
    put(gold, **{f"{GOLD}.subtaskA.relevancy": A_GOLD.replace("false", "true")})
    assert load_corpus(task, tmp_path, ("test",)).sha256 != corpus.sha256
    assert [
        p.severity for p in check_corpus(replace(task, layout={"test": task.layout["test"]}), tmp_path)
    ] == []
