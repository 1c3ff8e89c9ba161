"""The session's clock and its signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.session import (
    EVALUATION,
    SAVE,
    STEP,
    WINDOW,
    SessionClock,
    StopSignals,
    session_limit_hours,
)


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_95th_percentile_is_the_smallest_value_that_19_of_20_do_not_exceed():
    clock = SessionClock()
    assert clock.p95(STEP) == 0.0
    for values, expected in (([3.0], 3.0), (range(1, 21), 19), (range(1, 101), 95)):
        clock.durations[STEP].clear()
        clock.durations[STEP].extend(values)
        assert clock.p95(STEP) == expected


def test_durations_are_forgotten_that_left_their_window():
    clock = SessionClock()
    for made in (clock, SessionClock()):
        made.load_state(clock.state())
        made.durations[STEP].extend([100.0] * 20 + [1.0] * WINDOW)
        assert made.p95(STEP) == 1.0


def test_a_session_stops_when_two_steps_an_evaluation_and_a_save_no_longer_fit():
    now = Time()
    clock = SessionClock(limit_hours=1.0, started=0.0, now=now)
    for kind, seconds in ((STEP, 10.0), (EVALUATION, 100.0), (SAVE, 30.0)):
        clock.durations[kind].append(seconds)
    now.seconds = 3600 - 150
    assert not clock.should_stop()
    now.seconds += 0.5
    assert clock.should_stop()


def test_the_limit_is_kaggles_unless_the_environment_says_another():
    assert session_limit_hours({}) == 11.5
    assert session_limit_hours({"KAGGLE_KIT_SESSION_HOURS": "3.5"}) == 3.5
    for wrong in ("soon", "0", "-1", "nan"):
        with pytest.raises(ConfigError, match=f"KAGGLE_KIT_SESSION_HOURS is '{wrong}'"):
            session_limit_hours({"KAGGLE_KIT_SESSION_HOURS": wrong})


def test_durations_are_kept_with_the_seconds_of_all_sessions():
    now = Time()
    clock = SessionClock(started=-40.0, now=now)
    now.seconds = 2.5
    clock.durations[SAVE].append(2.5)
    assert clock.p95(SAVE) == 2.5 and clock.elapsed == 42.5
    later = SessionClock(started=0.0, now=Time())
    later.load_state(clock.state())
    assert later.total_seconds == 42.5 and later.elapsed == 0.0 and later.p95(SAVE) == 2.5


def test_a_jump_of_the_wall_clock_moves_nothing(monkeypatch):
    clock = SessionClock()
    before = clock.elapsed
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(time, "time_ns", lambda: 4 * 10**18)
    assert 0 <= clock.elapsed - before < 60
    assert not clock.should_stop()


def test_the_session_begins_with_the_process_and_not_with_the_import():
    if not os.path.exists("/proc/self/stat"):
        pytest.skip("the system does not tell when a process began")
    script = (
        "import time; time.sleep(0.5)\n"
        "from kaggle_kit.training.session import SessionClock\n"
        "print(SessionClock().elapsed, SessionClock(started=time.monotonic()).elapsed)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    since_start, since_now = map(float, done.stdout.split())
    assert since_start >= 0.45 and since_now < 0.1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_old_handlers_come_back(number):
    before = [signal.getsignal(n) for n in StopSignals.NUMBERS]
    with StopSignals() as signals:
        assert signals.received is None
        signal.raise_signal(number)
        assert signals.received == number.name
    assert [signal.getsignal(n) for n in StopSignals.NUMBERS] == before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
