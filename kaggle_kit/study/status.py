"""Where each run of a study stands, read off its folder.

rows = states(Study(load_selection("rq5_practice")), Path("runs"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.experiment.page_run import is_claimed
from kaggle_kit.study.graph import KINDS, Study

DONE, RUNNING, PAUSED, FAILED, MISSING = STATES = ("done", "running", "paused", "unfinished", "missing")


def state_of(folder: Path) -> str:
    """done, running, paused (its session ended), unfinished (it failed or was stopped) or missing."""
    if (folder / "manifest.json").is_file():
        return FAILED if _damage(folder) else DONE
    if is_claimed(folder):
        return RUNNING
    if (folder / "paused.json").is_file():
        return PAUSED
    return FAILED if (folder / "page.log").is_file() or (folder / "config.yaml").is_file() else MISSING


def _damage(folder: Path) -> str:
    try:
        RunFolder.open(folder)
    except RunFolderError as error:
        return str(error)
    return ""


def states(study: Study, runs_dir: Path) -> dict[str, str]:
    """Each run's state, by run id."""
    return {id: state_of(runs_dir / id) for id in study.runs}


def table(study: Study, found: Mapping[str, str]) -> str:
    """One line per kind of run with its counts, then one per run that is neither done nor missing."""
    lines = [f"{'':18}" + "".join(f"{state:>12}" for state in STATES)]
    for kind in KINDS:
        counts = Counter(found[run.id] for run in study.of_kind(kind))
        if counts:
            lines.append(f"{kind:18}" + "".join(f"{counts[state]:>12}" for state in STATES))
    counts = Counter(found.values())
    lines.append(f"{'all':18}" + "".join(f"{counts[state]:>12}" for state in STATES))
    lines += [f"{state}: {id}" for id, state in found.items() if state not in (DONE, MISSING)]
    return "\n".join(lines)


def why(folder: Path) -> str:
    """The last words of a run that did not finish, or what is wrong with a finished one."""
    if (folder / "manifest.json").is_file():
        return _damage(folder)
    if (folder / "paused.json").is_file():
        try:
            note = RunFolder(folder).paused() or {}
        except RunFolderError as error:
            return str(error)
        return str(note.get("message", "paused"))
    log = folder / "page.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    begun = next((n for n in reversed(range(len(lines))) if lines[n].startswith("error:")), len(lines) - 1)
    return "\n".join(lines[max(begun, 0) :]) or "no log"
