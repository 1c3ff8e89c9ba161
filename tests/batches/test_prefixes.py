"""What the rows of a group begin with, and what a batch of them shares, worked by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.batches.encoded import beginnings
from kaggle_kit.batches.plan import shared_prefixes
from kaggle_kit.core.types import WHOLE, Prefix


def test_a_group_begins_with_what_all_its_rows_have_in_common():
    question, other = [1, 5, 6, 7, 9], [1, 5, 8, 8, 9]
    rows = [question + [20, 21], question + [20, 22, 2], question + [23], other + [20], other + [31]]
    assert beginnings(rows, np.array([0, 0, 0, 1, 1]), least=3).tolist() == [5, 5, 5, 5, 5]
    assert beginnings(rows, np.array([0, 0, 1, 2, 2]), least=3).tolist() == [6, 6, 5, 5, 5]


def test_the_last_token_is_never_common_so_that_every_row_reads_something():
    rows = [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert beginnings(rows, np.array([0, 0, 0]), least=2).tolist() == [3, 3, 3]


def test_a_beginning_shorter_than_the_least_is_not_worth_it():
    assert beginnings([[1, 2, 3, 4], [1, 2, 3, 5]], np.array([0, 0]), least=4).tolist() == [0, 0]


def test_rows_share_with_the_first_of_their_unit():
    found = shared_prefixes(units=(0, 1, 0, 2), beginnings=(9, 12, 9, 9), lengths=(20, 15, 12, 20))
    assert found == (WHOLE, WHOLE, Prefix(0, 9), WHOLE)  # the last one is drawn anew


def test_a_row_that_is_cut_within_the_beginning_shares_less_of_it():
    assert shared_prefixes((0, 0), (12, 12), (20, 10)) == (WHOLE, Prefix(0, 9))
    assert shared_prefixes((0, 0), (12, 12), (20, 8)) == (WHOLE, WHOLE)  # 7 are too few


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=14), min_size=1, max_size=8),
    st.lists(st.integers(0, 2), min_size=8, max_size=8),
)
def test_what_is_shared_is_the_same_in_both_and_comes_earlier(rows, groups):
    groups = np.sort(groups[: len(rows)])
    common = beginnings(rows, groups)
    lengths = [len(row) for row in rows]
    found = shared_prefixes(groups, common, lengths)
    for number, (row, prefix) in enumerate(zip(rows, found, strict=True)):
        assert prefix == WHOLE or (prefix.of < number and prefix.tokens < len(row))
        assert np.array_equal(rows[prefix.of][: prefix.tokens], row[: prefix.tokens])
