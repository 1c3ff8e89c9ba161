"""The 2015 Task 14 slot files: layouts, legal values, several body locations, writing."""

from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Access, Mention, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

TEXT = "Denies severe pain of the left and right knee since Monday.\n"
TAIL = "yes|0-6|patient|null|no|null|unmarked|null|severe|7-13|false|null|false|null"
LEFT = f"note.txt|14-18,40-44|C0030193|{TAIL}|C0230431|26-30,41-45"
RIGHT = f"note.txt|14-18,40-44|C0030193|{TAIL}|C0230432|35-45"
DEFAULTS = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"
PLAIN = f"note.txt|14-18|CUI-less|{DEFAULTS}"


def corpus(folder: Path, *rows: str, end: str = "\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "note.pipe").write_bytes("".join(row + end for row in rows).encode())
    (folder / "note.text").write_text(TEXT)
    return folder


def one(folder: Path, reading: Reading | None = None) -> UnifiedSample:
    (sample,) = read("share_slots", folder, reading or Reading())
    return sample


def with_field(row: str, number: int, value: str) -> str:
    """The row with its field replaced, counted from 1 as in the organisers' list."""
    fields = row.split("|")
    fields[number - 1] = value
    return "|".join(fields)


def test_a_line_becomes_a_mention_with_its_slots_and_cues(tmp_path: Path):
    (mention,) = one(corpus(tmp_path, LEFT)).mentions
    assert mention.fragments == ((14, 18), (40, 44))
    assert (mention.type, mention.concepts) == ("Disease_Disorder", ("C0030193",))
    assert (mention.attributes["negation"], mention.attributes["negation_span"]) == ("yes", "0-6")
    assert (mention.attributes["severity"], mention.attributes["severity_span"]) == ("severe", "7-13")
    assert mention.attributes["subject"] == "patient"
    assert mention.attributes["body_location"] == "C0230431"
    assert mention.attributes["body_location_span"] == "26-30,41-45"
    assert len(mention.attributes) == 16


def test_several_body_locations_are_one_mention(tmp_path: Path):
    reading = Reading()
    (mention,) = one(corpus(tmp_path, LEFT, RIGHT), reading).mentions
    assert mention.attributes["body_location"] == "C0230431,C0230432"
    assert mention.attributes["body_location_span"] == "26-30,41-45;35-45"
    assert reading.warnings == []


def test_reading_writing_and_reading_again_changes_nothing(tmp_path: Path):
    first = one(corpus(tmp_path / "in", LEFT, RIGHT, PLAIN))
    (written,) = write("share_slots", [first], tmp_path / "out")
    assert written.read_text() == f"{LEFT}\n{RIGHT}\n{PLAIN}\n"
    assert one(tmp_path / "out", Reading(text_folder=tmp_path / "in")) == first


@pytest.mark.parametrize(
    ("start", "closing", "end"), [("", "|", "\n"), ("", "", "\r\n"), ("\ufeff", "|", "\r\n")]
)
def test_closing_pipe_crlf_and_byte_order_mark_make_no_difference(
    tmp_path: Path, start: str, closing: str, end: str
):
    odd = corpus(tmp_path / "odd", start + LEFT + closing, PLAIN + closing, end=end)
    assert one(odd) == one(corpus(tmp_path / "plain", LEFT, PLAIN))


@pytest.mark.parametrize("closing", ["", "|"])
def test_the_22_field_layout_with_marked_defaults_reads_as_the_same_slots(tmp_path: Path, closing: str):
    marked = (
        "note.txt|14-18|CUI-less|*no|*NULL|*patient|*NULL|*no|*NULL|*false|*NULL|*unmarked|*NULL|*false|*NULL|"
        "*false|*NULL|*NULL|*NULL|*Unknown|*None|*NULL"
    )
    assert one(corpus(tmp_path / "22", marked + closing)) == one(corpus(tmp_path / "19", PLAIN))


@pytest.mark.parametrize("donor", ["donor_other", "doner_other"])
def test_both_spellings_of_the_donor_are_legal(tmp_path: Path, donor: str):
    (mention,) = one(corpus(tmp_path, with_field(PLAIN, 6, donor))).mentions
    assert mention.attributes["subject"] == donor


def test_a_task_1_run_with_all_slots_null_has_no_attributes(tmp_path: Path):
    row = "note.txt|14-18|C0030193|" + "|".join(["null"] * 16)
    (mention,) = one(corpus(tmp_path, row)).mentions
    assert dict(mention.attributes) == {}


def test_where_lines_of_one_span_disagree_the_last_counts(tmp_path: Path):
    reading = Reading()
    sample = one(corpus(tmp_path, PLAIN, with_field(with_field(PLAIN, 3, "C1"), 4, "yes")), reading)
    (mention,) = sample.mentions
    assert (mention.concepts, mention.attributes["negation"]) == (("C1",), "yes")
    assert mention.attributes["body_location"] == "null"
    assert reading.warnings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (1, "other.txt"),
        (2, ""),
        (2, "14"),
        (2, "18-14"),
        (2, "14-18,"),
        (2, "14-999"),
        (3, ""),
        (4, "maybe"),
        (5, "here"),
        (6, "dog"),
        (10, "false negative"),
        (12, "mild"),
        (14, "no"),
        (16, ""),
        (18, ""),
        (18, "C1,C2"),
        (19, "9-3"),
        (19, "1-2|3-4"),
    ],
)
def test_an_illegal_field_is_named_by_file_and_line(tmp_path: Path, field: int, value: str):
    with pytest.raises(CorpusError) as caught:
        one(corpus(tmp_path, LEFT, with_field(PLAIN, field, value)), Reading(strict=True))
    assert (caught.value.path.name, caught.value.line) == ("note.pipe", 2)


def test_an_illegal_value_comes_with_the_legal_ones(tmp_path: Path):
    with pytest.raises(CorpusError, match="severity 'mild'.*unmarked, moderate, severe, slight"):
        one(corpus(tmp_path, with_field(PLAIN, 12, "mild")), Reading(strict=True))


def test_a_prediction_without_attributes_is_written_with_the_defaults(tmp_path: Path):
    sample = UnifiedSample(
        "note", None, "test", Access.RESTRICTED, mentions=(Mention("T1", ((14, 18),), "Disease_Disorder"),)
    )
    (file,) = write("share_slots", [sample], tmp_path)
    assert file.read_text() == PLAIN + "\n"
