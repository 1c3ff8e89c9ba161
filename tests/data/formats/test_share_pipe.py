"""The 2014 Task 7 pipe files: what is read, what is refused, what comes back after writing."""

from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Access, Mention, UnifiedSample
from kaggle_kit.data.formats import Reading, read, write

TEXT = "Left and right atrial dilatation.\r\nNo fever today.\r\n"
FEVER = "note.txt||Disease_Disorder||C0015967||38||43"
LEFT = "note.txt||Disease_Disorder||CUI-less||0||4||15||32"
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "share_pipe_sample"


def corpus(folder: Path, *rows: str, end: str = "\n", text: str | None = TEXT) -> Path:
    (folder / "note.pipe").write_bytes("".join(row + end for row in rows).encode())
    if text is not None:
        (folder / "note.text").write_bytes(text.encode())
    return folder


def one(folder: Path, reading: Reading | None = None) -> UnifiedSample:
    (sample,) = read("share_pipe", folder, reading or Reading())
    return sample


def test_offsets_index_the_note_with_its_line_ends_untouched(tmp_path: Path):
    sample = one(corpus(tmp_path, FEVER), Reading(split="dev", access=Access.RESTRICTED))
    assert sample.text == TEXT
    assert [m.text(sample.text) for m in sample.mentions] == ["fever"]
    assert (sample.document_id, sample.split, sample.access) == ("note", "dev", Access.RESTRICTED)


def test_a_discontiguous_mention_keeps_both_pieces(tmp_path: Path):
    (mention,) = one(corpus(tmp_path, LEFT)).mentions
    assert mention == Mention("T1", ((0, 4), (15, 32)), "Disease_Disorder", ("CUI-less",))
    assert mention.text(TEXT) == "Left atrial dilatation"
    assert mention.provenance is not None and mention.provenance.line == 1


def test_reading_writing_and_reading_again_changes_nothing(tmp_path: Path):
    first = one(corpus(tmp_path, LEFT.replace("note.txt", "note"), FEVER.replace("note.txt", "note")))
    (written,) = write("share_pipe", [first], tmp_path / "out")
    assert written.read_bytes() == (tmp_path / "note.pipe").read_bytes()
    assert one(tmp_path / "out", Reading(text_folder=tmp_path)) == first


@pytest.mark.parametrize("start, end", [("", "\r\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n\r\n")])
def test_byte_order_mark_crlf_and_blank_lines_make_no_difference(tmp_path: Path, start: str, end: str):
    plain, odd = tmp_path / "plain", tmp_path / "odd"
    plain.mkdir()
    odd.mkdir()
    corpus(plain, FEVER, LEFT)
    corpus(odd, start + FEVER, LEFT, end=end)
    assert one(odd) == one(plain)


def test_a_note_without_pipe_file_is_a_sample_without_mentions(tmp_path: Path):
    corpus(tmp_path, FEVER)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "quiet.text").write_text("Nothing found.")
    samples = read("share_pipe", tmp_path, Reading())
    assert [(s.document_id, len(s.mentions)) for s in samples] == [("note", 1), ("quiet", 0)]


def test_an_empty_pipe_file_is_a_sample_without_mentions(tmp_path: Path):
    assert one(corpus(tmp_path)).mentions == ()


def test_a_missing_note_is_a_warning_and_the_text_none(tmp_path: Path):
    reading = Reading()
    assert one(corpus(tmp_path, FEVER, text=None), reading).text is None
    assert len(reading.warnings) == 1


def test_of_a_repeated_span_the_last_cui_counts(tmp_path: Path):
    reading = Reading()
    sample = one(corpus(tmp_path, FEVER, LEFT, FEVER.replace("C0015967", "C0000001")), reading)
    assert [(m.id, m.concepts) for m in sample.mentions] == [("T1", ("C0000001",)), ("T2", ("CUI-less",))]
    assert [problem.line for problem in reading.warnings] == [3]


@pytest.mark.parametrize(
    "row",
    [
        "note.txt||Disease_Disorder||C1||38",
        "note.txt||Disease_Disorder||C1||38||43||50",
        "note.txt|Disease_Disorder|C1|38|43",
        "note.txt||Disease_Disorder||C1||38||x",
        "note.txt||Disease_Disorder||C1||-3||5",
        "note.txt||Disease_Disorder||C1||43||38",
        "note.txt||Disease_Disorder||C1||15||32||0||4",
        "note.txt||Disease_Disorder||C1||5||5",
        "note.txt||Disease_Disorder||||38||43",
        "note.txt||||C1||38||43",
        "other.txt||Disease_Disorder||C1||38||43",
        "note.txt||Disease_Disorder||C1||38||999",
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path, row: str):
    with pytest.raises(CorpusError) as caught:
        one(corpus(tmp_path, FEVER, row), Reading(strict=True))
    assert (caught.value.path.name, caught.value.line) == ("note.pipe", 2)


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path):
    corpus(tmp_path, FEVER)
    with (tmp_path / "note.pipe").open("ab") as file:
        file.write(b"note.txt||Disease_Disorder||C\xff||1||2\n")
    with pytest.raises(CorpusError) as caught:
        one(tmp_path)
    assert caught.value.line == 2


def test_a_prediction_without_concept_is_written_cui_less_and_in_order(tmp_path: Path):
    mention = Mention("T1", ((15, 32), (0, 4)), "Disease_Disorder", score=0.9)
    sample = UnifiedSample("note", None, "test", Access.RESTRICTED, mentions=(mention,))
    empty = UnifiedSample("quiet", None, "test", Access.RESTRICTED)
    files = write("share_pipe", [sample, empty], tmp_path)
    assert [file.read_text() for file in files] == [LEFT + "\n", ""]


def test_the_public_sample_points_at_whole_phrases():
    if not REAL.is_dir():
        pytest.skip("no real data")
    samples = {s.document_id: s for s in read("share_pipe", REAL, Reading())}
    assert [m.text(samples["multi"].text) for m in samples["multi"].mentions] == [
        "Casey at the Bat",
        "The score stood four to two",
    ]
