"""CoNLL columns: documents, the four schemes, columns that are declared, and what is refused by line."""

from __future__ import annotations

import pytest

from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.restricted import withholding
from kaggle_kit.data.formats import Reading, read

NEWS = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

No DT O O
"""


def read_text(folder, text: str, **options: str):
    (folder / "train.conll").write_text(text)
    reading = Reading(root=folder, options=options)
    return read("conll", folder, reading), reading


def found(samples) -> list[tuple[str, str]]:
    return [(mention.text(sample.text), mention.type) for sample in samples for mention in sample.mentions]


def test_a_document_reaches_from_one_docstart_to_the_next_and_its_text_is_made_of_its_tokens(tmp_path):
    samples, reading = read_text(tmp_path, NEWS)
    assert [sample.text for sample in samples] == ["EU rejects German\nPeter Blackburn", "No"]
    assert [sample.document_id for sample in samples] == ["train-3", "train-12"]
    assert found(samples) == [("EU", "ORG"), ("German", "MISC"), ("Peter Blackburn", "PER")]
    assert [mention.provenance.line for mention in samples[0].mentions] == [3, 5, 7]
    assert samples[0].mentions[2].fragments == ((18, 33),) and reading.warnings == []


def test_the_tag_may_stand_in_any_column_and_the_token_in_another_than_the_first(tmp_path):
    samples, _ = read_text(tmp_path, NEWS, column="3")
    assert found(samples)[:3] == [("EU", "NP"), ("rejects", "VP"), ("German", "NP")]
    assert found(read_text(tmp_path, "B-Drug\taspirin\nO\thelps\n", column="1", token="2")[0]) == [
        ("aspirin", "Drug")
    ]
    with pytest.raises(ConfigError, match="no column '5'; allowed: 1 to 4"):
        read_text(tmp_path, NEWS, column="5")


@pytest.mark.parametrize(
    ("tags", "mentions"),
    [
        ("I-X I-X B-X O I-Y", ["a b", "c", "e"]),  # IOB1: B only between neighbours of one type
        ("B-X I-X B-X O B-Y", ["a b", "c", "e"]),  # IOB2
        ("B-X E-X S-X O S-Y", ["a b", "c", "e"]),  # BIOES
        ("B-X L-X U-X O U-Y", ["a b", "c", "e"]),  # BILOU
        ("B-X I-X E-X S-Y S-Y", ["a b c", "d", "e"]),
    ],
)
def test_each_scheme_is_read_as_it_is_meant(tmp_path, tags, mentions):
    rows = "".join(f"{token} {tag}\n" for token, tag in zip("abcde", tags.split(), strict=True))
    samples, reading = read_text(tmp_path, rows)
    assert [words for words, _ in found(samples)] == mentions and reading.warnings == []


@pytest.mark.parametrize(
    ("tags", "line", "told"),
    [
        ("B-X O I-X O B-Y", 3, "'I-X' after 'O'"),
        ("B-X I-Y O B-Y O", 2, "'I-Y' after 'B-X'"),
        ("S-X B-X O O S-X", 3, "'O' after 'B-X'"),
        ("S-X O O O B-X", 5, "'the end' after 'B-X'"),
    ],
)
def test_a_tag_that_may_not_stand_there_is_told_by_its_line_and_begins_a_mention(tmp_path, tags, line, told):
    rows = "".join(f"{token} {tag}\n" for token, tag in zip("abcde", tags.split(), strict=True))
    samples, reading = read_text(tmp_path, rows)
    [problem] = reading.warnings
    assert (problem.line, problem.severity, problem.found) == (line, "warning", told)
    assert len(found(samples)) == sum(tag != "O" for tag in tags.split())


def test_without_docstart_every_sentence_is_a_document_named_by_its_first_line(tmp_path):
    samples, _ = read_text(tmp_path, "a O\nb B-X\n\n \nc O\n")
    assert [(sample.document_id, sample.text) for sample in samples] == [("train-1", "a b"), ("train-5", "c")]


@pytest.mark.parametrize(
    ("line", "told"), [("b", "1 column(s)"), ("b NN", "tag 'NN'"), ("b B-", "tag 'B-'"), ("\tO", "no token")]
)
def test_a_sentence_with_a_malformed_line_is_left_out_and_told(tmp_path, line, told):
    samples, reading = read_text(tmp_path, f"a O\n\n{line}\n\nc B-X\n\nd O\n\n")
    assert [sample.text for sample in samples] == ["a", "c", "d"]
    assert [(problem.line, problem.severity, problem.found) for problem in reading.warnings] == [
        (3, "skipped", told)
    ]


def test_the_words_of_a_restricted_file_stay_out_of_messages(tmp_path):
    with withholding("restricted"):
        _, reading = read_text(tmp_path, "a O\n\nzyxqwv zyxqwv\n\nb I-zyxqwv\nc B-zyxqwv\n")
    assert len(reading.warnings) >= 1 and "zyxqwv" not in "".join(map(str, reading.warnings))


def test_files_of_one_name_in_two_folders_are_two_sets_of_documents(tmp_path):
    for folder, token in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.bio").write_text(f"{token} O\n")
    samples = read("conll", tmp_path, Reading(root=tmp_path))
    assert [sample.document_id for sample in samples] == ["a/notes-1", "b/notes-1"]


def test_a_file_of_another_encoding_is_an_error(tmp_path):
    (tmp_path / "a.bio").write_bytes(b"a O\n\xff O\n")
    with pytest.raises(CorpusError, match=r"a\.bio:2: .*UTF-8"):
        read("conll", tmp_path, Reading())
