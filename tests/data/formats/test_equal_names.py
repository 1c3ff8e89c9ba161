"""Two documents with one file name in two sub-folders: both are read, written, and scored apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.data.corpus import load_corpus
from kaggle_kit.data.registry import task
from kaggle_kit.evaluation.documents import document_statistics
from kaggle_kit.evaluation.official import score_samples

SLOTS = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"
ANAFORA = (
    "<data><annotations><entity><id>1@e@a@gold</id><span>7,12</span><type>EVENT</type>"
    "<properties><DocTimeRel>OVERLAP</DocTimeRel></properties></entity></annotations></data>"
)
TABLE = "docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother\n"
CORPORA = {  # task -> split, where text and annotations lie in a sub-folder of it, and the annotations
    "semeval2021t6": ("train", "001.txt", "001.ann", "T1\tDIS 7 12\t{word}\n"),
    "semeval2014t7": ("train", "001.text", "001.pipe", "001.text||Disease_Disorder||C0000001||7||12\n"),
    "semeval2015t14": ("train", "001.text", "001.pipe", f"001.text|7-12|C0000001|{SLOTS}\n"),
    "semeval2016t12": ("Train", "clin/clin", "clin/clin.Temporal-Relation.gold.completed.xml", ANAFORA),
    "measeval2021t8": (
        "train",
        "text/001.txt",
        "tsv/001.tsv",
        TABLE + "001\t1\tQuantity\t7\t12\tT1-1\t{word}\t\n",
    ),
}
METRICS = {"semeval2016t12": "event_span_f1", "semeval2015t14": "task1_strict_f1"}


def corpus(root, name, annotated=("fever", "cough")):
    split, text, annotations, content = CORPORA[name]
    for batch, word in (("b1", "fever"), ("b2", "cough")):
        for path, written in ((text, f"He has {word}."), (annotations, content.format(word=word))):
            place = root / split / batch / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if path == text or word in annotated:
                place.write_text(written)
    return load_corpus(task(name), root, ["train"])


@pytest.mark.parametrize("name", CORPORA)
def test_documents_of_one_name_are_read_written_and_scored_apart(tmp_path, monkeypatch, name):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    found = corpus(tmp_path, name)
    first, second = found.splits["train"]
    stem = "clin" if name == "semeval2016t12" else "001"
    assert [sample.document_id for sample in (first, second)] == [f"b1/{stem}", f"b2/{stem}"]
    assert not found.warnings
    known = task(name)
    known = replace(known, primary_metric=METRICS.get(name, known.primary_metric))
    metric, gold = known.primary_metric, [first, second]
    assert score_samples(known, gold, gold, tmp_path / "same")[metric] == 1
    half = [first, replace(second, mentions=())]
    expected = 1 / 2 if name == "measeval2021t8" else 2 / 3  # a mean over rows, else an F1
    assert score_samples(known, gold, half, tmp_path / "half")[metric] == pytest.approx(expected)
    records = document_statistics(known, gold, tmp_path / "half")
    assert [record.get("tp", record.get("value")) for record in records] == [1, 0]


@pytest.mark.parametrize("name", ["semeval2014t7", "semeval2015t14", "semeval2016t12", "measeval2021t8"])
def test_a_note_that_nobody_annotated_is_read_beside_an_annotated_one_of_its_name(tmp_path, name):
    samples = corpus(tmp_path, name, annotated=("fever",)).splits["train"]
    assert [(sample.text, len(sample.mentions)) for sample in samples] == [
        ("He has fever.", 1),
        ("He has cough.", 0),
    ]


def test_documents_of_one_name_without_texts_are_told_apart_by_their_annotations(tmp_path):
    for batch, at in (("b1", "7 12"), ("b2", "0 2")):
        (tmp_path / "train" / batch).mkdir(parents=True)
        (tmp_path / "train" / batch / "001.ann").write_text(f"T1\tDIS {at}\tx\n")
    samples = load_corpus(task("semeval2021t6"), tmp_path, ["train"]).splits["train"]
    assert [sample.document_id for sample in samples] == ["b1/001", "b2/001"]


def test_one_document_with_two_annotations_is_named_as_such(tmp_path):
    for batch, line in (("b1", "T1\tDIS 7 12\tfever\n"), ("b2", "T1\tDIS 0 2\tHe\n")):
        (tmp_path / "train" / batch).mkdir(parents=True)
        (tmp_path / "train" / batch / "001.txt").write_text("He has fever.")
        (tmp_path / "train" / batch / "001.ann").write_text(line)
    found = load_corpus(task("semeval2021t6"), tmp_path, ["train"])
    assert any("again, with other annotations" in problem.found for problem in found.warnings)
