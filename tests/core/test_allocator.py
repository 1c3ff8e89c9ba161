"""The allocator setting: both names, the user's choice first, and never too late without a word."""

from __future__ import annotations

import pytest

from kaggle_kit.core.allocator import NAMES, SETTING, set_allocator
from kaggle_kit.core.errors import ConfigError


def test_both_names_are_set_because_some_releases_read_only_the_old_one():
    environ: dict[str, str] = {}
    assert set_allocator(environ, modules=()) == SETTING
    assert environ == dict.fromkeys(("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"), SETTING)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_chose_stays_under_both_names(name):
    environ = {name: "max_split_size_mb:128"}
    assert set_allocator(environ, modules=()) == "max_split_size_mb:128"
    assert set(environ.values()) == {"max_split_size_mb:128"}
    assert environ.keys() == set(NAMES)


def test_after_torch_is_imported_it_is_too_late():
    with pytest.raises(ConfigError, match="torch is imported already.*restart the kernel"):
        set_allocator({}, modules={"torch"})


def test_a_setting_already_in_force_may_be_asked_for_again():
    environ = dict.fromkeys(NAMES, SETTING)
    assert set_allocator(environ, modules={"torch"}) == SETTING
