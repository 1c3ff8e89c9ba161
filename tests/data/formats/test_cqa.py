"""cQA XML: four subtasks of one task, and the organisers' own relevancy files made again from it."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.types import Access, RankedPair, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "semeval2017t3"


def _comment(identifier, to_related, to_original, text="a comment"):
    return (
        f'<RelComment RELC_ID="{identifier}" RELC_RELEVANCE2RELQ="{to_related}" '
        f'RELC_RELEVANCE2ORGQ="{to_original}"><RelCText>{text}</RelCText></RelComment>\n'
    )


def _thread(identifier, relevance, comments, skip=""):
    return (
        f'<Thread THREAD_SEQUENCE="{identifier}" {skip}>\n'
        f'<RelQuestion RELQ_ID="{identifier}" RELQ_RELEVANCE2ORGQ="{relevance}">'
        f"<RelQSubject>{identifier}?</RelQSubject><RelQBody/></RelQuestion>\n{comments}</Thread>\n"
    )


def _original(identifier, thread, body="to run in?"):
    question = f"<OrgQSubject>Best shoes</OrgQSubject><OrgQBody>{body}</OrgQBody>\n"
    return f'<OrgQuestion ORGQ_ID="{identifier}">\n{question}{thread}</OrgQuestion>\n'


SKIP = 'SubtaskA_Skip_Because_Same_As_RelQuestion_ID="Q1_R1"'
FIRST = _thread(
    "Q1_R1", "PerfectMatch", _comment("Q1_R1_C1", "Good", "Bad") + _comment("Q1_R1_C2", "Bad", "Good")
)
SECOND = _thread("Q1_R4", "Irrelevant", _comment("Q1_R4_C1", "PotentiallyUseful", "?"))
THIRD = _thread("Q2_R1", "Relevant", _comment("Q2_R1_C1", "Good", "Good"), SKIP)
ENGLISH = _original("Q1", FIRST) + _original("Q1", SECOND) + _original("Q2", THIRD)
ARABIC = (
    '<Question QID = "7">\n<Qtext>سؤال </Qtext>\n'
    '<QApair QAID="30" QArel="I"><QAquestion>q1</QAquestion><QAanswer>a1</QAanswer></QApair>\n'
    '<QApair QAID="4" QArel="R"><QAquestion>q2 </QAquestion><QAanswer>a2</QAanswer></QApair>\n'
    '<QApair QAID="12" QArel="D"><QAquestion>q3</QAquestion><QAanswer>a3</QAanswer></QApair></Question>\n'
)


def _corpus(tmp_path, questions, name="forum.xml"):
    content = f'<xml version="1.0">\n{questions}</xml>'.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def _read(tmp_path, subtask, reading=None):
    reading = reading or Reading(options={"subtask": subtask})
    return read("cqa", tmp_path, reading)


def _labels(sample):
    return [(pair.candidate_id, pair.rank, pair.label, pair.relevant) for pair in sample.pairs]


def test_subtask_a_ranks_a_threads_comments_and_skips_repeated_threads(tmp_path):
    path = _corpus(tmp_path, ENGLISH)
    first, second = _read(tmp_path, "A")
    assert (first.document_id, first.text) == ("Q1_R1", "Q1_R1?")
    assert _labels(first) == [("Q1_R1_C1", 1, "Good", True), ("Q1_R1_C2", 2, "Bad", False)]
    assert _labels(second) == [("Q1_R4_C1", 1, "PotentiallyUseful", False)]
    pair = first.pairs[0]
    assert (pair.query_id, pair.text) == ("Q1_R1", "a comment")
    assert (pair.provenance.path, pair.provenance.line) == (str(path), 6)


def test_subtask_b_ranks_the_questions_of_all_threads_of_an_original_question(tmp_path):
    _corpus(tmp_path, ENGLISH)
    first, second = _read(tmp_path, "B")
    assert (first.document_id, first.text) == ("Q1", "Best shoes\nto run in?")
    assert _labels(first) == [("Q1_R1", 1, "PerfectMatch", True), ("Q1_R4", 2, "Irrelevant", False)]
    assert _labels(second) == [("Q2_R1", 1, "Relevant", True)]


def test_subtask_c_ranks_the_comments_of_all_threads_and_keeps_withheld_labels_open(tmp_path):
    _corpus(tmp_path, ENGLISH)
    first, _ = _read(tmp_path, "C")
    assert _labels(first) == [
        ("Q1_R1_C1", 1, "Bad", False),
        ("Q1_R1_C2", 2, "Good", True),
        ("Q1_R4_C1", 3, None, None),
    ]


def test_subtask_d_orders_pairs_by_number_and_keeps_their_rank_in_the_file(tmp_path):
    _corpus(tmp_path, ARABIC, "arabic.xml.gz")
    (sample,) = read("cqa", tmp_path, Reading(split="dev", access=Access.PUBLIC))
    assert (sample.document_id, sample.text, sample.split) == ("7", "سؤال", "dev")
    assert _labels(sample) == [("4", 2, "R", True), ("12", 3, "D", True), ("30", 1, "I", False)]
    assert sample.pairs[0].text == "q2\na2"


def test_an_unknown_subtask_is_a_configuration_error_naming_the_allowed_ones(tmp_path):
    _corpus(tmp_path, ENGLISH)
    with pytest.raises(ConfigError, match="'E'; allowed: A, B, C, D"):
        _read(tmp_path, "E")


def test_repeated_candidates_and_changed_questions_are_warnings_and_the_first_stands(tmp_path):
    repeated = _thread("Q1_R4", "Irrelevant", _comment("Q1_R1_C1", "Bad", "Good"))
    _corpus(tmp_path, _original("Q1", FIRST) + _original("Q1", repeated, body="otherwise"))
    reading = Reading(options={"subtask": "C"})
    (sample,) = _read(tmp_path, "C", reading)
    assert sample.text == "Best shoes\nto run in?"
    assert _labels(sample)[0] == ("Q1_R1_C1", 1, "Bad", False) and len(sample.pairs) == 2
    assert ["another text" in w.found or "again" in w.found for w in reading.warnings] == [True, True]


@pytest.mark.parametrize(
    ("questions", "subtask", "found"),
    [
        ("", "A", "without any question"),
        (ENGLISH, "D", "without any question"),
        (ENGLISH.replace('"Good"', '"Great"'), "A", "'Great'"),
        (ENGLISH.replace("RELC_ID", "ID"), "A", "without RELC_ID"),
        (ENGLISH.replace('"Q1_R1_C2"', '" "'), "C", "without RELC_ID"),
        (ENGLISH.replace("RelCText", "Text"), "C", "without <RelCText>"),
        (ENGLISH.replace("RelQuestion", "Question"), "A", "without <RelQuestion>"),
        (ENGLISH.replace("RELQ_RELEVANCE2ORGQ", "R"), "B", "without RELQ_RELEVANCE2ORGQ"),
        (ARABIC.replace("QArel", "rel"), "D", "without QArel"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, questions, subtask, found):
    path = _corpus(tmp_path, questions)
    with pytest.raises(CorpusError) as caught:
        read("cqa", tmp_path, Reading(options={"subtask": subtask}, strict=True))
    assert caught.value.path == path
    assert found in caught.value.found and caught.value.line >= 1


def test_gold_relevancy_has_the_organisers_columns(tmp_path):
    _corpus(tmp_path, ENGLISH)
    (path,) = write("cqa", _read(tmp_path, "B"), tmp_path / "gold")
    assert path.name == "forum.xml.subtaskB.relevancy"
    assert path.read_bytes() == b"Q1\tQ1_R1\t1\t1\ttrue\nQ1\tQ1_R4\t2\t0.5\tfalse\nQ2\tQ2_R1\t1\t1\ttrue\n"


def test_withheld_labels_cannot_become_gold(tmp_path):
    _corpus(tmp_path, ENGLISH)
    with pytest.raises(CorpusError, match="Q1_R4_C1 without a label"):
        write("cqa", _read(tmp_path, "C"), tmp_path / "gold")


def test_predictions_carry_scores_and_the_predicted_label_or_that_of_the_threshold(tmp_path):
    _corpus(tmp_path, ARABIC)
    (sample,) = _read(tmp_path, "D")
    scores = {"4": 0.25, "12": 0.75, "30": 1e-9}
    pairs = [replace(p, score=scores[p.candidate_id], relevant=None) for p in sample.pairs]
    pairs[0] = replace(pairs[0], relevant=True)
    (path,) = write("cqa", [replace(sample, pairs=tuple(pairs))], tmp_path / "pred")
    assert path.name == "forum.xml.pred"
    assert path.read_text() == "7\t4\t2\t0.25\ttrue\n7\t12\t3\t0.75\ttrue\n7\t30\t1\t1e-09\tfalse\n"


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_prediction_with_a_pair_without_a_finite_score_is_refused(tmp_path, score):
    pairs = (RankedPair("q", "a", "", 1, score=0.1), RankedPair("q", "b", "", 2, score=score))
    with pytest.raises(CorpusError, match="pair q b with score"):
        write("cqa", [UnifiedSample("q", "?", "test", Access.PUBLIC, pairs=pairs)], tmp_path)


def test_samples_of_several_files_or_of_none_get_a_general_file_name(tmp_path):
    pair = RankedPair("q", "a", "", 1, relevant=True)
    samples = [
        UnifiedSample(
            name, "?", "test", Access.PUBLIC, pairs=(pair,), metadata={"subtask": "A", "file": name}
        )
        for name in ("one.xml", "two.xml")
    ]
    assert [path.name for path in write("cqa", samples, tmp_path)] == ["gold.relevancy"]
    predicted = replace(samples[0], pairs=(replace(pair, score=1.0),), metadata={})
    assert [path.name for path in write("cqa", [predicted], tmp_path)] == ["predictions.pred"]
    assert write("cqa", [], tmp_path) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
@pytest.mark.parametrize(
    ("subtask", "file", "relevancy", "columns"),
    [
        ("A", "QL-dev-subtaskA.xml", "QL-dev-subtaskA.xml.subtaskA", (0, 1, 2, 3, 4)),
        ("A", "QL-dev.xml", "QL-dev-subtaskA.xml.subtaskA", (0, 1, 2, 3, 4)),
        ("B", "QL-dev.xml", "QL-dev.xml.subtaskB", (0, 1, 4)),  # there the rank is the search engine's
        ("C", "QL-dev.xml", "QL-dev.xml.subtaskC", (0, 1, 4)),
        ("D", "MD-dev-subtaskD.xml.gz", "MD-dev-subtaskD.xml", (0, 1, 2, 3, 4)),
    ],
)
def test_the_organisers_relevancy_files_are_made_again(tmp_path, subtask, file, relevancy, columns):
    reading = Reading(options={"subtask": subtask})
    samples = read("cqa", REAL / f"SemEval2016-Task3-CQA-{file}", reading)
    (made,) = write("cqa", samples, tmp_path)
    official = REAL / "random_baseline" / f"SemEval2016-Task3-CQA-{relevancy}.relevancy"
    rows = [[line.split("\t") for line in path.read_text().splitlines()] for path in (made, official)]
    ours, theirs = ([[row[column] for column in columns] for row in lines] for lines in rows)
    assert ours == theirs and not reading.warnings
