"""Sequences that begin alike, found and worked by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.data.prefixes import shared_prefixes


def test_each_candidate_shares_the_longest_beginning_that_an_earlier_one_has():
    question, other = [1, 5, 6, 7, 9], [1, 5, 8, 8, 9]
    rows = [question + [20, 21], other + [20], question + [20, 22, 2], other + [31]]
    assert shared_prefixes(rows, least=3) == (WHOLE, WHOLE, Prefix(0, 6), Prefix(1, 5))


def test_the_last_token_is_never_shared_so_that_every_sequence_reads_something():
    assert shared_prefixes([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2]], least=2) == (WHOLE, Prefix(0, 3), WHOLE)


def test_a_beginning_shorter_than_the_least_is_not_worth_it():
    assert shared_prefixes([[1, 2, 3, 4], [1, 2, 3, 5]], least=4) == (WHOLE, WHOLE)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), max_size=8), st.integers(1, 4))
def test_what_is_shared_is_the_same_in_both_and_comes_earlier(rows, least):
    for number, (row, prefix) in enumerate(zip(rows, shared_prefixes(rows, least), strict=True)):
        assert prefix == WHOLE or (prefix.of < number and least <= prefix.tokens < len(row))
        assert np.array_equal(rows[prefix.of][: prefix.tokens], row[: prefix.tokens])
