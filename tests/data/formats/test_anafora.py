"""Anafora XML: spans, properties and links as they stand, and files that come back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Access, Mention, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data"
NOTE = "ID001_clinic_001"
TEXT = "Seen on May 3.\r\nNausea after chemo; no fever."


def _entity(number, span, kind, properties=""):
    return (
        f"<entity><id>{number}@e@{NOTE}@gold</id><span>{span}</span><type>{kind}</type>"
        f"<parentsType>TemporalEntities</parentsType><properties>{properties}</properties></entity>\n"
    )


def _link(number, source, target, kind="CONTAINS"):
    return (
        f"<relation><id>{number}@r@{NOTE}@gold</id><type>TLINK</type><parentsType>TemporalRelations</parentsType>"
        f"<properties><Source>{source}</Source><Type>{kind}</Type><Target>{target}</Target></properties></relation>\n"
    )


def _corpus(tmp_path, annotations, schema="Temporal-Relation", status="gold", text=TEXT):
    folder = tmp_path / NOTE
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / NOTE).write_bytes(text.encode())
    path = folder / f"{NOTE}.{schema}.{status}.completed.xml"
    path.write_text(f"<data><annotations>\n{annotations}</annotations></data>", newline="\n")
    return path


def _only(tmp_path, reading=None):
    (sample,) = read("anafora", tmp_path, reading or Reading())
    return sample


def test_entities_links_and_the_untouched_text_are_read(tmp_path):
    properties = "<DocTimeRel>BEFORE</DocTimeRel><Degree/>"
    ends = f"1@e@{NOTE}@gold", f"2@e@{NOTE}@gold"
    annotations = _entity(1, "8,13", "TIMEX3") + _entity(2, "16,22", "EVENT", properties) + _link(3, *ends)
    _corpus(tmp_path, annotations)
    sample = _only(tmp_path, Reading(split="dev", access=Access.RESTRICTED))
    assert (sample.document_id, sample.text, sample.split, sample.access) == (NOTE, TEXT, "dev", "restricted")
    date, nausea = sample.mentions
    assert (date.type, date.text(sample.text), dict(date.attributes)) == ("TIMEX3", "May 3", {})
    assert nausea.text(sample.text) == "Nausea" and nausea.provenance.line == 3
    assert nausea.attributes == {"DocTimeRel": "BEFORE", "Degree": ""}
    (link,) = sample.relations
    assert (link.type, link.source, link.target, link.roles) == ("TLINK", *ends, ("Source", "Target"))
    assert link.attributes == {"Type": "CONTAINS"} and link.provenance.line == 4


def test_a_discontinuous_span_keeps_its_pieces_in_file_order(tmp_path):
    _corpus(tmp_path, _entity(1, "29,34;16,22", "EVENT"))
    assert _only(tmp_path).mentions[0].fragments == ((29, 34), (16, 22))


def test_gold_is_preferred_to_system_and_relations_to_entities(tmp_path):
    for schema, status, span in (
        ("Temporal-Entity", "gold", "0,1"),
        ("Temporal-Relation", "gold", "0,2"),
        ("Temporal-Relation", "system", "0,3"),
        ("UMLS-Entity", "gold", "0,4"),
    ):
        _corpus(tmp_path, _entity(1, span, "EVENT"), schema, status)
    assert _only(tmp_path).mentions[0].fragments == ((0, 2),)


def test_a_system_file_with_entities_alone_is_found_beside_its_note(tmp_path):
    _corpus(tmp_path, _entity(1, "0,4", "EVENT"), "Temporal-Entity", "system")
    assert len(_only(tmp_path).mentions) == 1


def test_a_note_without_annotations_is_a_sample_without_mentions(tmp_path):
    (tmp_path / NOTE).mkdir()
    (tmp_path / NOTE / NOTE).write_text("raw note")
    sample = _only(tmp_path)
    assert (sample.document_id, sample.text, sample.mentions) == (NOTE, "raw note", ())


def test_a_text_elsewhere_is_found_and_a_missing_one_is_a_warning(tmp_path):
    _corpus(tmp_path, "", text=None)
    reading = Reading()
    assert _only(tmp_path, reading).text is None
    assert [warning.found for warning in reading.warnings] == ["no text"]
    texts = tmp_path.parent / f"{tmp_path.name}_texts"
    texts.mkdir()
    (texts / NOTE).write_text("the note")
    assert _only(tmp_path, Reading(text_folder=texts)).text == "the note"


def test_a_link_to_nothing_is_dropped_with_a_warning(tmp_path):
    known = f"1@e@{NOTE}@gold"
    links = _link(2, known, "") + _link(3, "9@e@x@gold", known) + _link(4, known, known)
    path = _corpus(tmp_path, _entity(1, "0,4", "EVENT") + links)
    reading = Reading()
    assert [link.id for link in _only(tmp_path, reading).relations] == [f"4@r@{NOTE}@gold"]
    assert [(w.path, w.line) for w in reading.warnings] == [(path, 3), (path, 4)]
    assert "without Target" in reading.warnings[0].found and "without Source" in reading.warnings[1].found


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        (_entity(1, "4", "EVENT"), "span '4'"),
        (_entity(1, "4,x", "EVENT"), "offset 'x'"),
        (_entity(1, "", "EVENT"), "blank <span>"),
        (_entity(1, "5,5", "EVENT"), "span 5-5"),
        (_entity(1, "0,400", "EVENT"), "span 0-400"),
        (_entity(1, "0,4", ""), "blank <type>"),
        (_entity(1, "0,4", "EVENT") * 2, "twice"),
        ("<entity><span>0,4</span></entity>", "<entity> without <id>"),
        (_entity(1, "0,4", "EVENT") + _link(2, f"1@e@{NOTE}@gold", f"1@e@{NOTE}@gold") * 2, "twice"),
    ],
)
def test_a_malformed_annotation_is_refused_with_its_place(tmp_path, annotations, found):
    path = _corpus(tmp_path, annotations)
    with pytest.raises(CorpusError) as caught:
        read("anafora", tmp_path, Reading(strict=True))
    assert caught.value.path == path
    assert found in caught.value.found and caught.value.line >= 2


def test_xml_of_another_kind_is_refused_and_data_without_annotations_is_an_empty_note(tmp_path):
    path = _corpus(tmp_path, "")
    path.write_text("<data/>")
    assert _only(tmp_path).mentions == ()
    path.write_text("<html/>")
    with pytest.raises(CorpusError, match="found <html>; expected Anafora's <data>"):
        _only(tmp_path)


def test_a_folder_without_notes_is_refused(tmp_path):
    (tmp_path / "readme.xml").write_text("<a/>")
    with pytest.raises(CorpusError, match="no corpus file"):
        read("anafora", tmp_path, Reading())


def test_written_predictions_read_back_the_same(tmp_path):
    ends = f"1@e@{NOTE}@gold", f"2@e@{NOTE}@gold"
    entities = _entity(1, "8,13", "TIMEX3", "<Class>DATE</Class>") + _entity(
        2, "29,34;16,22", "EVENT", "<Degree/>"
    )
    _corpus(tmp_path, entities + _link(3, *ends), "Temporal-Entity")
    sample = _only(tmp_path)
    (path,) = write("anafora", [sample], tmp_path / "out")
    assert path.relative_to(tmp_path / "out") == Path(NOTE) / f"{NOTE}.Temporal-Entity.gold.completed.xml"
    again = _only(tmp_path / "out")
    assert (again.mentions, again.relations) == (sample.mentions, sample.relations)


def test_predictions_of_another_origin_get_anafora_ids(tmp_path):
    mentions = (Mention("T1", ((0, 4),), "EVENT"), Mention("T2", ((8, 13),), "TIMEX3"))
    links = (Relation("R1", "TLINK", "T2", "T1", attributes={"Type": "CONTAINS"}, score=0.9),)
    write("anafora", [UnifiedSample("N1", None, "test", Access.PUBLIC, mentions, links)], tmp_path)
    sample = _only(tmp_path)
    assert [mention.id for mention in sample.mentions] == ["1@e@N1@system", "2@e@N1@system"]
    (link,) = sample.relations
    assert (link.id, link.source, link.target) == ("1@r@N1@system", "2@e@N1@system", "1@e@N1@system")
    assert sample.metadata == {"schema": "Temporal-Relation", "status": "system"}


def test_a_link_to_no_mention_is_not_written(tmp_path):
    link = Relation("R1", "TLINK", "T1", "T2")
    with pytest.raises(CorpusError, match="unknown id 'T1'"):
        write("anafora", [UnifiedSample("N1", None, "test", Access.PUBLIC, relations=(link,))], tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_clinical_notes_come_back_from_disk_as_they_were(tmp_path):
    samples = read("anafora", REAL / "thyme_annotations" / "Dev", Reading())
    assert (len(samples), sum(len(s.mentions) for s in samples), sum(len(s.relations) for s in samples)) == (
        40, 6671, 3138,
    )  # fmt: skip
    write("anafora", samples, tmp_path)
    again = read("anafora", tmp_path, Reading())
    assert [(s.document_id, s.mentions, s.relations) for s in again] == [
        (s.document_id, s.mentions, s.relations) for s in samples
    ]


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_web_reports_have_their_text(tmp_path):
    reading = Reading()
    samples = read("anafora", REAL / "clinical_tempeval_web", reading)
    assert len(samples) == 10 and not reading.warnings
    assert all(mention.text(s.text).strip() for s in samples for mention in s.mentions)
