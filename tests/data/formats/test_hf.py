"""HuggingFace datasets: what `datasets` itself writes is read with its class names; odd rows are told."""

from __future__ import annotations

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.data.formats import Reading, read

TAGS = ClassLabel(names=["O", "B-Disease", "I-Disease"])
ROWS = {"id": ["7", "8"], "tokens": [["No", "chest", "pain"], ["Well"]], "ner_tags": [[0, 1, 2], [0]]}
TAGGED = Dataset.from_dict(
    ROWS, Features({"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(TAGS)})
)
ENTITY = {"start": Value("int32"), "end": Value("int32"), "label": ClassLabel(names=["Drug", "Disease"])}
SPANS = Dataset.from_dict(
    {"text": ["No chest pain."], "entities": [[{"start": 3, "end": 13, "label": 1}]]},
    Features({"text": Value("string"), "entities": List(ENTITY)}),
)


def found(samples) -> list[tuple[str, str, str]]:
    return [(s.document_id, m.text(s.text), m.type) for s in samples for m in s.mentions]


def read_rows(folder, *rows, strict=True, **options: str):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = Reading(options=options, strict=strict)
    return read("hf", folder, reading), reading


def test_a_folder_of_save_to_disk_is_read_without_the_librarys_own_files(tmp_path):
    DatasetDict({"train": TAGGED}).save_to_disk(tmp_path)
    (tmp_path / "train" / "cache-1234.arrow").write_bytes(b"left by a map")
    samples = read("hf", tmp_path, Reading(strict=True))
    assert [sample.text for sample in samples] == ["No chest pain", "Well"]
    assert found(samples) == [("7", "chest pain", "Disease")]


def test_parquet_holds_texts_with_entities_and_the_names_of_their_classes(tmp_path):
    SPANS.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    samples = read("hf", tmp_path, Reading(strict=True))
    assert found(samples) == [("train-00000-of-00001-1", "chest pain", "Disease")]


def test_columns_and_classes_are_named_by_options(tmp_path):
    row = {"words": ["chest", "pain"], "labels": [1, 2]}
    named = {"tokens": "words", "tags": "labels", "classes": "O,B-Disease,I-Disease"}
    assert found(read_rows(tmp_path, row, **named)[0]) == [("train-1", "chest pain", "Disease")]
    row = {"note": "No pain", "spans": {"start": [3], "end": [7], "type": ["Sign"]}, "key": 5}
    assert found(read_rows(tmp_path, row, text="note", entities="spans", id="key")[0]) == [
        ("5", "pain", "Sign")
    ]
    (tmp_path / "train.jsonl").write_text(json.dumps([row]))  # a list is as good as lines
    named = {"text": "note", "entities": "spans"}
    assert len(read("hf", tmp_path, Reading(options=named))) == 1


def test_missing_columns_are_named_beside_those_that_there_are(tmp_path):
    with pytest.raises(CorpusError, match="columns labels, tokens; expected tokens and ner_tags"):
        read_rows(tmp_path, {"tokens": ["a"], "labels": ["O"]})
    with pytest.raises(CorpusError, match="columns text; expected text and entities"):
        read_rows(tmp_path, {"text": "a"})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"tokens": ["a"], "ner_tags": [1]}, "class 1"),  # nothing names it
        ({"tokens": ["a"], "ner_tags": ["Disease"]}, "tag 'Disease'"),
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "a row whose tokens and ner_tags do not fit"),
        ({"tokens": [3], "ner_tags": ["O"]}, "a row whose tokens and ner_tags do not fit"),
        ({"text": "a", "entities": [{"start": 0, "end": 9, "label": "X"}]}, "span 0-9 in a text of 1"),
        (
            {"text": "a", "entities": [{"start": 0, "end": 1}]},
            "a row whose text and entities do not fit (IndexError)",
        ),
        ({"text": "a", "entities": "X"}, "a row whose text and entities do not fit"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_number(tmp_path, row, told):
    with pytest.raises(CorpusError) as refused:
        read_rows(tmp_path, row)
    assert told in str(refused.value) and refused.value.line == 1


def test_an_illegal_tag_is_told_by_its_row(tmp_path):
    _, reading = read_rows(tmp_path, {"tokens": ["a", "b", "c"], "ner_tags": ["B-X", "O", "I-X"]})
    assert [(problem.line, problem.found) for problem in reading.warnings] == [(1, "'I-X' after 'O'")]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.json"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"{[not one of them" * 9)
    with pytest.raises(CorpusError, match=name):
        read("hf", tmp_path, Reading())
