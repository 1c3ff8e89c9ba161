"""The top of a kernel: packages, the run so far from a read-only mount, and no step that stops a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_kit.core import kaggle_image
from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.errors import ConfigError, RunFolderError, StartupError
from kaggle_kit.core.kaggle_outputs import Progress, deliver, inspect
from kaggle_kit.core.runtime import SOURCE_ROOT


def unfinished_run(path: Path, *steps: int) -> Path:
    run = RunFolder.create(path, "a: 1\n", "0123", {})
    for step in steps:
        (run.checkpoints / f"step-{step:06d}").mkdir()
        (run.checkpoints / f"step-{step:06d}" / "state.json").write_text(str(step))
    return path


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_the_newest_mounted_run_is_copied_and_can_be_written_to(tmp_path):
    older, newer = tmp_path / "input" / "old", tmp_path / "input" / "notebooks" / "jane" / "x"
    unfinished_run(older / "runs" / "r", 200)
    unfinished_run(newer / "runs" / "r", 200, 400)
    make_read_only(newer)
    (note,) = kaggle_image.restore("runs/r", tmp_path / "input", tmp_path / "working")
    assert note == "run: runs/r goes on from step 400"
    copied = tmp_path / "working" / "runs" / "r" / "checkpoints"
    assert {path.name for path in copied.iterdir()} == {"step-000200", "step-000400"}
    modes = {path.stat().st_mode & 0o200 for path in (tmp_path / "working").rglob("*")}
    assert modes == {0o200}  # the owner may write everywhere


def test_a_run_that_is_already_there_stays_and_one_that_is_nowhere_starts_afresh(tmp_path):
    unfinished_run(tmp_path / "input" / "runs" / "r", 400)
    unfinished_run(tmp_path / "working" / "runs" / "r", 200)
    assert kaggle_image.restore("runs/r", tmp_path / "input", tmp_path / "working") == []
    assert inspect(tmp_path / "working" / "runs" / "r") == Progress(200, False)
    assert kaggle_image.restore("runs/s", tmp_path / "input", tmp_path / "working") == [
        "run: runs/s starts afresh"
    ]


def test_a_kernel_sets_the_allocator_before_torch_is_imported(tmp_path):
    code = (
        "import os, sys\nfrom kaggle_kit.core import kaggle_image as image\n"
        "image.install = lambda *_, **__: []\n"
        "print(*image.prepare(run_dir='', internet=False), sep='\\n')\n"
        "names = ('PYTORCH_CUDA_ALLOC_CONF', 'CUDA_VISIBLE_DEVICES')\n"
        "print('torch' in sys.modules, *map(os.environ.get, names))"
    )
    command, environ = [sys.executable, "-c", code], {"PATH": "", "PYTHONPATH": str(SOURCE_ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "CUDA allocator: expandable_segments:True", done.stderr
    assert lines[-1] == "False expandable_segments:True 0"


def test_a_kernel_whose_torch_is_imported_already_goes_on_and_says_so(monkeypatch):
    def late() -> str:
        raise ConfigError("torch is imported already")

    monkeypatch.setattr(kaggle_image, "set_allocator", late)
    assert kaggle_image.allocate() == ["CUDA allocator: as it was, for torch is imported already"]


def test_only_requirements_that_the_image_does_not_fulfil_are_missing(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# comment\ntyper>=0.1\ntyper>=999  # too new\nno-such-package-here\ntorch>=999\npytest\n"
    )
    assert kaggle_image.unmet(path) == ["typer>=999", "no-such-package-here"]


def test_what_the_running_notebook_runs_on_is_no_requirement_of_a_page(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("ipykernel>=999\njupyter_client>=999\nipython>=999\n")
    assert kaggle_image.unmet(path) == []


def test_packages_come_from_attached_wheels_when_the_internet_is_off(tmp_path, monkeypatch):
    (tmp_path / "datasets" / "kit").mkdir(parents=True)
    (tmp_path / "datasets" / "kit" / "a-1-py3-none-any.whl").touch()
    called = []
    monkeypatch.setattr(kaggle_image, "pip", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(kaggle_image, "_installed", {"torch": "2.10.0+cu128"}.get)
    assert kaggle_image.install(["a"], internet=False, wheels=tmp_path) == ["packages: installed a"]
    where = str(tmp_path / "datasets" / "kit")
    assert called == [("install", "--find-links", where, "--no-index", "a", "torch==2.10.0+cu128")]


def test_a_package_that_stays_missing_is_named_once_the_others_are_installed(tmp_path, monkeypatch):
    def pip(*arguments):
        tried.append(arguments[2])
        return None if arguments[2] == "good" else "ERROR: none"

    tried = []
    monkeypatch.setattr(kaggle_image, "pip", pip)
    monkeypatch.setattr(kaggle_image, "_installed", {"old": "1.0"}.get)
    assert kaggle_image.install(["old>=2", "good"], internet=False, wheels=tmp_path) == [
        "packages: 1.0 of old>=2 stays: ERROR: none",
        "packages: installed good",
    ]
    with pytest.raises(StartupError, match=r"lacks gone>=1 \(ERROR: none\)\. .*kernels dataset --package"):
        kaggle_image.install(["gone>=1", "good"], internet=False, wheels=tmp_path)
    assert tried == ["old>=2", "good", "gone>=1", "good"]


def test_a_run_of_another_configuration_or_with_a_damaged_manifest_is_refused(tmp_path):
    path = unfinished_run(tmp_path / "r", 200)
    assert inspect(path, "0123") == Progress(200, False)
    (path / "checkpoints" / "step-000400-2").mkdir()  # written a second time
    (path / "checkpoints" / ".step-000600").mkdir()  # cut off while it was written
    assert inspect(path, "0123") == Progress(400, False)
    with pytest.raises(RunFolderError, match="configuration 0123, not 4567"):
        inspect(path, "4567")
    (path / "manifest.json").write_text('{"complete": tr')
    with pytest.raises(RunFolderError, match="damaged"):
        inspect(path)


def test_a_finished_run_is_delivered_once(tmp_path):
    run = RunFolder.open(unfinished_run(tmp_path / "out" / "r", 5), finished=False)
    run.finish(totals=Totals({"t": 5}), device="cpu", data_hashes={})
    first = deliver(run.path, tmp_path / "runs")
    assert first == deliver(run.path, tmp_path / "runs") == tmp_path / "runs" / "r"
    assert RunFolder.open(first).manifest()["totals"]["tokens"] == {"t": 5}
