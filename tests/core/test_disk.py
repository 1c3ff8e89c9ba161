"""A place that cannot be written is one error that names it and says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder, reserve
from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.errors import DiskError, KitError
from kaggle_kit.core.page_files import page_path
from kaggle_kit.core.records import append_record, write_atomically, writing
from kaggle_kit.experiment.page_run import execute_page

UNWRITABLE = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES]


@pytest.fixture(params=UNWRITABLE)
def refusing(request, monkeypatch):
    """A system that opens and makes nothing below /somewhere; tests may run as a user who may do all."""
    real = {name: getattr(Path, name) for name in ("mkdir", "open")}

    def refuse(name):
        def call(self, *args, **options):
            if "somewhere" in self.parts:
                raise OSError(request.param, "no", str(self))
            return real[name](self, *args, **options)

        return call

    for name in real:
        monkeypatch.setattr(Path, name, refuse(name))
    return request.param


def test_every_writer_of_run_folders_and_caches_names_the_place(tmp_path, refusing, monkeypatch):
    place = tmp_path / "somewhere"
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(place))
    writers = (
        lambda: reserve(place, "a"),
        lambda: RunFolder.create(place / "a", "", "00", {}),
        lambda: append_record(place / "events.jsonl", {"step": 1}),
        lambda: write_atomically(place / "metrics.json", "[]"),
        lambda: cache_dir("tokens"),
        lambda: build_once(place / "entry", lambda folder: None),
    )
    for write in writers:
        with pytest.raises(DiskError, match="somewhere") as raised:
            write()
        assert isinstance(raised.value, KitError)
        assert raised.value.errno == refusing


def test_other_errors_of_the_system_pass_as_they_are():
    with pytest.raises(FileNotFoundError), writing("here"):
        raise FileNotFoundError(errno.ENOENT, "none")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "metrics.json").write_text("[]")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match=r"metrics\.json.*full"):
        write_atomically(tmp_path / "metrics.json", "[1]")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["[]"]


@pytest.mark.parametrize("number", UNWRITABLE)
def test_a_command_ends_with_one_line_that_names_the_place(tmp_path, monkeypatch, number):
    def refuse(self, *args, **options):
        raise OSError(number, "no", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = CliRunner().invoke(app, ["data", "practice", "--out", str(tmp_path / "corpora"), "documents=4"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {tmp_path / 'corpora'}")


@pytest.mark.parametrize("number", UNWRITABLE)
def test_a_page_whose_copy_cannot_be_written_names_it(tmp_path, monkeypatch, number):
    def full(*args, **options):
        raise OSError(number, "no")

    monkeypatch.setattr("kaggle_kit.experiment.page_run.papermill.execute_notebook", full)
    with pytest.raises(DiskError, match=r"copy\.ipynb"):
        execute_page(page_path("overview"), {}, tmp_path / "copy.ipynb")
