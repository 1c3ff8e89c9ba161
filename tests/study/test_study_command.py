"""What the words behind `study run` are taken for: a name, changes, or Snakemake's own options."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.study import DEFAULT, workflow

CHANGE = "seeds=[1,2]"


@pytest.mark.parametrize(
    ("words", "name", "seeds", "more"),
    [
        ((), DEFAULT, None, ()),
        (("--", "--dry-run"), DEFAULT, None, ("--dry-run",)),
        ((CHANGE, "--", "--executor", "slurm"), DEFAULT, [1, 2], ("--executor", "slurm")),
        (("first_look", CHANGE, "--", "--dry-run"), "first_look", [1, 2], ("--dry-run",)),
        (("first_look", "--", "-n"), "first_look", None, ("-n",)),
    ],
)
def test_a_name_that_is_left_out_is_the_default_ones(words, name, seeds, more, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(workflow, "run_study", lambda *given: asked.append(given) or 0)
    places = [f"--runs-dir={tmp_path / 'runs'}", f"--reports-dir={tmp_path / 'reports'}"]
    done = CliRunner().invoke(app, ["study", "run", *places, *words])
    assert done.exception is None or done.exit_code == 0, done.output
    ((study, _, _, given, _),) = asked
    assert study.selection.name == name and tuple(given) == more
    assert seeds is None or study.selection.seeds == seeds


def test_plan_and_status_take_changes_without_a_name_too(tmp_path):
    done = CliRunner().invoke(app, ["study", "status", f"--runs-dir={tmp_path}", CHANGE])
    assert done.exit_code == 0, done.output
    assert "multi_task" in done.output
