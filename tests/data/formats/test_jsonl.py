"""JSON lines: what one document may hold, what is refused, and predictions that are read again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

NOTE = {
    "id": "n1",
    "text": "No fever after aspirin.",
    "meta": {"year": 2020},
    "mentions": [
        {
            "id": "T1",
            "type": "Disease",
            "start": 3,
            "end": 8,
            "text": "fever",
            "attributes": {"negated": True},
        },
        {"type": "Drug", "fragments": [[9, 14], [15, 22]], "concepts": ["D001241"], "score": 0.5},
    ],
    "relations": [{"type": "treats", "source": "T2", "target": "T1"}],
}
QUESTION = {
    "text": "Where?",
    "candidates": [{"id": "c", "text": "North.", "relevant": True}, {"text": "No."}],
}


def read_lines(folder, *records, strict=False) -> tuple[list[UnifiedSample], Reading]:
    path, reading = folder / "notes.jsonl", Reading(strict=strict)
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records) + "\n")
    return read("jsonl", path, reading), reading


def test_a_document_holds_mentions_in_pieces_with_concepts_and_relations(tmp_path):
    [sample], reading = read_lines(tmp_path, NOTE)
    first, second = sample.mentions
    assert (first.text(sample.text), dict(first.attributes)) == ("fever", {"negated": "True"})
    assert (second.id, second.fragments, second.concepts) == ("T2", ((9, 14), (15, 22)), ("D001241",))
    [link] = sample.relations
    assert (link.id, link.type, link.source, link.target) == ("R1", "treats", "T2", "T1")
    assert dict(sample.metadata) == {"year": "2020"} and reading.warnings == []


def test_a_question_ranks_its_candidates_in_their_order(tmp_path):
    [sample], _ = read_lines(tmp_path, QUESTION)
    assert sample.document_id == "notes-1"
    assert [(p.candidate_id, p.rank, p.relevant) for p in sample.pairs] == [
        ("c", 1, True),
        ("notes-1-2", 2, None),
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"entities": []}, "key 'entities' of a document"),
        ({"text": None}, "a document without 'text'"),
        ({"text": 5}, "int for 'text' of a document"),
        ({"mentions": [{"type": "D", "start": 3}]}, "a mention's place"),
        ({"mentions": [{"type": "D", "start": 3, "end": True}]}, "bool for 'end' of a mention"),
        ({"mentions": [{"type": "D", "start": 3, "end": 99}]}, "span 3-99 in a text of 23 characters"),
        ({"mentions": [{"type": "D", "start": 3, "end": 8, "fragments": [[3, 8]]}]}, "a mention's place"),
        ({"mentions": [{"type": "D", "fragments": []}]}, "a mention's place"),
        ({"mentions": ["fever"]}, "str for a mention"),
        ({"relations": [{"type": "treats", "source": "T2"}]}, "a relation without its ends"),
        ({"relations": [{"type": "treats", "source": "T2", "target": "T9"}]}, "relation 'R1' to unknown id"),
        ({"meta": {"a": [1]}}, "a list or an object as the value"),
    ],
)
def test_what_does_not_follow_the_format_is_named(tmp_path, change, found):
    with pytest.raises(CorpusError) as refused:
        read_lines(tmp_path, NOTE | change, strict=True)
    assert found in str(refused.value) and refused.value.path.name == "notes.jsonl"


def test_a_line_that_is_no_object_costs_one_document(tmp_path):
    samples, reading = read_lines(tmp_path, NOTE, "{", "[1]", NOTE | {"id": "n2"})
    assert [sample.document_id for sample in samples] == ["n1", "n2"]
    assert [problem.line for problem in reading.warnings] == [2, 3]


def test_a_stored_text_that_is_not_the_text_at_its_offsets_is_a_warning(tmp_path):
    mention = NOTE["mentions"][0] | {"text": "pain"}
    _, reading = read_lines(tmp_path, NOTE | {"mentions": [mention], "relations": []})
    assert "'pain'" in reading.warnings[0].found and reading.tally.shifts.total() == 1


def test_a_bad_mention_in_every_document_is_few_among_many_records(tmp_path):
    """Rejected mentions were held against the number of documents, and so seemed to be all."""
    past = {"type": "D", "start": 3, "end": 99}
    _, reading = read_lines(
        tmp_path, *(NOTE | {"id": n, "mentions": [*NOTE["mentions"], past]} for n in range(9))
    )
    assert (reading.tally.records, reading.tally.rejected) == (9 * 5, 9)


def test_bytes_that_are_no_utf8_are_an_error_with_their_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(json.dumps(NOTE).encode() + b"\n\xff\n")
    with pytest.raises(CorpusError, match=r"a\.jsonl:[12]: .*UTF-8"):
        read("jsonl", tmp_path / "a.jsonl", Reading())


def test_predictions_are_written_without_the_documents_text_and_hold_all_annotations(tmp_path):
    mentions = (Mention("T1", ((3, 8),), "Disease", score=0.75), Mention("T2", ((15, 22),), "Drug", ("D1",)))
    link = Relation("R1", "treats", "T2", "T1", score=0.5)
    sample = UnifiedSample("n1", NOTE["text"], "new", Access.PUBLIC, mentions, (link,))
    pairs = (RankedPair("q", "a", "x", 1, score=0.1), RankedPair("q", "b", "y", 2, relevant=True, score=0.9))
    asked = UnifiedSample("q", "Where?", "new", Access.PUBLIC, pairs=pairs)
    [path] = write("jsonl", [sample], tmp_path)
    assert write("jsonl", [asked], tmp_path, append=True) == [path]
    one, two = map(json.loads, path.read_text().splitlines())
    assert one == {
        "id": "n1",
        "mentions": [
            {"id": "T1", "type": "Disease", "fragments": [[3, 8]], "text": "fever", "score": 0.75},
            {"id": "T2", "type": "Drug", "fragments": [[15, 22]], "text": "aspirin", "concepts": ["D1"]},
        ],
        "relations": [{"id": "R1", "type": "treats", "source": "T2", "target": "T1", "score": 0.5}],
    }
    assert two == {
        "id": "q",
        "candidates": [{"id": "b", "relevant": True, "score": 0.9}, {"id": "a", "score": 0.1}],
    }
    [again], _ = read_lines(tmp_path, one | {"text": sample.text})
    assert replace(again, split="new", provenance=None) == sample
