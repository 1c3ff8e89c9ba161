"""A small study whose pages are stand-ins, so that the real Snakemake runs it in seconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import load_selection
from kaggle_kit.study.workflow import Places, run_study

STUDY = "rq5_practice"
SMALL = ("seeds=[1,2]", "controls=[total]", "tasks=[semeval2014t7,semeval2017t3]")


@dataclass
class StandIn:
    """Runs the study with stand-in pages below `home` and reads what they did."""

    home: Path

    @property
    def places(self) -> Places:
        return Places(self.home / "runs", self.home / "reports")

    def study(self, *changes: str) -> Study:
        return Study(load_selection(STUDY, [*SMALL, *changes]), [*SMALL, *changes])

    def run(self, *changes: str, more: tuple[str, ...] = ()) -> int:
        return run_study(self.study(*changes), self.places, cores=2, more=more)

    def words(self, command: str) -> list[str]:
        """The same on the command line."""
        places = [f"--runs-dir={self.places.runs_dir}"]
        places += [f"--reports-dir={self.places.reports_dir}"] if command == "run" else []
        return ["study", command, STUDY, *SMALL, *places]

    def command(self, command: str) -> Result:
        return CliRunner().invoke(app, self.words(command))

    def choose(self, name: str, text: str | None) -> None:
        (self.home / name).unlink(missing_ok=True)
        if text is not None:
            (self.home / name).write_text(text)

    def journal(self) -> list[str]:
        """What was run since the last look, in order."""
        path = self.home / "journal"
        lines = path.read_text().splitlines() if path.is_file() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    shutil.copy(Path(__file__).with_name("stand_in.py"), tmp_path / "sitecustomize.py")
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return StandIn(tmp_path)
