"""`data new`: splits by names, components by what is annotated, a file that composes and checks clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Access
from kaggle_kit.data.new_task import Look, NewTask, layout_of, look_at

NOTE = {
    "text": "Fever. Aspirin helps.",
    "mentions": [
        {"id": "T1", "type": "Sign", "start": 0, "end": 5},
        {"id": "T2", "type": "Drug", "start": 7, "end": 14},
    ],
    "relations": [{"type": "treats", "source": "T2", "target": "T1"}],
}
QUESTION = {
    "text": "Where?",
    "candidates": [{"text": "North.", "relevant": True}, {"text": "Why?", "relevant": False}],
}


def every(record: dict) -> dict[str, dict]:
    return {f"{split}.jsonl": record for split in ("train", "dev", "test")}


def put(folder: Path, records: dict[str, dict], times: int = 1) -> Path:
    for name, record in records.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(record | {"id": f"{name}{n}"}) + "\n" for n in range(times)]
        (folder / name).write_text("".join(lines))
    return folder


def look(place: Path, **change: object) -> Look:
    said = {"name": "mine", "format": "jsonl", "place": str(place), "access": Access.PUBLIC, "options": {}}
    return look_at(NewTask(**said | change))


def new(*words: object):
    return CliRunner().invoke(app, ["data", "new", *map(str, words)])


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (
            "train.txt devel.txt test.txt",
            {"train": ["train.txt"], "dev": ["devel.txt"], "test": ["test.txt"]},
        ),
        ("data/Train/a.ann data/Train/b.ann data/Dev/c.ann", {"train": ["data/Train"], "dev": ["data/Dev"]}),
        ("NCBItrainset.txt NCBItestset.txt", {"train": ["NCBItrainset.txt"], "test": ["NCBItestset.txt"]}),
        (
            "train-0.parquet validation-0.parquet",
            {"train": ["train-0.parquet"], "dev": ["validation-0.parquet"]},
        ),
        ("train/test-retest.txt", {"train": ["train"]}),  # a folder counts before a file
        ("latest.txt device.txt", {"train": ["latest.txt", "device.txt"]}),
        (" ".join(f"train-{n}-of-9.arrow" for n in range(9)), {"train": ["train-*-of-*.arrow"]}),
        (" ".join(f"n{n}.ann" for n in range(9)), {"train": ["**/*.ann"]}),
        ("train[1].bio", {"train": ["train[[]1].bio"]}),
    ],
)
def test_splits_are_told_by_the_names_of_folders_and_files(files, layout):
    assert layout_of([Path(name) for name in files.split()]) == (layout, [])


def test_a_file_whose_name_tells_no_split_is_named_and_left_out(tmp_path):
    files = [Path("train.bio"), Path("more.bio")]
    assert layout_of(files) == ({"train": ["train.bio"]}, [Path("more.bio")])
    with pytest.raises(ConfigError, match="files of dev, and none is named train"):
        layout_of([Path("dev.bio"), Path("more.bio")])
    put(tmp_path, every(NOTE) | {"more.jsonl": NOTE})
    told = new("--name", "mine", "--format", "jsonl", "--path", tmp_path, "--out", tmp_path / "own")
    assert "more.jsonl" in told.stderr and "more" not in (tmp_path / "own/task/mine.yaml").read_text()


def test_mentions_relations_and_rankings_become_components_with_their_scorer(tmp_path):
    notes = look(put(tmp_path / "a", every(NOTE))).task
    assert [(part["name"], part["kind"], part["level"]) for part in notes["components"]] == [
        ("ner", "token_classification", 1),
        ("relations", "relation_extraction", 2),
    ]
    assert (notes["scorer"], notes["segments"]) == ("brat", "windows")  # the relation leaves its sentence
    assert notes["secondary_metrics"] == ["entity_f1", "relation_strict_f1"]
    asked = look(put(tmp_path / "b", every(QUESTION)))
    assert [part["kind"] for part in asked.task["components"]] == ["sequence_ranking"]
    assert (asked.task["scorer"], asked.task["primary_metric"]) == ("semeval2017t3", "map")
    nested = NOTE | {"mentions": [*NOTE["mentions"], {"type": "Site", "start": 2, "end": 5}]}
    third = look(put(tmp_path / "c", every(nested)))
    assert third.task["components"][0]["kind"] == "span_classification"
    both = put(tmp_path / "d", every(QUESTION | NOTE))
    with pytest.raises(ConfigError, match="make two tasks"):
        look(both)


def test_a_corpus_without_dev_or_test_gets_them_from_its_training_documents(tmp_path):
    one = look(put(tmp_path / "a", {"train.jsonl": NOTE, "test.jsonl": NOTE}, 40))
    assert one.task["held_out"] == {"dev": {"source": "train", "fraction": 0.2}}
    both = look(put(tmp_path / "b", {"notes.jsonl": NOTE}, 60))
    assert both.task["layout"] == {"train": ["notes.jsonl"]} and set(both.task["held_out"]) == {"dev", "test"}
    assert sum(map(len, both.corpus.splits.values())) == 60
    with pytest.raises(ConfigError, match="no document for (train, )?(dev|test)"):
        look(put(tmp_path / "c", {"notes.jsonl": NOTE}))


def test_the_file_composes_and_the_printed_commands_run(tmp_path, monkeypatch):
    rows = "".join(f"word{n} O\naspirin B-Drug\n\n" for n in range(30))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train.conll").write_text(rows)
    own = tmp_path / "own"
    told = new("--name", "mine", "--format", "conll", "--path", tmp_path / "corpus", "--out", own, "column=2")
    assert told.exit_code == 0, told.output
    text = (own / "task" / "mine.yaml").read_text()
    assert len(text.splitlines()) <= 18 and yaml.safe_load(text)["options"] == {"column": "2"}
    assert yaml.safe_load(text)["secondary_metrics"] == ["entity_f1"]
    export, check, run = told.stdout.splitlines()[-3:]
    assert export == f"export KAGGLE_KIT_PARAMS={own}"
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(own))
    checked = CliRunner().invoke(app, check.split()[3:])
    assert checked.exit_code == 0
    lines = checked.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["mine", "train:", "dev:", "test:"] and "(Drug " in lines[1]
    words = run.partition("kaggle_kit ")[2].split()
    config = compose(task="mine", profile=words[words.index("--profile") + 1], overrides=words[6:])
    assert (
        run.startswith(f"KAGGLE_KIT_MINE={tmp_path}/corpus ") and config.tasks["mine"].access == "restricted"
    )
    again = new("--name", "mine", "--format", "conll", "--path", tmp_path / "corpus", "--out", own)
    assert again.exit_code == 2 and "there is a task 'mine' already" in again.stderr
    monkeypatch.delenv("KAGGLE_KIT_PARAMS")
    again = new("--name", "mine", "--format", "conll", "--path", tmp_path / "corpus", "--out", own)
    assert again.exit_code == 2 and "is there already" in again.stderr
    assert (own / "task" / "mine.yaml").read_text() == text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "My-notes"}, "task name 'My-notes'"),
        ({"name": "data"}, "task name 'data'"),  # KAGGLE_KIT_DATA is another thing
        ({"name": "model_tiny"}, "task name 'model_tiny'"),
        ({"name": "ncbi_disease"}, "there is a task 'ncbi_disease' already"),
        ({"format": "connll"}, "did you mean 'conll'"),
        ({"format": "anafora"}, "format 'anafora'; allowed"),
        ({"options": {"colum": "2"}}, "did you mean 'column'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(change, told):
    with pytest.raises(ConfigError, match=told):
        look(Path("nowhere"), **{"format": "conll"} | change)


TOKENS = {"tokens": ["zyxqwv", "fever"], "ner_tags": ["O", "B-Sign"]}
SAID = {"text": "zyxqwv fever", "mentions": [{"type": "Sign", "start": 7, "end": 12}]}
PASSAGE = {"id": "p", "type": "note", "text": [SAID["text"]], "offsets": [[0, 12]]}
ENTITY = {"id": "e", "type": "Sign", "text": ["fever"], "offsets": [[7, 12]], "normalized": []}
GRAPH = {"passages": [PASSAGE], "entities": [ENTITY], "events": [], "relations": []}
DAMAGED = '{"zyxqwv": "zyxqwv"}\n{"zyxqwv\n'


@pytest.mark.parametrize(
    ("form", "rows", "damaged"),
    [
        ("jsonl", [json.dumps(SAID | {"id": n}) for n in range(20)], DAMAGED),
        ("bigbio", [json.dumps(GRAPH | {"document_id": str(n)}) for n in range(20)], DAMAGED),
        (
            "hf",
            [json.dumps(TOKENS)] * 20,
            '{"zyxqwv": "zyxqwv"}\n{"tokens": ["zyxqwv"], "ner_tags": ["zyxqwv"]}\n',
        ),
        ("conll", ["zyxqwv O\nfever B-Sign\n"] * 20, "\nzyxqwv zyxqwv zyxqwv\n\nzyxqwv zyxqwv\n"),
    ],
)
def test_no_word_of_a_restricted_corpus_is_printed_or_written(tmp_path, monkeypatch, form, rows, damaged):
    for split in ("train", "dev", "test"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        name = "a.conll" if form == "conll" else "a.jsonl"
        (tmp_path / "corpus" / split / name).write_text("\n".join(rows) + "\n" + damaged)
    words = ["--name", "mine", "--format", form, "--path", tmp_path / "corpus", "--out", tmp_path / "own"]
    told = new(*words)
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path / "own"))
    checked = CliRunner().invoke(app, ["data", "check", "mine", "--path", str(tmp_path / "corpus")])
    assert (told.exit_code, checked.exit_code) == (0, 0) and "6 record(s) skipped" in checked.stdout
    written = (tmp_path / "own" / "task" / "mine.yaml").read_text()
    assert "20 mentions (Sign 20)" in checked.stdout and "zyxq" not in told.output + checked.output + written
