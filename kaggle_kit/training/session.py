"""The session a run lives in: how long it has lasted, when it must end, and who asked it to stop.

    clock = SessionClock(limit_hours=11.5)
    clock.durations[SAVE].append(seconds)
    clock.should_stop(), clock.elapsed          # seconds since the session began

Kaggle ends a session after twelve hours, counted from its start and not from the first training step.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import KAGGLE_WORKING, kaggle_run_type

LIMIT_HOURS = 11.5  # of Kaggle's 12; another machine's limit is told by the environment
LIMIT_VARIABLE = "KAGGLE_KIT_SESSION_HOURS"
KINDS = STEP, EVALUATION, SAVE = "step", "evaluation", "save"
WINDOW = 200  # durations that are remembered of each kind
_IMPORTED = time.monotonic()


class SessionClock:
    """Counts a session's seconds on the monotonic clock, which no change of the wall clock moves.

    `limit_hours` is `session_limit_hours()` where nothing is said. `started` is the session's start in
    readings of `now`. `seconds_before` is what earlier sessions of the same run took, and `durations` the
    last seconds of each kind of work; both come from a checkpoint.
    """

    def __init__(
        self,
        limit_hours: float | None = None,
        *,
        started: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit_seconds = 3600 * (session_limit_hours() if limit_hours is None else limit_hours)
        self.now = now
        self.started = session_start() if started is None else started
        self.seconds_before = 0.0
        self.durations: dict[str, deque[float]] = {kind: deque(maxlen=WINDOW) for kind in KINDS}

    @property
    def elapsed(self) -> float:
        """Seconds since this session began."""
        return self.now() - self.started

    @property
    def total_seconds(self) -> float:
        """Seconds of all sessions of the run."""
        return self.seconds_before + self.elapsed

    def p95(self, kind: str) -> float:
        """Return the smallest duration that at least 95 % do not exceed, in seconds; 0 without any."""
        seen = sorted(self.durations[kind])
        return seen[math.ceil(0.95 * len(seen)) - 1] if seen else 0.0

    def should_stop(self) -> bool:
        """Whether another step, an evaluation and a save might not fit before the limit."""
        ahead = 2 * self.p95(STEP) + self.p95(EVALUATION) + self.p95(SAVE)
        return self.elapsed + ahead > self.limit_seconds

    def state(self) -> dict[str, Any]:
        """Return the seconds of all sessions and the recent durations by kind, for the checkpoint."""
        durations = {kind: list(seconds) for kind, seconds in self.durations.items()}
        return {"seconds": self.total_seconds, "durations": durations}

    def load_state(self, state: dict[str, Any]) -> None:
        """Count on from the seconds and durations of earlier sessions."""
        self.seconds_before = state["seconds"]
        self.durations = {kind: deque(seen, maxlen=WINDOW) for kind, seen in state["durations"].items()}


def session_limit_hours(environ: Mapping[str, str] = os.environ) -> float:
    """Return 11.5, or the value of KAGGLE_KIT_SESSION_HOURS; it is no part of a run's configuration."""
    said = environ.get(LIMIT_VARIABLE) or str(LIMIT_HOURS)
    try:
        hours = float(said)
    except ValueError:
        hours = math.nan
    if not hours > 0:
        raise ConfigError(f"{LIMIT_VARIABLE} is {said!r}; it must be a number of hours above 0, such as 11.5")
    return hours


def session_start() -> float:
    """Return when the session began, as a reading of `time.monotonic()`.

    On Kaggle a session is a container, whose first process is number 1; elsewhere it is this process.
    Where the system does not tell (no /proc), the import of this module stands for it.
    """
    process = 1 if kaggle_run_type() is not None and KAGGLE_WORKING.is_dir() else os.getpid()
    try:
        # proc(5): field 22, in clock ticks since boot. Field 2 is the command in brackets, blanks and all
        after_command = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        started = int(after_command[22 - 3]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return time.monotonic() - age if age >= 0 else _IMPORTED


class StopSignals:
    """Turns SIGTERM and SIGINT into a request to stop at the next step's end.

        with StopSignals() as signals:
            ...  # signals.received is then "SIGTERM"

    A second Ctrl-C interrupts at once. Outside the main thread, where Python allows no handlers,
    signals act as ever.
    """

    NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received = None
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.NUMBERS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
