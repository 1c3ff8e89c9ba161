"""Hands a study to Snakemake and stays its only scheduler in a runs folder.

code = run_study(Study(load_selection("rq5_practice")), cores=2, more=["--executor", "slurm"])
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from kaggle_kit.core.errors import STOPPED, ConfigError, RunFolderError
from kaggle_kit.core.params import params_file
from kaggle_kit.core.records import alone, write_atomically
from kaggle_kit.core.runtime import handling, logger, python_path
from kaggle_kit.study.graph import Study
from kaggle_kit.study.status import PAUSE_SECONDS, Narrator

SNAKEFILE = Path(__file__).with_name("Snakefile")
STATE = ".study"  # below the runs folder: Snakemake's notes, which may be deleted at any time
DRY = re.compile(r"-[a-zA-Z]*n[a-zA-Z]*|--dry-?run")  # among Snakemake's words
# `mtime` and `input` concern what is read off the runs. Nothing else may undo a finished run: its folder's
# name holds its configuration, and neither a newer kit nor another spelling changes what it measured.
OPTIONS = [
    *("--rerun-triggers", "mtime", "input", "--keep-going", "--keep-incomplete", "--ignore-incomplete"),
    *("--nolock", "--scheduler", "greedy", "--nocolor", "--resources", "gpu=1", "--quiet", "host", "reason"),
]
LOG = "snakemake.log"  # in STATE


@dataclass(frozen=True)
class Places:
    """Where a study's runs and reports lie."""

    runs_dir: Path = Path("runs")
    reports_dir: Path = Path("reports")

    def resolved(self) -> "Places":
        """Return the same folders as absolute paths."""
        return Places(self.runs_dir.expanduser().resolve(), self.reports_dir.expanduser().resolve())


def run_study(
    study: Study,
    places: Places | None = None,
    cores: int = 2,
    more: Sequence[str] = (),
    say: Callable[[str], None] = logger.info,
) -> int:
    """Run what is missing of a study, and return Snakemake's exit code (130 where it was stopped).

    `more` goes to Snakemake as it is; without any, Snakemake writes to `.study/snakemake.log` and `say` is
    told what runs. Raises ConfigError where Snakemake is not installed, and
    RunFolderError where another study is running in the same runs folder.
    """
    if find_spec("snakemake") is None:
        raise ConfigError("a study needs snakemake: run `make setup`, or pip install 'snakemake>=9'")
    places = (places or Places()).resolved()
    with _state(places, more) as (state, lock):
        folder = view(study, places, state)
        configfile = write_atomically(state / "config.json", json.dumps(settings(study, places, folder)))
        options = {"snakefile": SNAKEFILE, "directory": state, "configfile": configfile, "cores": cores}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "snakemake", *words, *OPTIONS, *more]
        if more:  # whoever speaks to Snakemake hears it
            return _watched(command, lock)
        with (state / LOG).open("w", encoding="utf-8") as log:
            narrator = Narrator(study, places.runs_dir, say)
            return _watched(command, lock, log, narrator.look)


def settings(study: Study, places: Places, view: Path) -> dict[str, Any]:
    """The workflow's configuration: all that the Snakefile knows of the study, as plain values."""
    selection = study.selection
    return {
        "kit": [sys.executable, "-m", "kaggle_kit"],
        "cwd": str(Path.cwd()),
        "runs_dir": str(places.runs_dir),
        "report": str(places.reports_dir / selection.report),
        "declared": str(params_file(f"study/{study.file}.yaml")),
        "view": str(view),
        "study": [study.file, *study.changes],
        "verdicts": study.verdicts(),
        "questions": study.questions(),
        "runs": study.nodes(places.runs_dir),
    }


def view(study: Study, places: Places, state: Path) -> Path:
    """A folder of links to the study's runs alone, for readers that take all runs of a folder.

    Only links are ever removed from it; RunFolderError where it holds anything else.
    """
    folder = state / "views" / study.selection.name
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if not entry.is_symlink():
            raise RunFolderError(f"{entry} is no link; {folder} is for links alone: move it away")
        entry.unlink()
    for id in study.runs:
        (folder / id).symlink_to(places.runs_dir / id, target_is_directory=True)
    return folder


@contextmanager
def _state(places: Places, more: Sequence[str]) -> Iterator[tuple[Path, int | None]]:
    """Snakemake's own folder with its lock; for a dry run, which writes nothing, one that is then gone.

    Snakemake inherits the lock: it is free again once nothing of the study is left alive.
    """
    if any(DRY.fullmatch(word) for word in more):
        with tempfile.TemporaryDirectory(prefix="kaggle-kit-") as folder:
            yield Path(folder), None
        return
    state = places.runs_dir / STATE
    then = "another study is running in it; wait for it, or give another --runs-dir"
    with alone(state / "lock", RunFolderError(f"{state.parent}: {then}")) as lock:
        yield state, lock.fileno()


def _watched(
    command: Sequence[str],
    lock: int | None,
    log: IO[str] | None = None,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Run a command with its children; Ctrl-C, a hang-up or a termination stops all of them."""
    child: subprocess.Popen[Any] | None = None
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        if child is not None and child.poll() is None:  # the first time gently, then for good
            os.killpg(child.pid, signal.SIGKILL if stopped else signal.SIGINT)
        stopped = True

    # Before the start: a signal that is ignored here would be ignored by all of them.
    with handling(stop):
        held, environ = () if lock is None else (lock,), os.environ | {"PYTHONPATH": python_path()}
        start = partial(subprocess.Popen, command, env=environ, pass_fds=held, start_new_session=True)
        child = process = start(stdout=log, stderr=log and subprocess.STDOUT)
        while process.poll() is None:
            look()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE_SECONDS)
        look()
    return STOPPED if stopped else process.returncode
