"""BRAT stand-off: what each kind of line becomes, and what happens to files that are not quite right."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Mention, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

TEXT = "No left and right atrial pain.\nAspirin helped."
REAL = Path(__file__).resolve().parents[4] / "shared" / "data"


def _corpus(folder: Path, annotations: str | bytes, text: str | None = TEXT, name: str = "d1") -> Path:
    content = annotations if isinstance(annotations, bytes) else annotations.encode()
    (folder / f"{name}.ann").write_bytes(content)
    if text is not None:
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def _one(
    folder: Path, annotations: str | bytes, text: str | None = TEXT, strict: bool = False
) -> tuple[UnifiedSample, Reading]:
    reading = Reading(strict=strict)
    [sample] = read("brat", _corpus(folder, annotations, text), reading)
    return sample, reading


def test_a_discontinuous_mention_keeps_both_pieces(tmp_path):
    sample, reading = _one(tmp_path, "T1\tSite 3 7;18 24\tleft atrial\n")
    [mention] = sample.mentions
    assert mention.fragments == ((3, 7), (18, 24)) and mention.type == "Site"
    assert mention.text(sample.text) == "left atrial"
    assert mention.provenance.line == 1 and reading.warnings == []


def test_a_relation_of_events_links_their_triggers_and_roles_become_relations(tmp_path):
    lines = [
        "T1\tSign 25 29\tpain",
        "T2\tDrug 31 38\tAspirin",
        "T3\tOutcome 39 45\thelped",
        "E1\tSign:T1 ",
        "E2\tOutcome:T3 Agent:T2 Theme:E1",
        "R1\tAFTER Arg1:E2 Arg2:E1\t",
    ]
    sample, _ = _one(tmp_path, "\n".join(lines))
    found = [
        (link.id, link.type, link.source, link.target, dict(link.attributes)) for link in sample.relations
    ]
    assert found == [
        ("E2.1", "Agent", "T3", "T2", {"event": "E2"}),
        ("E2.2", "Theme", "T3", "T1", {"event": "E2"}),
        ("R1", "AFTER", "T3", "T1", {}),
    ]


def test_attributes_and_concepts_land_on_the_mention_and_notes_are_read_past(tmp_path):
    lines = [
        "T1\tSign 25 29\tpain",
        "E1\tSign:T1",
        "A1\tNegation E1",
        "M2\tPolarity T1 NEG",
        "N1\tReference T1 UMLS:C0030193\tPain",
        "#1\tAnnotatorNotes T1\tsure?",
        "*\tEquiv T1 T1",
    ]
    sample, _ = _one(tmp_path, "\n".join(lines))
    [mention] = sample.mentions
    assert dict(mention.attributes) == {"Negation": "true", "Polarity": "NEG"}
    assert mention.concepts == ("UMLS:C0030193",)


def test_line_breaks_inside_a_mention_show_as_blanks_and_other_differences_warn(tmp_path):
    sample, reading = _one(tmp_path, "T1\tX 25 38\tpain. Aspirin\nT2\tX 31 38\taspirin\n")
    assert sample.mentions[1].text(sample.text) == "Aspirin"
    assert [problem.line for problem in reading.warnings] == [2]
    assert "'aspirin'" in reading.warnings[0].found and "'Aspirin'" in reading.warnings[0].expected


def test_windows_line_ends_and_a_byte_order_mark_leave_offsets_alone(tmp_path):
    text = "pain.\r\nAspirin"
    sample, reading = _one(tmp_path, b"\xef\xbb\xbfT1\tDrug 7 14\tAspirin\r\n\r\n", text)
    assert sample.text == text and sample.mentions[0].text(text) == "Aspirin"
    assert reading.warnings == []


def test_a_text_without_annotations_and_an_empty_annotation_file_are_empty_samples(tmp_path):
    _corpus(tmp_path, "", name="empty")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bare.txt").write_text("Nothing found.")
    samples = read("brat", tmp_path, Reading())
    assert [(sample.document_id, sample.mentions) for sample in samples] == [("bare", ()), ("empty", ())]


def test_the_text_may_lie_in_a_folder_of_its_own_or_nowhere(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "gold").mkdir()
    (tmp_path / "text" / "d1.txt").write_text(TEXT)
    folder = _corpus(tmp_path / "gold", "T1\tSign 25 29\tpain\n", text=None)
    assert read("brat", folder, Reading(text_folder=tmp_path / "text"))[0].text == TEXT
    reading = Reading()
    assert read("brat", folder, reading)[0].text is None
    assert "no text" in reading.warnings[0].found


@pytest.mark.parametrize(
    ("annotations", "line", "found"),
    [
        ("T1\tSign 25 29\tpain\nT1\tSign 0 2\tNo\n", 2, "'T1' twice"),
        ("T1\tSign 40 99\tx\n", 1, "span 40-99 in a text of 46"),
        ("T1\tSign 9 9\tx\n", 1, "span 9-9"),
        ("T1\tSign 2 x\tpain\n", 1, "'x'"),
        ("T1\tSign 2\tpain\n", 1, "'2'"),
        ("T1 Sign 2 3 pain\n", 1, "T1 Sign"),
        ("\nR1\tX Arg1:T1 Arg2:T2\n", 2, "unknown id 'T1'"),
        ("R1\tX Arg1:T1\n", 1, "R1"),
        ("A1\tNeg T7\n", 1, "'T7'"),
        ("?\n", 1, "'?'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, annotations, line, found):
    with pytest.raises(CorpusError) as caught:
        _one(tmp_path, annotations, strict=True)
    assert caught.value.line == line and found in caught.value.found


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    with pytest.raises(CorpusError) as caught:
        _one(tmp_path, b"T1\tSign 25 29\tpain\nT2\tX 0 2\tN\xe9\n")
    assert caught.value.line == 2 and "0xe9" in caught.value.found


def test_what_is_written_reads_back_the_same(tmp_path):
    lines = [
        "T1\tSign 3 7;18 24\tleft atrial",
        "T2\tDrug 25 38\tpain. Aspirin",
        "T3\tOutcome 39 45\thelped",
        "R1\tAFTER Arg1:T3 Arg2:T1",
        "E1\tOutcome:T3 Agent:T2 Theme:T1",
        "A1\tPolarity T1 NEG",
        "A2\tCertain R1",
        "N1\tReference T2 UMLS:C0004057\tAspirin",
    ]
    sample, _ = _one(tmp_path, "\n".join(lines))
    write("brat", [sample], tmp_path / "out")
    [again] = read("brat", tmp_path / "out", reading := Reading(text_folder=tmp_path))
    assert again.mentions == sample.mentions
    assert sorted(again.relations, key=lambda link: link.id) == sorted(
        sample.relations, key=lambda link: link.id
    )
    assert reading.warnings == []


def test_predictions_get_brat_ids_and_every_document_a_file(tmp_path):
    mentions = (Mention("p-1", ((0, 2),), "A"), Mention("p-2", ((3, 7), (9, 11)), "B"))
    linked = Relation("x", "NEAR", "p-1", "p-2")
    samples = [
        UnifiedSample("d1", None, "dev", "public", mentions, (linked,)),
        UnifiedSample("d2", "Nothing.", "dev", "public"),
    ]
    paths = write("brat", samples, tmp_path)
    assert paths[0].read_text() == "T1\tA 0 2\t-\nT2\tB 3 7;9 11\t-\nR1\tNEAR Arg1:T1 Arg2:T2\n"
    assert paths[1].name == "d2.ann" and paths[1].read_text() == ""


@pytest.mark.parametrize(
    ("corpus", "counts"), [("ddi2013", (714, 14765, 4021, 38, 5)), ("maccrobat", (100, 11947, 7708, 34, 1))]
)
def test_a_real_corpus_is_read_whole_and_survives_a_round_trip(tmp_path, corpus, counts):
    if not (REAL / corpus).is_dir():
        pytest.skip("no real data")
    reading = Reading()
    samples = read("brat", REAL / corpus, reading)
    mentions = [mention for sample in samples for mention in sample.mentions]
    links = sum(len(sample.relations) for sample in samples)
    pieced = sum(mention.discontiguous for mention in mentions)
    assert (len(samples), len(mentions), links, pieced, len(reading.warnings)) == counts
    write("brat", samples, tmp_path)
    again = {sample.document_id: sample for sample in read("brat", tmp_path, Reading())}
    for sample in samples:
        copy = again[sample.document_id]
        assert (copy.mentions, copy.relations) == (sample.mentions, sample.relations)


def test_the_files_of_a_shared_task_are_read_as_one_annotation(tmp_path):
    (tmp_path / "a.txt").write_text("Foo Bar baz")
    (tmp_path / "a.a1").write_text("T1\tDIS 0 3\tFoo\n")
    (tmp_path / "a.a2").write_text("T2\tEVT 4 7\tBar\nE1\tEVT:T2 Theme:T1\n")
    [sample] = read("brat", tmp_path, reading := Reading(strict=True))
    words = {mention.id: mention.text(sample.text) for mention in sample.mentions}
    assert words == {"T1": "Foo", "T2": "Bar"}
    assert [(link.type, link.source, link.target) for link in sample.relations] == [("Theme", "T2", "T1")]
    assert sample.document_id == "a" and not reading.warnings


def test_an_odd_line_and_what_refers_to_it_are_skipped_one_by_one(tmp_path):
    lines = "T1\tDrug 0 2\tNo\nT2\tDrug x 9\tleft\nR1\tHELPS Arg1:T1 Arg2:T2\nA1\tNeg T2\n"
    sample, reading = _one(tmp_path, lines)
    assert [mention.id for mention in sample.mentions] == ["T1"] and sample.relations == ()
    assert {(p.severity, p.line) for p in reading.warnings} == {
        ("skipped", 2),
        ("skipped", 3),
        ("skipped", 4),
    }


def test_lines_that_end_as_on_an_old_mac_are_lines(tmp_path):
    sample, reading = _one(tmp_path, "T1\tDrug 0 2\tNo\rT2\tDrug 3 7\tleft\r")
    assert [mention.id for mention in sample.mentions] == ["T1", "T2"] and not reading.warnings


def test_endings_in_capitals_are_endings(tmp_path):
    (tmp_path / "D.TXT").write_text("No pain")
    (tmp_path / "D.ANN").write_text("T1\tDrug 3 7\tpain\n")
    [sample] = read("brat", tmp_path, Reading(strict=True))
    assert sample.text == "No pain" and len(sample.mentions) == 1


def test_ten_thousand_attributes_take_no_longer_than_a_look_up_each(tmp_path):
    lines = [f"T{n}\tDrug 0 2\tNo" for n in range(10_000)]
    lines += [f"R{n}\tHELPS Arg1:T{n} Arg2:T{n}" for n in range(10_000)]
    lines += [f"A{n}\tSure R{n} yes" for n in range(10_000)]
    started = process_time()
    sample, _ = _one(tmp_path, "\n".join(lines))
    assert process_time() - started < 20  # 50 million comparisons took minutes
    assert sample.relations[-1].attributes == {"Sure": "yes"}
