"""Where each run of a study stands, read off its folder; and telling of it while the study runs.

found = states(Study(load_selection("rq5_practice")), Path("runs"))
narrator = Narrator(study, runs_dir, say)
while it_runs: narrator.look(); time.sleep(PAUSE_SECONDS)
"""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.experiment.page_run import is_claimed
from kaggle_kit.study.graph import KINDS, Study, StudyRun

DONE, RUNNING, PAUSED, FAILED, MISSING = STATES = ("done", "running", "paused", "unfinished", "missing")
PAUSE_SECONDS = 2.0
QUIET_SECONDS = 20.0  # without news: a line on where the runs under way are
HEADING = re.compile(r"^\d\d:\d\d:\d\d INFO ([A-Z][\w ,]*)$", re.M)


def state_of(folder: Path) -> str:
    """done, running, paused (its session ended), unfinished (it failed or was stopped) or missing."""
    if (folder / "manifest.json").is_file():
        return FAILED if _damage(folder) else DONE
    if is_claimed(folder):
        return RUNNING
    if (folder / "paused.json").is_file():
        return PAUSED
    return FAILED if (folder / "page.log").is_file() or (folder / "config.yaml").is_file() else MISSING


def states(study: Study, runs_dir: Path) -> dict[str, str]:
    """Each run's state, by run id."""
    return {id: state_of(runs_dir / id) for id in study.runs}


def table(study: Study, found: Mapping[str, str]) -> str:
    """One line per kind of run with its counts, then one per run that is neither done nor missing."""
    rows = {kind: [found[run.id] for run in study.of_kind(kind)] for kind in KINDS}
    rows = {kind: row for kind, row in rows.items() if row} | {"all": list(found.values())}
    lines = [f"{'':18}" + "".join(f"{state:>12}" for state in STATES)]
    lines += [f"{name:18}" + "".join(f"{row.count(s):>12}" for s in STATES) for name, row in rows.items()]
    lines += [f"{state}: {id}" for id, state in found.items() if state not in (DONE, MISSING)]
    return "\n".join(lines)


def why(folder: Path) -> str:
    """The last words of a run that did not finish, or what is wrong with a finished one."""
    if (folder / "manifest.json").is_file():
        return _damage(folder)
    if (folder / "paused.json").is_file():
        try:
            return str((RunFolder(folder).paused() or {}).get("message", "paused"))
        except RunFolderError as error:
            return str(error)
    lines = _log(folder).splitlines()
    begun = [number for number, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[begun[-1] if begun else -1 :]) or "no log"


class Narrator:
    """Says what runs, what is left, and about how long, in a line whenever that changes.

    It reads the run folders alone, so that it tells of a study whoever carries it out.
    """

    def __init__(self, study: Study, runs_dir: Path, say: Callable[[str], None]) -> None:
        self.study, self.runs_dir, self.say = study, runs_dir, say
        self.began = self.spoke = time.monotonic()
        self.last = states(study, runs_dir)
        self.before = self._done()
        say(f"{len(self.last)} runs, {self.before} of them done before; what each prints is in {runs_dir}")

    def look(self) -> None:
        """One line for each run that began or ended since, or for those under way after a while."""
        found, old = states(self.study, self.runs_dir), self.last
        self.last = found
        for id, state in found.items():
            if state != old[id] and (state in (RUNNING, DONE) or old[id] == RUNNING):
                self._tell(f"{state}: {named(self.study.runs[id])}{self._left() if state == DONE else ''}")
        if time.monotonic() - self.spoke > QUIET_SECONDS:
            running = [id for id, state in found.items() if state == RUNNING]
            headings = {id: HEADING.findall(_log(self.runs_dir / id)) or ["its beginning"] for id in running}
            where = [f"{named(self.study.runs[id])} at {passed[-1]}" for id, passed in headings.items()]
            whole = self._done() == len(found)
            idle = "all runs are done; verdict, pages and report" if whole else "starting the next run"
            self._tell(f"{'; '.join(where) or idle}{self._left()}")

    def _tell(self, words: str) -> None:
        self.spoke = time.monotonic()
        minutes, seconds = divmod(int(self.spoke - self.began), 60)
        self.say(f"{minutes}:{seconds:02d}  {words}")

    def _left(self) -> str:
        """How many are done, and how long the others take at the pace so far."""
        done, all_ = self._done(), len(self.last)
        pace = (time.monotonic() - self.began) / (done - self.before) if done > self.before else None
        left = f", about {max(1, round(pace * (all_ - done) / 60))} min left" if pace and done < all_ else ""
        return f" — {done} of {all_} done{left}"

    def _done(self) -> int:
        return list(self.last.values()).count(DONE)


def named(run: StudyRun) -> str:
    """The run in a few words: page, control, tasks and seed."""
    control = f" ({run.control} tokens)" if run.control else ""
    return f"{run.page}{control} on {'+'.join(run.tasks)}, seed {run.config.seed}"


def _damage(folder: Path) -> str:
    try:
        RunFolder.open(folder)
    except RunFolderError as error:
        return str(error)
    return ""


def _log(folder: Path) -> str:
    log = folder / "page.log"
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
