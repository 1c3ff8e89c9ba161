"""Where a document is cut into sentences, and that nothing but white space is lost."""

from __future__ import annotations

import textwrap

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
    [
        "Dr.",
        "Mr.",
        "Mrs.",
        "Ms.",
        "Prof.",
        "vs.",
        "et al.",
        "Fig.",
        "Figs.",
        "No.",
        "e.g.",
        "i.e.",
        "(cf.",
        "D.H.E.",
    ],
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
def test_a_line_with_room_left_ends_before_a_capital_even_without_a_full_stop(line_break):
    text = f"Past medical history{line_break}Asthma , mild{line_break}None."
    assert cut(text) == ["Past medical history", "Asthma , mild", "None."]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", " \n  "])
def test_a_single_line_break_before_small_letters_only_wraps(line_break):
    text = f"He reported severe chest{line_break}pain since Monday.{line_break}Mild headache"
    assert cut(text) == [f"He reported severe chest{line_break}pain since Monday.", "Mild headache"]


def test_a_full_line_wraps_whatever_the_next_one_begins_with():
    lines = [
        "The patient was admitted with the picture of Guillain",
        "Barre syndrome after an infection, and had a score of",
        "4 in the arms. Seen on the second day of his stay by",
        "Smith of neurology. He was given a course of Dr.",
        "Brown",
    ]
    text = "\n".join(lines)  # wrapped at 54: no first word of a next line had room
    assert [" ".join(part.split()) for part in cut(text)] == [
        " ".join(" ".join(lines[:2]).split()) + " 4 in the arms.",
        "Seen on the second day of his stay by Smith of neurology.",
        "He was given a course of Dr. Brown",
    ]


@pytest.mark.parametrize(
    "following", ["* pain", "- Pain", "2. pain", "(3) pain", "a) pain", "PLAN: pain", "Plan:"]
)
def test_a_list_sign_or_a_heading_ends_the_line_above_however_full_it_is(following):
    text = (
        "a line that was filled to its very end with words\nwhich went on until here, and then it came to\n"
    )
    assert cut(text + following)[-1] == following


def test_a_blank_line_ends_a_sentence_that_small_letters_follow():
    assert cut("chest\n\npain\r\n \r\nfever\r\rcough") == ["chest", "pain", "fever", "cough"]


def test_a_line_that_ends_in_a_comma_or_a_small_word_goes_on():
    assert cut("mild Asthma,\nAtopy and\n2 falls of\n(Left) pain") == [
        "mild Asthma,\nAtopy and\n2 falls of\n(Left) pain"
    ]


def test_a_short_line_that_ends_in_a_full_stop_or_colon_ends_before_small_letters():
    assert cut("Given 3 tablets.\nallergies:\nnone") == ["Given 3 tablets.", "allergies:", "none"]
    assert cut("signs, e.g.\nfever") == ["signs, e.g.\nfever"]


def test_paragraphs_of_one_long_line_are_not_taken_for_wrapped_ones():
    text = "Aspirin and the outcome of myocardial infarction in old age\n" + "We treated patients. " * 20
    assert cut(text)[0] == "Aspirin and the outcome of myocardial infarction in old age"


NOUNS = ["Crohn", "disease", "of", "the", "left", "Lower", "lobe", "20", "mg", "(stage", "IV)", "no", "fever"]
SENTENCES = st.lists(st.lists(st.sampled_from(NOUNS), min_size=3), min_size=3)


@settings(deadline=None, max_examples=50)
@given(words=SENTENCES, width=st.integers(60, 100))
def test_a_wrapped_text_has_the_sentences_of_the_unwrapped_one(words, width):
    text = " ".join(f"The {' '.join(sentence)} and so on until the end." for sentence in words)
    wrapped = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    assert len(wrapped) == len(text)
    assert sentences(wrapped) == sentences(text)


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
