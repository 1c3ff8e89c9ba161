"""Pages that read finished runs, built with the kernels that left them; and the names that Kaggle has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.kaggle.build import build_reading
from kaggle_kit.kaggle.metadata import Sources, checked, known_owner, stale_metadata, write
from tests.analysis.judged_runs import Factory

JUDGE = "08_token_controlled_analysis"


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["kernels", *map(str, arguments)])


def executed(folder: Path, root: Path) -> str:
    """What the code cells of a built page print in a session below `root`."""
    page = nbformat.read(next(folder.glob("*.ipynb")), as_version=4)
    cells = "\n".join(cell.source for cell in page.cells if cell.cell_type == "code")
    (root / "working").mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(root), "TMPDIR": str(root)}
    environ |= {"KAGGLE_KIT_KAGGLE_ROOT": str(root), "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    command = [sys.executable, "-"]
    done = subprocess.run(
        command, input=cells, cwd=root / "working", env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def a_token(monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "jane")
    monkeypatch.setenv("KAGGLE_KEY", "not-a-real-key-0123456789")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return Factory(tmp_path_factory.mktemp("study")).study(seeds=(1, 2, 3))


def test_a_parameter_keeps_its_kind_in_a_built_page(tmp_path):
    """As text, "False" would be true."""
    page = ("06_calibration_plots", "--from", "jane/x", "words=False", "run=abc")
    done = invoke("build", *page, "--owner", "jane", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    cells = nbformat.read(next(tmp_path.rglob("*.ipynb")), as_version=4).cells
    (injected,) = (cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", ()))
    assert "words = False" in injected.splitlines() and 'run = "abc"' in injected.splitlines()


@pytest.mark.parametrize("page", ["overview", JUDGE])
def test_a_built_page_reads_the_runs_of_its_kernels_where_they_are_mounted(page, tmp_path, runs):
    sources = ("--from", "jane/multi-task", "--from", "jane/controls/3")
    done = invoke("build", page, "--owner", "jane", *sources, "--out", tmp_path / "built")
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "built").iterdir()
    described = json.loads((folder / "kernel-metadata.json").read_text())
    assert described["kernel_sources"] == ["jane/multi-task", "jane/controls/3"]
    assert (described["enable_gpu"], described["is_private"]) == (False, True)
    assert described["id"] == f"jane/{folder.name}"
    for run in runs.iterdir():  # as Kaggle mounts them now, and as it used to
        multi = json.loads((run / "manifest.json").read_text())["page"] != "token_controlled"
        mount = "notebooks/jane/multi-task" if multi else "controls"
        shutil.copytree(run, tmp_path / "input" / mount / "runs" / run.name)
    shown = executed(folder, tmp_path)
    assert [
        run.name for run in runs.iterdir() if run.name not in shown
    ] == [] or "finished runs: 15;" in shown


def test_the_parameters_of_a_page_that_trains_nothing_are_injected(tmp_path):
    asked = (JUDGE, "backbone=tiny", "--strategy", "s2_shared", "--from", "jane/controls")
    done = invoke("build", *asked, "--owner", "jane", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    page = nbformat.read(next(folder.glob("*.ipynb")), as_version=4)
    (injected,) = [c.source for c in page.cells if "injected-parameters" in c.metadata.get("tags", ())]
    assert 'backbone = "tiny"' in injected and 'strategy = "s2_shared"' in injected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("overview",), "name the kernels whose finished runs it reads, --from OWNER/NAME"),
        (("overview", "--from", "jane/x", "--model", "minilm"), "overview has no parameter 'model'"),
        (("overview", "--from", "jane/x", "--seed", "1"), "overview has no parameter 'seed'"),
        (("overview", "--from", "jane/x", "rnus_dir=x"), "'rnus_dir' — did you mean 'runs_dir'"),
        (("overview", "--from", "jane/x", "runs"), "expected NAME=VALUE"),
        (("overview", "--from", "overview"), "kernel 'overview': Kaggle has OWNER/NAME"),
        (("overview", "--from", "https://www.kaggle.com/code/jane/x"), "Kaggle has OWNER/NAME"),
        (("s1_single_task", "--dataset", "Jane Doe/x"), "dataset 'Jane Doe/x'"),
        (("s1_single_task", "--kit-dataset", ""), "dataset ''"),
        (("s1_single_task", "--model-source", "jane/gemma"), "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(arguments, said, tmp_path):
    done = invoke("build", *arguments, "--owner", "jane", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_chain_takes_no_page_that_trains_nothing(tmp_path):
    done = invoke("chain", "overview", "--from", "jane/x", "--owner", "jane", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "no run to chain" in done.stderr


def test_other_sources_or_parameters_make_another_kernel(tmp_path):
    given = [
        ({}, Sources(kernels=("jane/a",))),
        ({}, Sources(kernels=("jane/b",))),
        ({"runs_dir": "x"}, Sources(kernels=("jane/a",))),
    ]
    built = [build_reading("overview", values, tmp_path, "jane", sources) for values, sources in given]
    assert len({one.ref for one in built}) == 3


@pytest.mark.parametrize("owner", ["jane", "jane_doe", "the-lab", "x2"])
def test_a_name_as_kaggle_has_it_is_taken(owner):
    assert checked("owner", owner) == owner


WRONG = ["Jane Doe", "jane/doe", "Jane", "@jane", "", "-jane", "jane-", "jäne", "kaggle.com/jane", "jane\n"]


@pytest.mark.parametrize("owner", WRONG)
@pytest.mark.parametrize(
    "command", [("init",), ("build", "s1_single_task"), ("chain", "s1_single_task"), ("dataset",)]
)
def test_an_owner_that_kaggle_cannot_have_is_refused_wherever_one_is_named(command, owner, tmp_path):
    more = () if command == ("init",) else ("--out", tmp_path / "out")
    done = invoke(*command, "--owner", owner, *more)
    assert done.exit_code == 2
    assert f"owner {owner!r}: Kaggle has NAME, such as jane" in done.stderr
    assert not (tmp_path / "out").exists() and stale_metadata() == []


def test_an_owner_that_was_written_into_the_metadata_by_hand_is_checked_too(tmp_path):
    write(tmp_path / "page", {"id": "Jane Doe/kaggle-kit-page", "is_private": True})
    with pytest.raises(ConfigError, match="owner 'Jane Doe'"):
        known_owner(tmp_path)
    for command in (("push", tmp_path / "page"), ("status", "Jane Doe/x"), ("pull", "x", "--out", tmp_path)):
        done = invoke(*command)
        assert done.exit_code == 2 and "kernel '" in done.stderr, done.output
