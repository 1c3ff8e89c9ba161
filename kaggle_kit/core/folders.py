"""Which run folders there are: a new one for a run, those that are finished, one by its name.

path = reserve(runs_dir, run_id)
for run in find_runs(runs_dir): ...
"""

from __future__ import annotations

from pathlib import Path

from kaggle_kit.core.artifacts import HEADER, RunFolder
from kaggle_kit.core.runtime import KAGGLE_INPUT, kaggle_run_type


def reserve(runs_dir: Path, run_id: str) -> Path:
    """A new, empty folder for a run: `<runs_dir>/<run_id>`, or with `-2`, `-3`, … where one exists."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    path, number = runs_dir / run_id, 1
    while True:
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
            path = runs_dir / f"{run_id}-{number}"


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """The finished runs of a folder, by name; none where the folder is absent.

    In a Kaggle session those of attached outputs and datasets follow, so that a page finds the runs it
    reads (the run of a twin, the candidates of S5) where another kernel left them.
    """
    folders = [path.parent for path in sorted(runs_dir.glob("*/manifest.json"))]
    if kaggle_run_type():
        attached = (path.parent for path in sorted(KAGGLE_INPUT.glob("**/manifest.json")))
        folders += [folder for folder in attached if _begins_as_a_run(folder)]
    found: dict[str, RunFolder] = {}
    for folder in folders:
        if (folder / "config.yaml").is_file():
            found.setdefault(folder.name, RunFolder.open(folder))
    return list(found.values())


def find_run(runs_dir: Path, named: str) -> RunFolder:
    """A finished run by its id among those of `find_runs`, or by the path of its folder. RunFolderError."""
    found = (run for run in find_runs(runs_dir) if run.run_id == named)
    return next(found, None) or RunFolder.open(runs_dir / named)


def _begins_as_a_run(folder: Path) -> bool:
    """Whether its config.yaml is one of ours: other datasets have files of these names, too."""
    try:
        return (folder / "config.yaml").read_bytes().startswith(HEADER.encode())
    except OSError:
        return False
