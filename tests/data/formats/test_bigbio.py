"""BigBIO's `bigbio_kb`: passages in one text, entities in pieces, events as relations, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Access, Mention, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

ABSTRACT = {
    "id": "0",
    "document_id": "7",
    "passages": [
        {"id": "p1", "type": "title", "text": ["Left knee"], "offsets": [[0, 9]]},
        {"id": "p2", "type": "abstract", "text": ["and right pain."], "offsets": [[10, 25]]},
    ],
    "entities": [
        {
            "id": "e1",
            "type": "Site",
            "text": ["Left", "pain"],
            "offsets": [[0, 4], [20, 24]],
            "normalized": [{"db_name": "MESH", "db_id": "D1"}, {"db_name": "", "db_id": "C2"}],
        },
        {"id": "e2", "type": "Side", "text": ["right"], "offsets": [[14, 19]], "normalized": []},
    ],
    "events": [
        {
            "id": "v1",
            "type": "Sign",
            "trigger": {"text": ["pain"], "offsets": [[20, 24]]},
            "arguments": [{"role": "Theme", "ref_id": "e2"}],
        }
    ],
    "coreferences": [],
    "relations": [{"id": "r1", "type": "of", "arg1_id": "e1", "arg2_id": "v1", "normalized": []}],
}


def read_records(folder, *records, strict=True) -> tuple[list[UnifiedSample], Reading]:
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    reading = Reading(strict=strict)
    return read("bigbio", folder, reading), reading


def test_passages_entities_and_events_become_one_document(tmp_path):
    [sample], reading = read_records(tmp_path, ABSTRACT)
    assert (sample.document_id, sample.text) == ("7", "Left knee\nand right pain.")
    assert [(m.id, m.type, m.text(sample.text), m.concepts) for m in sample.mentions] == [
        ("e1", "Site", "Left pain", ("MESH:D1", "C2")),
        ("e2", "Side", "right", ()),
        ("v1", "Sign", "pain", ()),
    ]
    links = [(link.type, link.source, link.target) for link in sample.relations]
    assert links == [("of", "e1", "v1"), ("Theme", "v1", "e2")] and reading.warnings == []


def test_a_passage_that_repeats_another_says_the_same_or_the_document_is_refused(tmp_path):
    whole = {"id": "p0", "type": "all", "text": ["Left knee\nand right pain."], "offsets": [[0, 25]]}
    twice = ABSTRACT | {"passages": [*ABSTRACT["passages"], whole]}
    assert read_records(tmp_path, twice)[0][0].text == whole["text"][0]
    whole["text"] = ["Left knee\nand wrong pain."]
    with pytest.raises(CorpusError, match="a passage at 0-25 of 25 characters|a passage at 10-25"):
        read_records(tmp_path, twice)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"passages": None}, "dict that does not follow bigbio_kb"),
        ({"passages": [{"text": ["abc"], "offsets": [[0, 4]]}]}, "a passage at 0-4 of 3 characters"),
        ({"passages": [{"text": ["abc"], "offsets": []}]}, "dict that does not follow bigbio_kb"),
        ({"entities": [{"id": "e1", "type": "Site", "text": []}]}, "dict without 'offsets'"),
        (
            {"entities": [{"id": "e1", "type": "Site", "text": [], "offsets": [[0, 99]]}]},
            "span 0-99 in a text of 25",
        ),
        ({"relations": [{"id": "r", "type": "of", "arg1_id": "e1"}]}, "dict without 'arg2_id'"),
        ({"relations": [{"id": "r", "type": "of", "arg1_id": "e1", "arg2_id": "e9"}]}, "to unknown id 'e9'"),
        ({"events": [{"id": "v", "type": "Sign"}]}, "dict without 'trigger'"),
    ],
)
def test_what_does_not_follow_the_schema_is_named(tmp_path, change, found):
    with pytest.raises(CorpusError) as refused:
        read_records(tmp_path, ABSTRACT | change)
    assert found in str(refused.value)


def test_what_is_written_is_read_again(tmp_path):
    mentions = (Mention("T1", ((0, 4), (9, 13)), "Site", ("MESH:D1", "C2")), Mention("T2", ((5, 8),), "Side"))
    link = Relation("R1", "of", "T1", "T2")
    sample = UnifiedSample("n/1", "left and pain", "train", Access.PUBLIC, mentions, (link,))
    write("bigbio", [sample], tmp_path)
    [again] = read("bigbio", tmp_path, Reading(strict=True))
    assert replace(again, provenance=None) == sample


def test_a_document_whose_text_is_withheld_has_no_passages_and_no_words(tmp_path):
    sample = UnifiedSample("n1", None, "new", Access.RESTRICTED, (Mention("T1", ((5, 8),), "Side"),))
    [path] = write("bigbio", [sample], tmp_path)
    record = json.loads(path.read_text())
    assert record["passages"] == [] and record["entities"][0]["text"] == []
    [again] = read("bigbio", tmp_path, Reading())
    assert again.text is None and again.mentions[0].fragments == ((5, 8),)
