"""Tags of chunks and chunks of tags, worked by hand, and the way there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.tags import chunks, may_follow, tag_chunks, tag_names

SCHEMES = ("BIO", "BIOES")
LABELS = ("Drug", "Body-Location")  # a hyphen in a label is not the prefix's hyphen


def test_the_class_of_a_tag_is_its_place_with_outside_first():
    assert tag_names(("Drug", "Dose"), "BIO") == ("O", "B-Drug", "I-Drug", "B-Dose", "I-Dose")
    assert tag_names(("Drug",), "BIOES") == ("O", "B-Drug", "I-Drug", "E-Drug", "S-Drug")
    assert tag_names((), "BIO") == ("O",)


def test_an_unknown_scheme_is_named_with_the_allowed_ones():
    with pytest.raises(ConfigError, match="unknown tagging scheme 'BILOU'; allowed: BIO, BIOES"):
        tag_names(("Drug",), "BILOU")


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("BIO", ["B-Drug", "O", "B-Dose", "I-Dose", "B-Dose", "I-Dose", "I-Dose"]),
        ("BIOES", ["S-Drug", "O", "B-Dose", "E-Dose", "B-Dose", "I-Dose", "E-Dose"]),
    ],
)
def test_chunks_of_one_two_and_three_words(scheme, expected):
    assert tag_chunks([(0, 1, "Drug"), (2, 4, "Dose"), (4, 7, "Dose")], 7, scheme) == expected


def test_of_overlapping_chunks_the_longest_is_tagged_whatever_their_order():
    spans = [(0, 2, "Drug"), (1, 4, "Dose"), (4, 5, "Drug")]
    expected = ["O", "B-Dose", "I-Dose", "I-Dose", "B-Drug"]
    assert tag_chunks(spans, 5, "BIO") == expected
    assert tag_chunks(reversed(spans), 5, "BIO") == expected


def test_of_overlapping_chunks_of_one_length_the_first_is_tagged():
    assert tag_chunks([(1, 3, "Dose"), (0, 2, "Drug")], 3, "BIO") == ["B-Drug", "I-Drug", "O"]
    assert tag_chunks([(0, 1, "Drug"), (0, 1, "Dose")], 1, "BIOES") == ["S-Dose"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["I-Drug", "I-Drug", "O"], [(0, 2, "Drug")]),
        (["O", "E-Drug", "O"], [(1, 2, "Drug")]),
        (["B-Drug", "I-Dose", "I-Dose"], [(0, 1, "Drug"), (1, 3, "Dose")]),
        (["B-Drug", "E-Dose"], [(0, 1, "Drug"), (1, 2, "Dose")]),
        (["S-Drug", "I-Drug"], [(0, 1, "Drug"), (1, 2, "Drug")]),
        (["B-Drug", "E-Drug", "E-Drug"], [(0, 2, "Drug"), (2, 3, "Drug")]),
        (["B-Drug", "I-Drug", "S-Drug"], [(0, 2, "Drug"), (2, 3, "Drug")]),
        (["B-Drug", "B-Drug"], [(0, 1, "Drug"), (1, 2, "Drug")]),
        (["B-Drug", "O", "I-Drug"], [(0, 1, "Drug"), (2, 3, "Drug")]),
        (["B-Body-Location", "I-Body-Location"], [(0, 2, "Body-Location")]),
        ([], []),
    ],
)
def test_every_tag_but_outside_ends_up_in_a_chunk(tags, expected):
    assert chunks(tags) == expected


@st.composite
def disjoint_spans(draw) -> tuple[list[tuple[int, int, str]], int]:
    """Chunks in order, some touching, and the number of words they stand in."""
    spans, position = [], 0
    pieces = st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(LABELS))
    for gap, length, label in draw(st.lists(pieces, max_size=8)):
        spans.append((position + gap, position + gap + length, label))
        position += gap + length
    return spans, position + draw(st.integers(0, 3))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=50)
@given(case=disjoint_spans())
def test_disjoint_chunks_survive_the_way_there_and_back(scheme, case):
    spans, words = case
    tags = tag_chunks(spans, words, scheme)
    assert len(tags) == words
    assert chunks(tags) == spans
    assert set(tags) <= set(tag_names(LABELS, scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=50)
@given(case=disjoint_spans())
def test_tagged_chunks_take_allowed_steps_only(scheme, case):
    path = [None, *tag_chunks(*case, scheme), None]
    assert all(may_follow(before, after, scheme) for before, after in zip(path, path[1:], strict=False))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_allowed_sequence_is_the_one_its_chunks_are_tagged_with(scheme, data):
    names, path = tag_names(LABELS, scheme), [None]
    for _ in range(data.draw(st.integers(0, 8))):
        path.append(data.draw(st.sampled_from([tag for tag in names if may_follow(path[-1], tag, scheme)])))
    if may_follow(path[-1], None, scheme):
        tags = path[1:]
        assert tag_chunks(chunks(tags), len(tags), scheme) == tags


@pytest.mark.parametrize(
    ("before", "after", "in_bio", "in_bioes"),
    [
        (None, "O", True, True),
        (None, "B-Drug", True, True),
        (None, "I-Drug", False, False),
        (None, None, True, True),
        ("O", "I-Drug", False, False),
        ("B-Drug", "I-Drug", True, True),
        ("I-Drug", "I-Drug", True, True),
        ("B-Drug", "I-Dose", False, False),
        ("B-Drug", "O", True, False),
        ("B-Drug", "B-Drug", True, False),
        ("I-Drug", "B-Dose", True, False),
        ("I-Drug", None, True, False),
    ],
)
def test_only_bioes_demands_that_a_chunk_is_closed(before, after, in_bio, in_bioes):
    assert may_follow(before, after, "BIO") is in_bio
    assert may_follow(before, after, "BIOES") is in_bioes


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (None, "S-Drug", True),
        (None, "E-Drug", False),
        ("B-Drug", "E-Drug", True),
        ("I-Drug", "E-Drug", True),
        ("I-Drug", "E-Dose", False),
        ("B-Drug", "S-Drug", False),
        ("E-Drug", "E-Drug", False),
        ("S-Drug", "I-Drug", False),
        ("E-Drug", "B-Drug", True),
        ("S-Drug", "S-Drug", True),
        ("E-Drug", None, True),
    ],
)
def test_a_closed_chunk_is_not_continued_in_bioes(before, after, allowed):
    assert may_follow(before, after, "BIOES") is allowed
