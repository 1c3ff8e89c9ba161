"""Fragments and links to mentions: the grouping by hand, and against what was planted."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.heads.spans import groups


def grouped(fragments: int, *links: tuple[int, int]) -> set[tuple[int, ...]]:
    found = list(groups(range(fragments), dict.fromkeys(links, 0.9)))
    assert len(found) == len(set(found)), "no mention comes out twice"
    return set(found)


@pytest.mark.parametrize(
    ("fragments", "links", "mentions"),
    [
        (0, [], set()),
        (2, [], {(0,), (1,)}),  # linked to nothing: mentions alone
        (2, [(0, 1)], {(0, 1)}),
        (2, [(0, 0), (0, 1)], {(0,), (0, 1)}),  # alone, and a part of another one
        (3, [(0, 2), (1, 2)], {(0, 2), (1, 2)}),  # left … dilatation, right … dilatation
        (3, [(0, 1), (0, 2), (1, 2)], {(0, 1, 2)}),
        (4, [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3)], {(0, 1, 2), (0, 1, 3)}),
        (5, [(0, 1), (1, 2), (3, 3)], {(0, 1), (1, 2), (3,), (4,)}),
    ],
)
def test_linked_fragments_are_one_mention_and_may_be_shared(fragments, links, mentions):
    assert grouped(fragments, *links) == mentions


@settings(max_examples=200, deadline=None)
@given(st.sets(st.frozensets(st.integers(0, 7), min_size=1, max_size=2), min_size=1, max_size=8))
def test_any_mentions_of_one_or_two_pieces_without_a_triangle_are_given_back(planted):
    pairs = {tuple(sorted(mention)) for mention in planted if len(mention) == 2}
    triangle = any(
        {(a, b), (b, c), (a, c)} <= pairs for a, b, c in combinations(range(8), 3)
    )  # three pieces linked two by two are one mention
    if triangle:
        return
    fragments = sorted({piece for mention in planted for piece in mention})
    links = pairs | {(piece, piece) for mention in planted if len(mention) == 1 for piece in mention}
    found = set(groups(fragments, dict.fromkeys(links, 0.9)))
    assert found == {tuple(sorted(mention)) for mention in planted}


@settings(max_examples=100, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda link: link[0] < link[1])))
def test_every_group_is_fully_linked_and_every_link_is_in_a_group(links):
    found = grouped(10, *links)
    inside = {pair for group in found for pair in combinations(group, 2)}
    assert inside == links


def test_untrained_links_between_many_fragments_are_grouped_in_no_time():
    links = {pair: 0.5 + 0.001 * (sum(pair) % 7) for pair in combinations(range(120), 2) if sum(pair) % 3}
    assert len(list(groups(range(120), links))) <= len(links)
