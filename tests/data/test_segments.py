"""Where a document is cut into sentences, and that nothing but white space is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.data.segments import sentences


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def test_offsets_count_in_the_untouched_text():
    assert sentences("  No pain.  He left! ") == [(2, 10), (12, 20)]


@pytest.mark.parametrize("end", [".", "!", "?"])
@pytest.mark.parametrize("start", ["He", "3 doses", "(Then", '"Yes', "[2]"])
def test_a_sentence_ends_before_a_capital_a_digit_or_an_opening_bracket(end, start):
    assert cut(f"No pain{end} {start} more") == [f"No pain{end}", f"{start} more"]


@pytest.mark.parametrize("text", ["Given 2.5 mg daily", "seen at 3 p.m. by us", "e.g. aspirin"])
def test_a_dot_before_a_small_letter_or_inside_a_number_ends_nothing(text):
    assert cut(text) == [text]


@pytest.mark.parametrize(
    "abbreviation",
    ["Dr.", "Mr.", "Mrs.", "Ms.", "Prof.", "vs.", "et al.", "Fig.", "Figs.", "No.", "e.g.", "i.e.", "(cf."],
)
def test_an_abbreviation_does_not_end_a_sentence(abbreviation):
    text = f"Seen by {abbreviation} Smith"
    assert cut(text) == [text]


def test_an_abbreviation_may_begin_the_text_or_a_sentence():
    assert cut("Dr. Smith left. Mr. Jones stayed.") == ["Dr. Smith left.", "Mr. Jones stayed."]


def test_a_word_that_only_ends_like_an_abbreviation_ends_its_sentence():
    assert cut("The renal. He left.") == ["The renal.", "He left."]
    assert cut("No deficits. He left.") == ["No deficits.", "He left."]


def test_initials_do_not_end_a_sentence():
    assert cut("Seen by J. R. Smith. He left.") == ["Seen by J. R. Smith.", "He left."]


@pytest.mark.parametrize("closing", ['"', "'", ")", "]", '.")'])
def test_closing_quotes_and_brackets_stay_with_their_sentence(closing):
    assert cut(f"He said so.{closing} She left.") == [f"He said so.{closing}", "She left."]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\n\n  \n"])
def test_every_line_break_cuts_even_without_a_full_stop(line_break):
    text = f"past medical history{line_break}asthma , mild{line_break}None."
    assert cut(text) == ["past medical history", "asthma , mild", "None."]


@pytest.mark.parametrize("text", ["", "  ", "\n\r\n \t"])
def test_white_space_alone_has_no_sentence(text):
    assert sentences(text) == []


pieces = st.sampled_from(
    [
        "Dr.",
        "J.",
        "e.g.",
        "et al.",
        "end.",
        "why?",
        '"',
        "')",
        "[",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "A",
        "9",
        "é",
    ]
)


@settings(deadline=None, max_examples=50)
@given(text=st.one_of(st.lists(pieces, max_size=30).map("".join), st.text(max_size=60)))
def test_ranges_are_in_order_disjoint_and_leave_out_white_space_only(text):
    ranges = sentences(text)
    covered: list[int] = []
    for start, end in ranges:
        assert start < end
        assert not text[start].isspace() and not text[end - 1].isspace()
        covered += range(start, end)
    assert covered == sorted(set(covered))
    assert all(text[place].isspace() for place in set(range(len(text))) - set(covered))


def test_a_line_break_cuts_even_behind_an_abbreviation_or_an_initial():
    assert cut("Seen by Dr.\nHe left") == ["Seen by Dr.", "He left"]
    assert cut("vitamin B.\n\nPLAN") == ["vitamin B.", "PLAN"]
