"""MeasEval tables: sets, relations inside them, and files that are not quite right."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Mention, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "measeval"
TEXT = "The tube was about 5 mm wide and 7 cm long."
HEADER = "docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother\n"
WIDTH = 'd1\t1\tQuantity\t13\t23\tT1-1\tabout 5 mm\t{"mods": ["IsApproximate", "IsMean"], "unit": "mm"}\n'
WIDE = 'd1\t1\tMeasuredProperty\t24\t28\tT2-1\twide\t{"HasQuantity": "T1-1"}\n'
TUBE = 'd1\t1\tMeasuredEntity\t4\t8\tT3-1\ttube\t{"HasProperty": "T2-1"}\n'
ROWS = WIDTH + WIDE + TUBE
LENGTH = "d1\t2\tQuantity\t33\t37\tT1-1\t7 cm\t\n"


def _corpus(folder: Path, content: str | bytes, text_folder: str = "text") -> Path:
    for name in ("tsv", text_folder):
        (folder / name).mkdir()
    (folder / text_folder / "d1.txt").write_text(TEXT)
    (folder / text_folder / "d2.txt").write_text("Nothing measured.")
    (folder / "tsv" / "d1.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _one(folder: Path, content: str | bytes, strict: bool = False) -> tuple[UnifiedSample, Reading]:
    reading = Reading(strict=strict)
    return read("measeval", _corpus(folder, content), reading)[0], reading


def test_a_set_becomes_mentions_and_the_relations_between_them(tmp_path):
    sample, reading = _one(tmp_path, HEADER + ROWS)
    quantity = sample.mentions[0]
    assert (quantity.type, quantity.text(sample.text)) == ("Quantity", "about 5 mm")
    assert dict(quantity.attributes) == {"annotSet": "1", "unit": "mm", "mods": "IsApproximate,IsMean"}
    links = [(link.type, link.source, link.target) for link in sample.relations]
    assert links == [("HasQuantity", "T2-1", "T1-1"), ("HasProperty", "T3-1", "T2-1")]
    assert reading.warnings == []


@pytest.mark.parametrize("text_folder", ["text", "txt"])
def test_a_text_without_table_has_no_annotations(tmp_path, text_folder):
    samples = read("measeval", _corpus(tmp_path, HEADER + ROWS, text_folder), Reading())
    found = [(sample.document_id, sample.text, len(sample.mentions)) for sample in samples]
    assert found == [("d1", TEXT, 3), ("d2", "Nothing measured.", 0)]


def test_an_annotation_id_used_by_two_sets_is_told_apart(tmp_path):
    sample, _ = _one(tmp_path, HEADER + ROWS + LENGTH)
    assert [mention.id for mention in sample.mentions] == ["T1-1", "T2-1", "T3-1", "T1-1@2"]


def test_columns_in_another_order_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    plain, _ = _one(tmp_path, HEADER + ROWS)
    order = [7, 0, 2, 1, 3, 4, 6, 5]
    lines = [line.split("\t") for line in (HEADER + ROWS).splitlines()]
    shuffled = "\r\n".join("\t".join(cells[place] for place in order) for cells in lines)
    (tmp_path / "again").mkdir()
    other, reading = _one(tmp_path / "again", b"\xef\xbb\xbf" + shuffled.encode())
    assert (other.mentions, other.relations) == (plain.mentions, plain.relations)
    assert reading.warnings == []


def test_quoted_cells_are_unquoted_and_other_differences_to_the_text_warn(tmp_path):
    quoted = HEADER + WIDTH.replace("about 5 mm\t", '"about 5 mm"\t') + WIDE.replace("\twide", "\tWide")
    sample, reading = _one(tmp_path, quoted)
    assert len(sample.mentions) == 2
    assert [(problem.line, "'Wide'" in problem.found) for problem in reading.warnings] == [(3, True)]


def test_a_table_of_header_only_or_nothing_at_all_is_a_document_without_annotations(tmp_path):
    for name, content in (("one", HEADER), ("two", "")):
        (tmp_path / name).mkdir()
        sample, _ = _one(tmp_path / name, content)
        assert (sample.document_id, sample.mentions) == ("d1", ())


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("docId\tannotSet\n", 1, "header"),
        (HEADER + "d1\t1\tQuantity\t13\n", 2, "4 fields"),
        (HEADER + WIDTH.replace("Quantity", "Amount"), 2, "'Amount'"),
        (HEADER + WIDTH.replace("\t13\t", "\t-1\t"), 2, "'-1'"),
        (HEADER + WIDTH.replace("\t23\t", "\t99\t"), 2, "span 13-99"),
        (HEADER + WIDTH.replace("d1", "d7"), 2, "'d7'"),
        (HEADER + WIDTH.replace('"mm"}', '"mm"'), 2, "other"),
        (HEADER + WIDTH.replace('"mm"', "5"), 2, "other"),
        (HEADER + WIDTH.replace('"unit"', '"unity"'), 2, "other"),
        (HEADER + TUBE, 2, "HasProperty 'T2-1'"),
        (HEADER + ROWS + WIDTH, 5, "'T1-1' twice"),
        (HEADER.encode() + b"d1\t1\tQuantity\t0\t1\tT1-1\t\xb5\t\n", 2, "0xb5"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, content, line, found):
    with pytest.raises(CorpusError) as caught:
        _one(tmp_path, content, strict=True)
    assert caught.value.line == line and found in caught.value.found


def test_what_is_written_is_the_file_that_was_read(tmp_path):
    sample, _ = _one(tmp_path, HEADER + ROWS)
    [path] = write("measeval", [sample], tmp_path / "out")
    assert path.read_text() == HEADER + ROWS


def test_predictions_without_sets_get_one_per_group_of_linked_mentions(tmp_path):
    mentions = (
        Mention("a", ((33, 37),), "Quantity"),
        Mention("b", ((13, 23),), "Quantity", attributes={"unit": "mm"}),
        Mention("c", ((24, 28),), "MeasuredProperty"),
        Mention("d", ((4, 8),), "MeasuredEntity"),
        Mention("e", ((38, 42),), "MeasuredProperty"),  # linked to nothing: the scorer would stop at it
    )
    links = (Relation("r", "HasProperty", "d", "c"), Relation("s", "HasQuantity", "c", "b"))
    [path] = write("measeval", [UnifiedSample("d1", TEXT, "dev", "public", mentions, links)], tmp_path)
    assert path.read_text().splitlines()[1:] == [
        "d1\t1\tQuantity\t33\t37\tT1-1\t7 cm\t",
        'd1\t2\tQuantity\t13\t23\tT2-2\tabout 5 mm\t{"unit": "mm"}',
        'd1\t2\tMeasuredProperty\t24\t28\tT3-2\twide\t{"HasQuantity": "T2-2"}',
        'd1\t2\tMeasuredEntity\t4\t8\tT4-2\ttube\t{"HasProperty": "T3-2"}',
    ]


def test_a_mention_that_begins_with_a_quotation_mark_survives_csv_readers(tmp_path):
    text = 'the "wide" tube'
    mention = Mention("T1-1", ((4, 10),), "Quantity", attributes={"annotSet": "1"})
    [path] = write("measeval", [UnifiedSample("d1", text, "dev", "public", (mention,))], tmp_path)
    assert '\t"""wide"""\t' in path.read_text()
    (tmp_path / "d1.txt").write_text(text)
    reading = Reading()
    assert read("measeval", path, reading)[0].mentions == (mention,) and reading.warnings == []


@pytest.mark.parametrize(("part", "counts"), [("train", (248, 2531, 1648)), ("trial", (65, 832, 551))])
def test_the_real_corpus_is_read_whole_and_written_as_it_was(tmp_path, part, counts):
    if not REAL.is_dir():
        pytest.skip("no real data")
    samples = read("measeval", REAL / part, reading := Reading())
    mentions = sum(len(sample.mentions) for sample in samples)
    links = sum(len(sample.relations) for sample in samples)
    assert (len(samples), mentions, links) == counts and reading.warnings == []
    for path in write("measeval", samples, tmp_path):
        official = REAL / part / "tsv" / path.name
        expected = official.read_text(encoding="utf-8").split() if official.exists() else HEADER.split()
        assert path.read_text(encoding="utf-8").split() == expected
