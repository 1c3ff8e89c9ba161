"""How far a run folder has come: read from what a kernel left, whole or cut off.

progress = inspect(folder / "runs" / run_id, config_hash)     # Progress(step=400, complete=False)
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder, reserve
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.records import read_records, reading

STEP = re.compile(r"step-(\d+)(?:-\d+)?")  # a step that was written twice has a number behind it


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` is what need not be trained again (`last_step`); `complete` that the manifest says so."""

    step: int
    complete: bool


def inspect(path: Path, config_hash: str | None = None) -> Progress:
    """Read the progress of the run at `path`.

    Raises RunFolderError where there is no run folder, a file of it is damaged or was edited since the run
    finished, or its page was asked for another configuration than `config_hash`.
    """
    run = RunFolder.open(path, finished=False)
    found = run.facts.get("asked_hash", run.facts.get("config_hash"))
    if config_hash is not None and found != config_hash:
        other = f"configuration {found}, not {config_hash}"
        raise RunFolderError(f"{path} was made with {other}; it is another experiment's")
    if run.finished:
        run.verify()
    with reading(path):
        return Progress(last_step(path), run.finished)


def last_step(path: Path) -> int:
    """Return the number of steps of a run folder that need not be trained again, complete checkpoints alone.

    A search counts its trials: one that is over has kept no checkpoint, and its events say how far it came.
    """
    over = len(read_records(path / "trials.jsonl"))
    trials = sorted(path.glob("trials/[0-9]*"))
    trained = sum(len(read_records(trial / "events.jsonl")) for trial in trials[:over])
    return _checkpointed(path) + trained + sum(map(_checkpointed, trials[over:]))


def _checkpointed(path: Path) -> int:
    """Each phase of a run counts its own steps and keeps its checkpoints in a folder of its own."""
    newest: dict[Path, int] = {}
    for checkpoint in (path / "checkpoints").rglob("step-*"):
        if name := STEP.fullmatch(checkpoint.name):
            newest[checkpoint.parent] = max(int(name[1]), newest.get(checkpoint.parent, 0))
    return sum(newest.values())


def deliver(run: Path, runs_dir: Path) -> Path:
    """Copy a finished run to the others; one that is there already, finished at the same time, stays."""
    manifest = RunFolder.open(run).manifest_json.read_bytes()
    for there in runs_dir.glob(f"{run.name}*/manifest.json"):
        if there.read_bytes() == manifest:
            return there.parent
    return Path(shutil.copytree(run, reserve(runs_dir, run.name), dirs_exist_ok=True))
