"""PubTator: where offsets count from, what relations become, and files that are not quite right."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.types import Mention, Relation, UnifiedSample
from kaggle_kit.data.formats import Reading, pubtator, read, write

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "ncbi_disease"
DOCUMENT = (
    "77|t|Colon cancers.\n"
    "77|a|Aspirin | helps in breast or colon cancer.\n"
    "77\t0\t13\tColon cancers\tDisease\tD003110\n"
    "77\t15\t22\tAspirin\tChemical\tD001241\n"
    "77\t34\t56\tbreast or colon cancer\tDisease\tD001943|D003110\tbreast cancer|colon cancer\n"
    "77\tCID\tD001241\tD003110\n"
)


def _file(folder: Path, content: str | bytes) -> Path:
    path = folder / "corpus.PubTator"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _read(folder: Path, content: str | bytes, strict: bool = False) -> tuple[list[UnifiedSample], Reading]:
    reading = Reading(strict=strict)
    return read("pubtator", _file(folder, content), reading), reading


def test_offsets_run_through_title_and_abstract_with_one_character_between(tmp_path):
    [sample], reading = _read(tmp_path, DOCUMENT)
    assert sample.text == "Colon cancers.\nAspirin | helps in breast or colon cancer."
    words = [mention.text(sample.text) for mention in sample.mentions]
    assert words == ["Colon cancers", "Aspirin", "breast or colon cancer"]
    assert sample.mentions[2].concepts == ("D001943", "D003110")
    assert reading.warnings == []


def test_a_relation_of_concepts_links_the_first_mention_of_each(tmp_path):
    [sample], _ = _read(tmp_path, DOCUMENT)
    [link] = sample.relations
    assert (link.type, link.source, link.target) == ("CID", "T2", "T1")
    assert dict(link.attributes) == {"concepts": "D001241|D003110"}


def test_a_relation_of_a_concept_without_mention_is_dropped_with_a_warning(tmp_path):
    [sample], reading = _read(tmp_path, DOCUMENT + "77\tCID\tD001241\tD999999\n")
    assert len(sample.relations) == 1
    assert reading.warnings[0].line == 7 and "D999999" in reading.warnings[0].found


def test_a_combined_concept_stays_one_and_a_missing_one_is_none(tmp_path):
    lines = "5|t|Rare X in Y\n5|a|\n5\t5\t6\tX\tD\tD1+D2\n5\t10\t11\tY\tD\t-1\n5\t0\t4\tRare\tD\n"
    [sample], _ = _read(tmp_path, lines)
    assert [mention.concepts for mention in sample.mentions] == [("D1+D2",), (), ()]


def test_a_document_that_comes_back_is_read_twice_and_the_second_is_dropped(tmp_path):
    twice = DOCUMENT + "\n" + DOCUMENT
    assert len(pubtator.read_file(_file(tmp_path, twice), Reading())) == 2
    samples, reading = _read(tmp_path, twice)
    assert len(samples) == 1 and len(samples[0].mentions) == 3
    assert "'77' again" in reading.warnings[0].found and reading.warnings[0].line == 8


def test_a_repeated_mention_line_counts_once(tmp_path):
    [sample], reading = _read(tmp_path, DOCUMENT + "77\t15\t22\tAspirin\tChemical\tD001241\n")
    assert len(sample.mentions) == 3 and reading.warnings[0].line == 7


def test_documents_without_title_have_no_text(tmp_path):
    samples, _ = _read(tmp_path, "1\t0\t4\tpain\tSign\tD1\n\n2\t3\t9\tfevers\tSign\tD2\n")
    assert [(sample.document_id, sample.text, len(sample.mentions)) for sample in samples] == [
        ("1", None, 1),
        ("2", None, 1),
    ]


def test_stored_text_that_disagrees_is_a_warning_and_the_offsets_win(tmp_path):
    [sample], reading = _read(tmp_path, "1|t|Pain\n1|a|\n1\t0\t4\tpain\tSign\tD1\n")
    assert sample.mentions[0].text(sample.text) == "Pain"
    assert "'pain'" in reading.warnings[0].found


def test_windows_line_ends_and_a_byte_order_mark_are_read_through(tmp_path):
    [sample], reading = _read(tmp_path, b"\xef\xbb\xbf" + DOCUMENT.replace("\n", "\r\n").encode())
    assert sample.document_id == "77" and len(sample.mentions) == 3 and reading.warnings == []


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("1|t|Pain\n1|a|\n1\t0\t9\tPain\tSign\tD1\n", 3, "span 0-9 in a text of 5"),
        ("1|t|Pain\n1|a|\n1\t4\t4\t\tSign\tD1\n", 3, "span 4-4"),
        ("1|t|Pain\n1\tx\t4\tPain\tSign\tD1\n", 2, "'x'"),
        ("1|t|Pain\n1|b|Pain\n", 2, "1|b|Pain"),
        ("1|t|Pain\n1\t0\t4\n", 2, "1\\t0"),
        (b"1|t|Pain\n1|a|caf\xe9\n", 2, "0xe9"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, content, line, found):
    with pytest.raises(CorpusError) as caught:
        _read(tmp_path, content, strict=True)
    assert caught.value.line == line and found in caught.value.found


def test_what_is_written_reads_back_the_same_without_texts(tmp_path):
    other = "\n78|t|Fever\n78|a|\n78\t0\t5\tFever\tDisease\tD005334\n"
    samples, _ = _read(tmp_path, DOCUMENT + other)
    [path] = write("pubtator", samples, tmp_path / "out")
    assert "|t|" not in path.read_text() and "\n\n78\t" in path.read_text()
    again = read("pubtator", tmp_path / "out", Reading())
    kept = [(sample.document_id, sample.mentions, sample.relations) for sample in samples]
    assert [(sample.document_id, sample.mentions, sample.relations) for sample in again] == kept


def test_a_predicted_relation_is_written_by_the_concepts_of_its_ends(tmp_path):
    mentions = (Mention("a", ((0, 2),), "X", ("C1",)), Mention("b", ((3, 4), (6, 8)), "Y", ("C2",)))
    unknown = Mention("c", ((9, 10),), "Y")
    links = (Relation("r", "CID", "a", "b"), Relation("s", "CID", "a", "c"))
    [path] = write(
        "pubtator", [UnifiedSample("1", None, "dev", "public", (*mentions, unknown), links)], tmp_path
    )
    lines = ["1\t0\t2\t-\tX\tC1", "1\t3\t8\t-\tY\tC2", "1\t9\t10\t-\tY\t-1", "1\tCID\tC1\tC2"]
    assert path.read_text().splitlines() == lines


def test_the_ncbi_corpus_is_read_whole():
    if not REAL.is_dir():
        pytest.skip("no real data")
    [path] = pubtator.find(REAL / "train")
    assert len(pubtator.read_file(path, Reading())) == 593
    reading = Reading()
    assert len(read("pubtator", REAL / "train", reading)) == 592
    assert [problem.line for problem in reading.warnings] == [3249, 4557]  # a stored text, a document again
    devel = read("pubtator", REAL / "devel", reading := Reading())
    assert (len(devel), sum(len(sample.mentions) for sample in devel)) == (100, 787)
    assert reading.warnings == []


CONCEPTS = """9|t|Geneone and Genetwo with varone in hearthurt.
9|a|None.
9\t0\t7\tGeneone\tGene\t1111,2222
9\t12\t19\tGenetwo\tGene\t3333;4444
9\t25\t31\tvarone\tVariant\tc|SUB|A|10|G
9\t35\t44\thearthurt\tDisease\tD2|D5
"""


def test_concepts_are_split_at_list_signs_and_a_sequence_variant_is_one(tmp_path):
    [sample], _ = _read(tmp_path, CONCEPTS)
    assert [mention.concepts for mention in sample.mentions] == [
        ("1111", "2222"),
        ("3333", "4444"),
        ("c|SUB|A|10|G",),
        ("D2", "D5"),
    ]


def test_relations_of_listed_concepts_and_with_a_remark_are_read_and_written_as_they_were(tmp_path):
    relations = "9\tAssociation\t2222\tD2\n9\tAssociation\tc|SUB|A|10|G\tD5\tNovel\n9\tCID\t4444\tD2\t0.91\n"
    samples, reading = _read(tmp_path, CONCEPTS + relations)
    links = samples[0].relations
    assert [(link.source, link.target) for link in links] == [("T1", "T4"), ("T3", "T4"), ("T2", "T4")]
    assert [link.attributes.get("remark") for link in links] == [None, "Novel", "0.91"]
    assert not reading.warnings
    [path] = write("pubtator", samples, tmp_path / "out")
    assert path.read_text().endswith(relations)


def test_a_relation_between_lists_of_concepts_is_one_between_each_two_of_them(tmp_path):
    content = "9\tAssociation\t1111, 3333\tD2;D5\tNovel\n9\tCID\t2222;D7\tD2\n9\tCID\t-1\tD2\n"
    [sample], reading = _read(tmp_path, CONCEPTS + content)
    assert [(link.id, link.attributes["concepts"], link.source) for link in sample.relations] == [
        ("R1.1", "1111|D2", "T1"),
        ("R1.2", "1111|D5", "T1"),
        ("R1.3", "3333|D2", "T2"),
        ("R1.4", "3333|D5", "T2"),
        ("R2", "2222|D2", "T1"),
    ]
    assert [warning.line for warning in reading.warnings] == [8, 9]
    file = tmp_path / "official.PubTator"
    file.write_text("9|t|x\n9|a|y\n9\tAssociation\t1111,3333\tD2\n")
    expected = {("Association", "1111", "D2"), ("Association", "3333", "D2")}
    assert pubtator.concept_relations(file) == {"9": expected}


def test_the_separator_is_the_one_that_makes_the_stored_texts_agree(tmp_path):
    line = "{id}|t|Fever after zelor{end}\n{id}|a|The fever was high.\n{id}\t{at}\t{to}\tfever\tDisease\tD1\n"
    content = line.format(id=1, end=" ", at=22, to=27) + line.format(id=2, end="", at=22, to=27)
    samples, reading = _read(tmp_path, content)
    assert [sample.mentions[0].text(sample.text) for sample in samples] == ["fever", "fever"]
    assert [len(sample.text) for sample in samples] == [37, 37] and not reading.warnings


def test_one_odd_line_costs_one_record(tmp_path):
    [sample], reading = _read(tmp_path, DOCUMENT + "77\tRSID\n")
    assert sample.mentions and [(p.severity, p.line) for p in reading.warnings] == [
        ("skipped", DOCUMENT.count("\n") + 1)
    ]


def test_a_title_in_a_blank_without_a_mention_to_decide_counts_as_the_others_of_its_file(tmp_path):
    decided = "1|t|Fever after zelor \n1|a|The fever was high.\n1\t22\t27\tfever\tDisease\tD1\n"
    open_ = "2|t|Fever again \n2|a|It was high.\n2\t0\t5\tFever\tDisease\tD1\n"
    samples, _ = _read(tmp_path, open_ + decided)
    assert [sample.text for sample in samples] == [
        "Fever again It was high.",
        "Fever after zelor The fever was high.",
    ]
    samples, _ = _read(tmp_path, open_ + decided.replace("22\t27", "23\t28"))
    assert samples[0].text == "Fever again \nIt was high."


@pytest.mark.parametrize("concept", ["|SUB|A|10|G", "tmVar:c|SUB|A|10|G", "p|Allele|V600", "c|INS|12_13|AG"])
def test_every_spelling_of_a_sequence_variant_is_one_concept(tmp_path, concept):
    content = f"9|t|varone and hurt\n9|a|\n9\t0\t6\tvarone\tV\t{concept}\n"
    content += f"9\t11\t15\thurt\tD\tD1 , D2;D3\n9\tBind\t {concept} \tD2 \n"
    [sample], reading = _read(tmp_path, content)
    assert [mention.concepts for mention in sample.mentions] == [(concept,), ("D1", "D2", "D3")]
    assert len(sample.relations) == 1 and not reading.warnings


def test_an_odd_line_in_the_midst_of_a_document_leaves_its_other_lines_to_it(tmp_path):
    """A line without an identifier ended the document, and all that followed was dropped with it."""
    first, *others = DOCUMENT.splitlines(keepends=True)
    content = first + "".join(
        f"{line}odd\n78\n{n}\tx\n77\tCID\tD1\tD2\tx\ty\n" for n, line in enumerate(others)
    )
    [sample], reading = _read(tmp_path, content)
    assert len(sample.mentions) == 3 and len(sample.relations) == 1
    assert [problem.severity for problem in reading.warnings] == ["skipped"] * 4 * len(others)


def test_an_annotation_belongs_to_its_document_wherever_it_stands(tmp_path):
    [text, more], annotations = DOCUMENT.splitlines(keepends=True)[:2], DOCUMENT.splitlines(keepends=True)[2:]
    other = "78|t|Pain\n78|a|None.\n78\t0\t4\tPain\tDisease\tD1\n"
    samples, reading = _read(tmp_path, text + more + other + "".join(annotations))
    assert [len(sample.mentions) for sample in samples] == [3, 1] and not reading.warnings
