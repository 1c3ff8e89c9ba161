"""The session a run lives in: how long it has lasted, when it must end, and who asked it to stop.

    clock = SessionClock(limit_hours=11.5)
    with clock.measure("save"):
        ...
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import KAGGLE_WORKING, kaggle_run_type

LIMIT_HOURS = 11.5  # of Kaggle's 12; another machine's limit is told by the environment
LIMIT_VARIABLE = "KAGGLE_KIT_SESSION_HOURS"
STEP, EVALUATION, SAVE = "step", "evaluation", "save"
_IMPORTED = time.monotonic()


class RollingQuantile:
    """A quantile of the last `window` values: the smallest one that at least a share `q` does not exceed."""

    def __init__(self, values: Iterable[float] = (), window: int = 200) -> None:
        self.values: deque[float] = deque(values, maxlen=window)

    def add(self, value: float) -> None:
        self.values.append(value)

    def quantile(self, q: float) -> float:
        """0 where nothing has been observed."""
        if not self.values:
            return 0.0
        return sorted(self.values)[max(0, math.ceil(q * len(self.values)) - 1)]


class SessionClock:
    """Counts a session's seconds on the monotonic clock, which no change of the wall clock moves.

    `limit_hours` is `session_limit_hours()` where nothing is said. `started` is the session's start in
    readings of `now`. `seconds_before` is what earlier sessions
    of the same run took; it comes from their checkpoint.
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
        self.durations = {kind: RollingQuantile() for kind in (STEP, EVALUATION, SAVE)}

    @property
    def elapsed(self) -> float:
        """Seconds since this session began."""
        return self.now() - self.started

    @property
    def total_seconds(self) -> float:
        """Seconds of all sessions of the run."""
        return self.seconds_before + self.elapsed

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        begun = self.now()
        yield
        self.durations[kind].add(self.now() - begun)

    def p95(self, kind: str) -> float:
        return self.durations[kind].quantile(0.95)

    def should_stop(self) -> bool:
        """Whether another step, an evaluation and a save might not fit before the limit."""
        ahead = 2 * self.p95(STEP) + self.p95(EVALUATION) + self.p95(SAVE)
        return self.elapsed + ahead > self.limit_seconds

    def state(self) -> dict[str, Any]:
        durations = {kind: list(seen.values) for kind, seen in self.durations.items()}
        return {"seconds": self.total_seconds, "durations": durations}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seconds_before = state["seconds"]
        self.durations = {kind: RollingQuantile(values) for kind, values in state["durations"].items()}


def session_limit_hours(environ: Mapping[str, str] = os.environ) -> float:
    """11.5, or what KAGGLE_KIT_SESSION_HOURS says; it is no part of an experiment's configuration."""
    said = environ.get(LIMIT_VARIABLE) or str(LIMIT_HOURS)
    try:
        hours = float(said)
    except ValueError:
        hours = math.nan
    if not hours > 0:
        raise ConfigError(f"{LIMIT_VARIABLE} is {said!r}; it must be a number of hours above 0, such as 11.5")
    return hours


def session_start() -> float:
    """When the session began, as a reading of `time.monotonic()`.

    On Kaggle a session is a container, whose first process is number 1; elsewhere it is this process.
    Where the system does not tell (no /proc), the import of this module stands for it.
    """
    contained = kaggle_run_type() is not None and KAGGLE_WORKING.is_dir()
    age = process_age(1 if contained else os.getpid())
    return _IMPORTED if age is None else time.monotonic() - age


def process_age(process: int) -> float | None:
    """Seconds since a process was started; None where /proc does not tell."""
    try:
        # proc(5): field 22, in clock ticks since boot. Field 2 is the command in brackets, blanks and all
        after_command = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        started = int(after_command[22 - 3]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return age if age >= 0 else None


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
