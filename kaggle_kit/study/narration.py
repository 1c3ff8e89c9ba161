"""What a study is doing, in a line whenever that changes: what runs, what is left, and about how long.

    narrator = Narrator(study, runs_dir, say)
    while it_runs: narrator.look(); time.sleep(PAUSE_SECONDS)

It reads the run folders alone, so that it tells of a study whoever carries it out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from kaggle_kit.study import status
from kaggle_kit.study.graph import Study, StudyRun

PAUSE_SECONDS = 2.0
QUIET_SECONDS = 20.0  # without news: a line on where the runs under way are
HEADING = re.compile(r"^\d\d:\d\d:\d\d INFO ([A-Z][\w ,]*)$", re.M)


class Narrator:
    """Says what changed since it last looked."""

    def __init__(self, study: Study, runs_dir: Path, say: Callable[[str], None]) -> None:
        self.study, self.runs_dir, self.say = study, runs_dir, say
        self.began = self.spoke = time.monotonic()
        self.last = status.states(study, runs_dir)
        self.before = self._done()
        say(f"{len(self.last)} runs, {self.before} of them done before; what each prints is in {runs_dir}")

    def look(self) -> None:
        """One line for each run that began or ended since, or for those under way after a while."""
        found, old = status.states(self.study, self.runs_dir), self.last
        self.last = found
        for id, state in found.items():
            if state != old[id] and (state in (status.RUNNING, status.DONE) or old[id] == status.RUNNING):
                self._tell(f"{state}: {named(self.study.runs[id])}{self._left(state)}")
        if time.monotonic() - self.spoke > QUIET_SECONDS:
            running = [id for id, state in found.items() if state == status.RUNNING]
            where = "; ".join(f"{named(self.study.runs[id])} at {self._heading(id)}" for id in running)
            self._tell(f"{where or self._after()}{self._left(status.DONE)}")

    def _after(self) -> str:
        whole = self._done() == len(self.last)
        return "all runs are done; verdict, pages and report" if whole else "starting the next run"

    def _tell(self, words: str) -> None:
        self.spoke = time.monotonic()
        minutes, seconds = divmod(int(self.spoke - self.began), 60)
        self.say(f"{minutes}:{seconds:02d}  {words}")

    def _left(self, state: str) -> str:
        """How many are done, and how long the others take at the pace so far."""
        if state != status.DONE:
            return ""
        done, all_ = self._done(), len(self.last)
        pace = (time.monotonic() - self.began) / (done - self.before) if done > self.before else None
        left = f", about {max(1, round(pace * (all_ - done) / 60))} min left" if pace and done < all_ else ""
        return f" — {done} of {all_} done{left}"

    def _done(self) -> int:
        return list(self.last.values()).count(status.DONE)

    def _heading(self, id: str) -> str:
        """The heading of the page that the run is at."""
        log = self.runs_dir / id / "page.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        return (HEADING.findall(text) or ["its beginning"])[-1]


def named(run: StudyRun) -> str:
    """The run in a few words: page, control, tasks and seed."""
    control = f" ({run.control} tokens)" if run.control else ""
    return f"{run.page}{control} on {'+'.join(run.tasks)}, seed {run.config.seed}"
