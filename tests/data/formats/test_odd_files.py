"""Files as no tool should write them, and as they are found: read right, or refused by their place."""

from __future__ import annotations

import time

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats import FORMATS, Reading, read, write
from kaggle_kit.data.formats.base import corpus_files

TEXT = "pain and fever"
ANN = "T1\tSign 0 4\tpain\nT2\tSign 9 14\tfever\nR1\tWith Arg1:T1 Arg2:T2\nA1\tNegated R1\n"


def brat(folder, annotations: str, text: str = TEXT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text(text, newline="")
    (folder / "a.ann").write_text(annotations, newline="")
    (sample,) = read("brat", folder, Reading(strict=True))
    return sample


@pytest.mark.parametrize("ends", ["\r", "\r\n"])
def test_lines_that_end_as_on_an_old_mac_are_lines(tmp_path, ends):
    plain = brat(tmp_path / "plain", ANN)
    other = brat(tmp_path / "other", ANN.replace("\n", ends))
    kept = [[(m.id, m.fragments, m.type) for m in sample.mentions] for sample in (plain, other)]
    assert kept[0] == kept[1] and len(kept[0]) == 2
    assert other.relations[0].attributes == {"Negated": "true"}


@pytest.mark.parametrize("ends", ["\r", "\r\n"])
def test_pubtator_records_that_end_as_on_an_old_mac_are_records(tmp_path, ends):
    text = "1|t|Pain\n1|a|and fever\n1\t0\t4\tPain\tSign\tD01\n\n2|t|Pain\n2|a|again\n"
    (tmp_path / "a.txt").write_text(text.replace("\n", ends), newline="")
    first, second = read("pubtator", tmp_path / "a.txt", Reading(strict=True))
    assert (first.document_id, second.document_id) == ("1", "2")
    assert first.mentions[0].fragments == ((0, 4),)


def seconds(folder, count: int) -> float:
    """What reading as many relations with an attribute each takes, the best of three times."""
    lines = ["T1\tSign 0 4\tpain", "T2\tSign 9 14\tfever"]
    lines += [f"R{n}\tWith Arg1:T1 Arg2:T2\nA{n}\tNegated R{n}" for n in range(1, count + 1)]
    folder.mkdir()
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        sample = brat(folder, "\n".join(lines) + "\n")
        best = min(best, time.process_time() - begun)
    assert len(sample.relations) == count and sample.relations[-1].attributes == {"Negated": "true"}
    return best


def test_attributes_of_relations_take_time_in_line_with_their_number(tmp_path):
    assert seconds(tmp_path / "many", 8000) < 10 * seconds(tmp_path / "few", 2000)  # linear 4, quadratic 16


ANAFORA = "<data><annotations></annotations></data>"


@pytest.mark.parametrize("id", ["..", ".", "..."])
def test_a_note_of_anafora_that_is_named_by_dots_alone_is_refused_by_its_file(tmp_path, id):
    path = tmp_path / "note" / f"{id}.Temporal-Relation.gold.completed.xml"
    path.parent.mkdir()
    path.write_text(ANAFORA)
    with pytest.raises(CorpusError, match="note id '[.]+'") as caught:
        read("anafora", path, Reading())
    assert caught.value.path == path
    with pytest.raises(CorpusError, match="no corpus file"):  # hidden files are a system's, not a corpus's
        read("anafora", tmp_path, Reading())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("id", ["..", ".", "../a", "/etc/a", "a/../../b"])
def test_no_document_is_written_outside_the_folder(tmp_path, name, id):
    with pytest.raises(CorpusError, match="document id"):
        write(name, [UnifiedSample(id, "text", "dev", "public")], tmp_path / "out")
    assert not list(tmp_path.rglob("*.*"))


def test_endings_in_capitals_are_endings_in_every_format(tmp_path):
    """A table of MeasEval in capitals was read as a document without annotations."""
    table = "docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother\n"
    (tmp_path / "A.TSV").write_text(table + "A\t1\tQuantity\t0\t4\tT1-1\tpain\t\n")
    (tmp_path / "A.TXT").write_text(TEXT)
    (tmp_path / "A.TEXT").write_text(TEXT)
    (tmp_path / "A.PIPE").write_text("A.text||Disease_Disorder||C0000001||0||4\n")
    (tmp_path / "B.TEXT").write_text("no annotations")
    (tmp_path / "b.A1").write_text("T1\tSign 0 4\tpain\n")
    (tmp_path / "b.a2").write_text("T2\tSign 9 14\tfever\nE1\tSign:T2 With:T1\n")
    (tmp_path / "b.Txt").write_text(TEXT)
    for name, path in (("measeval", "A.TSV"), ("share_pipe", "A.PIPE"), ("brat", "b.A1")):
        (sample,) = read(name, tmp_path / path, Reading(strict=True))
        assert sample.text == TEXT and sample.mentions[0].text(TEXT) == "pain", name
    assert len(sample.mentions) == 2 and len(sample.relations) == 1  # of .A1 and .a2
    assert [s.document_id for s in read("share_pipe", tmp_path, Reading(strict=True))] == ["A", "B", "b"]


def test_annotations_of_a_shared_task_beside_those_of_brat_are_told(tmp_path):
    for ending in (".ann", ".a1"):
        (tmp_path / f"a{ending}").write_text("T1\tSign 0 4\tpain\n")
    (tmp_path / "a.txt").write_text(TEXT)
    reading = Reading()
    assert len(read("brat", tmp_path, reading)) == 1
    assert [problem.path.name for problem in reading.warnings] == ["a.a1"]


def test_annotations_of_anafora_under_another_name_are_told_and_not_taken_for_none(tmp_path):
    (tmp_path / "N").mkdir()
    (tmp_path / "N" / "N").write_text(TEXT)
    (tmp_path / "N" / "N.Temporal-Relation.ann.inprogress.xml").write_text(ANAFORA)
    reading = Reading()
    assert [sample.mentions for sample in read("anafora", tmp_path, reading)] == [()]
    assert [problem.path.suffix for problem in reading.warnings] == [".xml"]


def test_a_note_of_share_in_a_txt_file_that_nobody_annotated_is_a_document(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "a.pipe").write_text("a.text||Disease_Disorder||C0000001||0||4\n")
    (tmp_path / "b.txt").write_text("none")
    (tmp_path / "README.txt").write_text("what this is")
    assert [s.document_id for s in read("share_pipe", tmp_path, Reading(strict=True))] == ["a", "b"]


def test_lines_of_an_old_mac_that_end_in_one_new_line_are_lines(tmp_path):
    sample = brat(tmp_path / "a", ANN.replace("\n", "\r").rstrip("\r") + "\n")
    assert len(sample.mentions) == 2 and len(sample.relations) == 1


def test_a_file_without_a_document_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n")
    reading = Reading()
    assert read("pubtator", tmp_path / "a.txt", reading) == []
    assert [problem.found for problem in reading.warnings] == ["no document"]


def test_a_linked_folder_is_read_and_one_that_holds_itself_is_not_read_twice(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "elsewhere").mkdir()
    brat(tmp_path / "elsewhere", "")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
    assert [path.parent.name for path in corpus_files(tmp_path / "corpus", ".txt")] == ["linked"]
