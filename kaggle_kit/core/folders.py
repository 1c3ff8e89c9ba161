"""Which run folders there are: a new one for a run, those that are finished or not, one by its name.

path = reserve(runs_dir, run_id)
for run in find_runs(runs_dir): ...
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kaggle_kit.core.artifacts import HEADER, RunFolder
from kaggle_kit.core.disk import writing
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.runtime import KAGGLE_INPUT, kaggle_run_type


def reserve(runs_dir: Path, run_id: str) -> Path:
    """Return a new, empty folder for a run: `<runs_dir>/<run_id>`, or with `-2`, `-3`, … where one exists."""
    path, number = runs_dir / run_id, 1
    with writing(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(FileExistsError):
                path.mkdir()
                return path
            number += 1
            path = runs_dir / f"{run_id}-{number}"


def find_runs(runs_dir: Path, damaged: list[str] | None = None) -> list[RunFolder]:
    """Return the finished runs of a folder, by name; none where the folder is absent.

    A run that is damaged, edited or unsigned is a RunFolderError; given a list for `damaged`, it is left out,
    and a sentence on it is added there.

    In a Kaggle session those of attached outputs and datasets follow, so that a page finds the runs it
    reads (the run of a twin, the candidates of S5) where another kernel left them.
    """
    found: dict[str, RunFolder] = {}
    for folder in _finished_folders(runs_dir):
        if folder.name in found:
            continue
        try:
            found[folder.name] = RunFolder.open(folder)
        except RunFolderError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    return list(found.values())


def unfinished_beside(runs: Iterable[RunFolder]) -> list[RunFolder]:
    """Return the folders beside finished runs in which a run began and none has finished, by name."""
    places = dict.fromkeys(run.path.parent for run in runs)
    folders = (file.parent for place in places for file in sorted(place.glob("*/config.yaml")))
    begun = (folder for folder in folders if not (folder / "manifest.json").is_file())
    return [RunFolder.open(folder, finished=False) for folder in begun if _begins_as_a_run(folder)]


def ending(run: RunFolder) -> str:
    """Say how far an unfinished run came: paused, failed by the error of its page, or broken off."""
    if note := run.paused():
        return f"paused at step {note.get('step')} of {note.get('steps')}"
    try:
        cells = json.loads(run.notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        errors = [output["ename"] for output in outputs if output.get("output_type") == "error"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        errors = []
    steps = len(run.events())
    return f"failed by {errors[-1]} after {steps} steps" if errors else f"broken off after {steps} steps"


def find_run(runs_dir: Path, named: str) -> RunFolder:
    """Return a finished run by its id in `find_runs`, or by its folder's path. Raises RunFolderError."""
    found = (folder for folder in _finished_folders(runs_dir) if folder.name == named)
    return RunFolder.open(next(found, runs_dir / named))


def _finished_folders(runs_dir: Path) -> list[Path]:
    """Own folders with a manifest, then attached ones; nothing of them is read but how they begin."""
    folders = [path.parent for path in sorted(runs_dir.glob("*/manifest.json"))]
    if kaggle_run_type():
        attached = (path.parent for path in sorted(KAGGLE_INPUT.glob("**/manifest.json")))
        folders += [folder for folder in attached if _begins_as_a_run(folder)]
    return [folder for folder in folders if (folder / "config.yaml").is_file()]


def _begins_as_a_run(folder: Path) -> bool:
    """Whether its config.yaml is one of ours: other datasets have files of these names, too."""
    try:
        return (folder / "config.yaml").read_bytes().startswith(HEADER.encode())
    except OSError:
        return False
