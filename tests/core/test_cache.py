"""Where cached things lie, and that a folder appears whole, once, or not at all."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from kaggle_kit.core import cache
from kaggle_kit.core.errors import ConfigError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An environment without any of the variables, off Kaggle, with a home of its own."""
    monkeypatch.delenv("KAGGLE_KIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "KAGGLE_WORKING", tmp_path / "kaggle" / "working")
    monkeypatch.setattr(cache, "KAGGLE_SCRATCH", tmp_path / "kaggle" / "tmp")
    return tmp_path


def entries(folder):
    """What lies in the folder beside its locks, which stay."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock")


def test_without_any_wish_the_cache_is_the_users(places):
    assert cache.cache_dir("tokens") == places / "home/.cache/kaggle_kit/tokens"
    assert (places / "home/.cache/kaggle_kit/tokens").is_dir()


def test_the_desktop_standard_moves_the_users_cache(places, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    assert cache.cache_dir("tokens") == places / "xdg/kaggle_kit/tokens"


def test_on_kaggle_the_cache_lies_in_scratch_and_never_in_the_published_output(places, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    cache.KAGGLE_WORKING.mkdir(parents=True)
    folder = cache.cache_dir("tokens")
    assert folder == places / "kaggle/tmp/kaggle_kit/tokens"
    assert not folder.is_relative_to(cache.KAGGLE_WORKING)


def test_the_projects_own_variable_comes_before_kaggle_and_the_user(places, monkeypatch):
    cache.KAGGLE_WORKING.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(places / "own"))
    assert cache.cache_dir("tokens") == places / "own/tokens"


def test_an_empty_variable_counts_as_unset(places, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache.cache_dir("tokens") == places / "home/.cache/kaggle_kit/tokens"


def test_a_folder_is_not_seen_before_it_is_whole(tmp_path):
    folder = tmp_path / "deep" / "model"
    seen = []

    def build(out):
        (out / "one").write_text("1")
        seen.append(folder.exists())
        (out / "two").write_text("2")

    assert cache.build_once(folder, build) == folder
    assert seen == [False]
    assert {name: (folder / name).read_text() for name in ("one", "two")} == {"one": "1", "two": "2"}
    assert entries(folder.parent) == [folder]


ASKS = """
import sys, time
from pathlib import Path
from kaggle_kit.core.cache import build_once
home, fails = Path(sys.argv[1]), sys.argv[2:] == ["fails"]

def build(out):
    with (home / "built").open("a") as file:
        file.write("x")
    time.sleep(1)
    if fails:
        raise SystemExit(3)
    (out / "one").write_text("1")

build_once(home / "model", build)
"""


def ask(home, *words):
    return subprocess.Popen([sys.executable, "-c", ASKS, str(home), *words])


def wait_for(home, built):
    limit = time.monotonic() + 60
    while not (home / "built").exists() or (home / "built").read_text() != built:
        assert time.monotonic() < limit, f"no {built} in {home / 'built'}"
        time.sleep(0.02)


def test_processes_that_want_the_same_entry_build_it_once(tmp_path):
    """Two pages pre-trained the same tiny model side by side."""
    all_ = [ask(tmp_path) for _ in range(3)]
    assert [child.wait(timeout=60) for child in all_] == [0, 0, 0]
    assert (tmp_path / "built").read_text() == "x"
    assert entries(tmp_path) == [tmp_path / "built", tmp_path / "model"]


def test_who_comes_after_a_failed_build_waits_for_the_one_that_goes_on(tmp_path):
    """The first one removed the lock for which the second one waited: the third made another."""
    first = ask(tmp_path, "fails")
    wait_for(tmp_path, "x")
    second = ask(tmp_path)
    assert first.wait(timeout=60) == 3
    wait_for(tmp_path, "xx")
    third = ask(tmp_path)
    assert [second.wait(timeout=60), third.wait(timeout=60)] == [0, 0]
    assert (tmp_path / "built").read_text() == "xx"


def test_a_build_that_fails_leaves_nothing_behind_and_may_be_tried_again(tmp_path):
    folder = tmp_path / "model"

    def fail(out):
        (out / "half").write_text("1")
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        cache.build_once(folder, fail)
    assert entries(tmp_path) == []
    cache.build_once(folder, lambda out: (out / "whole").write_text("1"))
    assert (folder / "whole").read_text() == "1" and not (folder / "half").exists()


def test_a_second_caller_takes_what_is_there(tmp_path):
    folder, built = tmp_path / "model", []

    def build(out):
        built.append(out)
        (out / "file").write_text(str(len(built)))

    cache.build_once(folder, build)
    assert cache.build_once(folder, build) == folder
    assert len(built) == 1
    assert (folder / "file").read_text() == "1"


def test_the_copy_of_a_faster_process_serves(tmp_path):
    folder = tmp_path / "model"

    def build(out):
        (out / "file").write_text("slow")
        cache.build_once(folder, lambda other: (other / "file").write_text("fast"))

    assert cache.build_once(folder, build) == folder
    assert (folder / "file").read_text() == "fast"
    assert entries(tmp_path) == [folder]


@pytest.mark.parametrize("damage", ["changed", "cut", "removed", "added", "unsealed"])
def test_a_damaged_entry_is_built_anew(tmp_path, damage):
    folder, built = tmp_path / "rows", []

    def build(out):
        built.append(out)
        (out / "deep").mkdir()
        (out / "deep" / "rows.arrow").write_bytes(b"0123456789")

    rows = cache.build_once(folder, build) / "deep" / "rows.arrow"
    {
        "changed": lambda: rows.write_bytes(b"0123456780"),
        "cut": lambda: rows.write_bytes(b"01"),
        "removed": rows.unlink,
        "added": lambda: (folder / "more").write_bytes(b""),
        "unsealed": (folder / cache.CHECKSUMS).unlink,
    }[damage]()
    cache.build_once(folder, build)
    assert len(built) == 2 and rows.read_bytes() == b"0123456789"
    assert entries(tmp_path) == [folder]
    cache.build_once(folder, build)
    assert len(built) == 2


def test_two_builders_with_one_process_id_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)
    folder = tmp_path / "rows"

    def slow(out):
        (out / "first").write_text("slow")
        cache.build_once(folder, lambda other: (other / "first").write_text("fast"))
        (out / "second").write_text("slow")

    cache.build_once(folder, slow)
    assert (folder / "first").read_text() == "fast" and not (folder / "second").exists()


def test_nobody_else_on_the_machine_may_read_an_entry(places):
    folder = cache.cache_dir("tokens") / "rows"

    def build(out):
        (out / "deep").mkdir()
        (out / "deep" / "rows.arrow").write_bytes(b"0")

    cache.build_once(folder, build)
    for path in (folder.parent, folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 in ((0o700,) if path.is_dir() else (0o600,)), path


def test_a_folder_that_cannot_get_its_place_is_an_error(tmp_path):
    (tmp_path / "model").write_text("a file stands in the way")
    with pytest.raises(OSError):
        cache.build_once(tmp_path / "model", lambda out: (out / "file").write_text("1"))
    assert entries(tmp_path) == [tmp_path / "model"]


def test_a_cache_in_the_published_output_is_refused(places, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(cache.KAGGLE_WORKING / "cache"))
    with pytest.raises(ConfigError, match="the cache may hold restricted text"):
        cache.cache_dir("tokens")
    assert not cache.KAGGLE_WORKING.exists()
