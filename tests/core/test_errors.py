"""The hint behind a name that nothing knows."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import members
from kaggle_kit.core.errors import nearest
from kaggle_kit.core.schema import TrainingConfig


@pytest.mark.parametrize(
    ("name", "allowed", "hint"),
    [
        ("s1", members("strategy"), "'s1_single'"),
        ("s3", members("strategy"), "'s3a_flat' or 's3b_hierarchical'"),
        ("rq5", members("study"), "'rq5_practice'"),
        ("S1", members("strategy"), "'s1_single'"),
        ("semeval2014", members("task"), "'semeval2014t7'"),
        ("disease", members("task"), "'ncbi_disease'"),
        ("lr", list(vars(TrainingConfig())), "'learning_rate'"),
        ("minilmm", members("model"), "'minilm'"),
        ("semeval", members("task"), "'semeval2014t7' or 'semeval2015t14' or 'semeval2016t12'"),
    ],
)
def test_a_near_miss_is_answered_with_the_names_that_it_may_mean(name, allowed, hint):
    """`s1` was answered with 'a1', and `rq5` with nothing."""
    assert nearest(name, allowed) == f" — did you mean {hint}?"


@pytest.mark.parametrize("name", ["", "xyzzy"])
def test_a_name_that_is_near_to_none_has_no_hint(name):
    assert nearest(name, members("task")) == ""
