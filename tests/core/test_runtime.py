"""What a run records of machine and code, read without importing any library."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import reload
from pathlib import Path

from kaggle_kit.core import runtime


def test_an_absent_library_is_left_out_of_the_versions():
    versions = runtime.library_versions(("numpy", "no-such-library-here"))
    assert set(versions) == {"python", "numpy"}
    assert versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_reading_versions_imports_no_library():
    code = (
        "import sys; from kaggle_kit.core import runtime; runtime.library_versions(); "
        "print(*{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path):
    assert runtime.git_sha(tmp_path) is None


def test_a_changed_checkout_is_marked_dirty_but_not_for_the_owner_of_its_kernels(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    owned = tmp_path / "kernel-metadata" / "page" / "kernel-metadata.json"
    owned.parent.mkdir(parents=True)
    for path in (tmp_path / "a", owned):
        path.write_text("1")
    git("add", "a", "kernel-metadata")
    git("commit", "-m", "one")
    clean = runtime.git_sha(tmp_path)
    owned.write_text("jane")
    assert runtime.git_sha(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert len(clean) == 40
    assert runtime.git_sha(tmp_path) == f"{clean}-dirty"


def test_the_environment_has_cores_memory_and_disk(tmp_path):
    facts = runtime.environment(tmp_path)
    assert facts["cores"] >= 1
    assert 0.1 < facts["memory_gib"] < 100_000
    assert facts["disk_free_gib"] >= 0


def test_the_kaggle_run_type_is_none_elsewhere():
    assert runtime.kaggle_run_type({}) is None
    assert runtime.kaggle_run_type({"KAGGLE_KERNEL_RUN_TYPE": ""}) is None
    assert runtime.kaggle_run_type({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}) == "Batch"


def test_the_logger_gets_one_handler_however_often_the_module_is_loaded():
    reload(runtime)
    reload(runtime)
    assert len(logging.getLogger("kaggle_kit").handlers) == 1


def test_relative_outputs_lie_in_the_checkout_and_absolute_ones_where_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    root = Path(__file__).resolve().parents[2]
    assert runtime.in_workspace("runs") == root / "runs"
    assert runtime.in_workspace(tmp_path / "x") == tmp_path / "x"


def test_without_a_checkout_outputs_lie_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.setattr(runtime, "SOURCE_ROOT", tmp_path / "site-packages")
    assert runtime.in_workspace("runs") == tmp_path / "runs"


def test_on_kaggle_outputs_lie_in_its_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr(runtime, "KAGGLE_WORKING", tmp_path)
    assert runtime.in_workspace("runs") == tmp_path / "runs"
