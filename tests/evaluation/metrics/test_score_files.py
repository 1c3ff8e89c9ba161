"""What every scorer takes for a file of its folder, and for a line of its file."""

from __future__ import annotations

import pytest

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics import score, score_cases

ANAFORA = (
    "<data><annotations><entity><id>1@e@a@gold</id><span>7,12</span><type>EVENT</type><properties/>"
    "</entity></annotations></data>"
)
SLOTS = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"
TABLE = "docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother\n"
FILES = {
    "brat": ("a.ann", "T1\tDrug 0 4\tpain\nT2\tDrug 9 14\tfever\n", "entity_f1"),
    "semeval2014t7": ("a.pipe", "a||X||C1||0||4\na||X||C1||9||14\n", "task_a_strict_f1"),
    "semeval2015t14": ("a.pipe", f"a|0-4|C1|{SLOTS}\na|9-14|C1|{SLOTS}\n", "task1_strict_f1"),
    "semeval2016t12": ("n/n.Temporal-Relation.gold.completed.xml", ANAFORA, "event_span_f1"),
    "semeval2017t3": ("a.{}", "Q1 C1 1 0.9 true\nQ1 C2 2 0.1 false\n", "map"),
    "measeval": ("a.tsv", TABLE + "a\t1\tQuantity\t0\t4\tT1-1\tpain\t\n", "overlap_f1"),
    "pubtator": ("a.txt", "1|t|Pain\n1|a|\n1\t0\t4\tPain\tSign\tD1\n", "strict_f1"),
}


def sides(root, name, ends="\n"):
    file, content, metric = FILES[name]
    for side, ending in (("gold", "relevancy"), ("pred", "pred")):
        path = root / side / file.format(ending)
        path.parent.mkdir(parents=True)
        path.write_bytes(content.replace("\n", ends).encode())
    return root / "gold", root / "pred", metric


@pytest.mark.parametrize("name", FILES)
def test_what_a_mac_or_an_editor_leaves_behind_is_no_file_to_score(tmp_path, name):
    """A `._` file stopped a scorer, and `.ipynb_checkpoints` in a note's folder hid the note from another."""
    gold, pred, metric = sides(tmp_path, name)
    for side in (gold, pred):
        file = next(path for path in side.rglob("*") if path.is_file())
        for place in (file.parent, file.parent / "__MACOSX", file.parent / ".ipynb_checkpoints"):
            place.mkdir(exist_ok=True)
            (place / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
        (file.parent / ".DS_Store").write_bytes(b"\x00")
    assert score(name, gold, pred)[metric] == 1


def test_a_macs_archive_is_no_case(tmp_path):
    sides(tmp_path / "one", "brat")
    sides(tmp_path / "__MACOSX", "brat")
    assert list(score_cases("brat", tmp_path)) == ["one"]


@pytest.mark.parametrize("name", ["brat", "measeval", "pubtator", "semeval2016t12"])
def test_lines_of_an_old_mac_are_lines_where_the_official_program_takes_them_so(tmp_path, name):
    gold, pred, metric = sides(tmp_path, name, ends="\r")
    assert score(name, gold, pred)[metric] == 1


@pytest.mark.parametrize("name", ["semeval2014t7", "semeval2015t14", "semeval2017t3"])
def test_lines_of_an_old_mac_are_refused_where_the_official_program_sees_one_line(tmp_path, name):
    """A ranking was scored by its first line."""
    gold, pred, _ = sides(tmp_path, name, ends="\r")
    with pytest.raises(ScoreError, match="CR alone"):
        score(name, gold, pred)
