"""Restricted text: what messages and files get instead of it."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.restricted import (
    for_files,
    prediction_line,
    quoted,
    reading,
    unless_withheld,
    withholding,
)
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample

PROSE = "pt c/o zyxqwv pain"


def test_a_message_quotes_public_text_and_gives_the_length_of_restricted_text():
    assert quoted(PROSE, 6) == "'pt c/o'"
    with withholding(Access.RESTRICTED):
        assert quoted(PROSE, 6) == "<18 characters withheld>"
        assert unless_withheld(PROSE, instead="an XML error") == "an XML error"
    assert (quoted("a"), unless_withheld("a", instead="b")) == ("'a'", "a")


def test_what_is_withheld_inside_a_public_reading_is_quoted_again_afterwards():
    with withholding("restricted"):
        with withholding("public"):
            assert quoted("a") == "'a'"
        assert quoted("a") == "<1 characters withheld>"


def unforeseen(error: Exception) -> str:
    """What a notebook would print of an error inside a restricted reading."""
    with pytest.raises(Exception) as caught, reading(Path("n1.pipe"), Access.RESTRICTED):
        try:
            int(PROSE)
        except ValueError as cause:
            raise error from cause
    return "".join(traceback.format_exception(caught.value))


def test_a_traceback_of_a_restricted_file_shows_neither_the_cause_nor_its_text():
    shown = unforeseen(CorpusError("n1.pipe", line=3, found="a word", expected="offsets"))
    assert "n1.pipe:3: found a word; expected offsets" in shown
    assert "zyxqwv" not in shown and "ValueError" not in shown


def test_an_unforeseen_error_in_a_restricted_file_names_its_type_alone():
    shown = unforeseen(KeyError(PROSE))
    assert "n1.pipe: found content that the reader did not foresee (KeyError)" in shown
    assert "zyxqwv" not in shown


def test_a_wrong_option_stays_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match="option"), reading(Path("n1"), Access.RESTRICTED):
        raise ConfigError("option subtask is 'E'")


def test_a_public_file_keeps_its_own_errors():
    with pytest.raises(KeyError), reading(Path("n1"), Access.PUBLIC):
        raise KeyError("word")


def sample(access: Access) -> UnifiedSample:
    attributes = {"negation": "no", "comment": PROSE}
    return UnifiedSample(
        "n1",
        PROSE,
        "dev",
        access,
        mentions=(Mention("T1", ((7, 13),), "Disorder", ("C01",), attributes, score=0.5),),
        relations=(Relation("R1", "TLINK", "T1", "T1", attributes={"Type": "CONTAINS"}),),
        pairs=(RankedPair("q", "c", PROSE, 1, score=0.25),),
    )


def test_a_restricted_sample_is_written_with_offsets_labels_and_hashes_only():
    kept = for_files(sample(Access.RESTRICTED))
    assert (kept.text, kept.pairs[0].text) == (None, "")
    (mention,) = kept.mentions
    assert (mention.fragments, mention.type, mention.concepts, mention.score) == (
        ((7, 13),),
        "Disorder",
        ("C01",),
        0.5,
    )
    digest = hashlib.sha256(PROSE.encode()).hexdigest()[:16]
    assert mention.attributes == {"negation": "no", "comment": f"sha256:{digest}"}
    assert kept.relations[0].attributes == {"Type": "CONTAINS"}
    assert "zyxqwv" not in repr(kept) and "zyxqwv" not in prediction_line(sample(Access.RESTRICTED))


def test_a_public_sample_is_written_as_it_is():
    assert for_files(sample(Access.PUBLIC)) == sample(Access.PUBLIC)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("no", True),
        ("CONTAINS", True),
        ("C0030193", True),
        ("CUI-less", True),
        ("MESH:D003920", True),
        ("12-15,18-20", True),
        ("31@e@ID063_clinic_181@gold", True),
        ("Lisinopril", False),
        ("local:Lisinopril", False),
        ("Lisinopril:10", False),
        ("smith@home", False),
        ("C0030193 pain", False),
    ],
)
def test_one_word_of_a_restricted_corpus_is_hashed_unless_it_is_a_label_or_an_id(value, kept):
    held = Mention("T1", ((0, 4),), "Drug", (value,), {"Value": value})
    link = Relation("R1", "HAS", "T1", "T1", attributes={"Value": value})
    written = UnifiedSample("n1", PROSE, "dev", Access.RESTRICTED, mentions=(held,), relations=(link,))
    (mention,), (relation,) = for_files(written).mentions, for_files(written).relations
    hashed = f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"
    assert relation.attributes["Value"] == (value if kept else hashed)
    assert mention.attributes["Value"] == (value if kept else hashed)
    if value not in ("no", "CONTAINS"):  # labels, and no ids
        assert mention.concepts == ((value if kept else hashed),)
    assert for_files(for_files(written)) == for_files(written)
    assert ("isinopril" in prediction_line(written)) is False
