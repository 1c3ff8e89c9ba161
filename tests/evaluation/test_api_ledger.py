"""The ledger of API costs: no schedule of reservations, crashes and retries spends more than its cap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaggle_kit.core.errors import KitError
from kaggle_kit.evaluation import api_ledger
from kaggle_kit.evaluation.api_ledger import Ledger, OverBudget, ledger_file

ROOT = Path(__file__).resolve().parents[2]


def ledger(folder: Path, run: str = "a", most: float = 1.0, everything: float = 1.5) -> Ledger:
    return Ledger(folder / "ledger.json", run, most, everything)


def test_a_reservation_counts_in_full_until_it_is_settled(tmp_path):
    own = ledger(tmp_path)
    token = own.reserve(0.6)
    assert own.spent() == (Decimal("0.6"), Decimal("0.6"))
    with pytest.raises(OverBudget, match=r"\$0\.6 of \$1\.0 are spent or reserved, .*may cost \$0\.5"):
        own.reserve(0.5)
    own.settle(token, 0.1)
    assert own.spent() == (Decimal("0.1"), Decimal("0.1"))
    own.reserve(0.9)


def test_one_that_was_never_settled_keeps_counting_for_whoever_comes_later(tmp_path):
    ledger(tmp_path).reserve(0.7)
    with pytest.raises(OverBudget):
        ledger(tmp_path).reserve(0.4)


def test_all_runs_together_have_a_cap_of_their_own(tmp_path):
    ledger(tmp_path, "a").settle(ledger(tmp_path, "a").reserve(1), 1)
    ledger(tmp_path, "b").reserve(0.5)
    with pytest.raises(OverBudget, match="all runs"):
        ledger(tmp_path, "c").reserve("0.000000001")


def test_a_token_is_settled_once_and_by_no_stranger(tmp_path):
    own = ledger(tmp_path)
    token = own.reserve(0.5)
    own.settle(token, 0)
    for one in (token, "none"):
        with pytest.raises(KitError, match="not open"):
            own.settle(one, 0)


def test_what_was_billed_beyond_the_reservation_counts_and_stops_what_follows(tmp_path):
    own = ledger(tmp_path)
    own.settle(own.reserve(0.1), 7)
    assert own.spent()[0] == 7
    with pytest.raises(OverBudget):
        own.reserve(0)


def test_nothing_is_lost_to_rounding(tmp_path):
    own = ledger(tmp_path)
    for _ in range(10):
        own.settle(own.reserve(0.1), 0.1)
    assert own.spent()[0] == 1
    with pytest.raises(OverBudget):
        own.reserve(Decimal("1e-12"))  # rounded up


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "much"])
def test_an_amount_that_is_none_is_refused(tmp_path, amount):
    with pytest.raises(KitError, match="no amount of dollars"):
        ledger(tmp_path).reserve(amount)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"runs": {}}', '{"runs": {"a": -5}, "open": {}}', '{"runs": {"a": 1.5}, "open": {}}'],
)
def test_a_damaged_ledger_is_never_taken_for_an_empty_one(tmp_path, text):
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(KitError, match="nobody knows what was spent"):
        ledger(tmp_path).reserve(0.1)
    assert (tmp_path / "ledger.json").read_text() == text


def test_the_file_is_named_by_a_variable_or_lies_in_the_user_s_state_and_in_no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(api_ledger.PLACE, str(tmp_path / "mine.json"))
    assert ledger_file() == tmp_path / "mine.json"
    monkeypatch.delenv(api_ledger.PLACE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    assert ledger_file() == tmp_path / "kaggle_kit" / "api_ledger.json"


class Spending(RuleBasedStateMachine):
    """Two runs reserve, are billed at most what they reserved, crash, retry, and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ["LEDGER_FOLDER"]) / str(time.monotonic_ns())
        self.open: list[tuple[str, str, Decimal]] = []
        self.billed = {"a": Decimal(0), "b": Decimal(0)}  # what the service has charged, crashes included

    @rule(run=st.sampled_from("ab"), cents=st.integers(0, 70))
    def reserve(self, run, cents):
        usd = Decimal(cents) / 100
        try:
            self.open.append((run, ledger(self.folder, run).reserve(usd), usd))
        except OverBudget:
            own, everything = ledger(self.folder, run).spent()
            assert own + usd > 1 or everything + usd > Decimal("1.5"), "nothing that fits is refused"

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 99), share=st.integers(0, 100), settled=st.booleans())
    def answer(self, place, share, settled):
        """The service charges a share of the reservation; a crash may keep it from being settled."""
        run, token, usd = self.open.pop(place % len(self.open))
        cost = usd * share / 100
        self.billed[run] += cost
        if settled:
            ledger(self.folder, run).settle(token, cost)

    @invariant()
    def nobody_overspends(self):
        assert all(billed <= 1 for billed in self.billed.values())
        assert sum(self.billed.values()) <= Decimal("1.5")
        for run, billed in self.billed.items():
            own, everything = ledger(self.folder, run).spent()
            assert billed <= own <= 1 and everything <= Decimal("1.5")


def test_no_schedule_of_reservations_crashes_and_retries_overspends(tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER_FOLDER", str(tmp_path))
    monkeypatch.setattr(api_ledger, "write_atomically", lambda path, text: path.write_text(text))  # no fsync
    Spending.TestCase.settings = settings(
        max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    Spending.TestCase("runTest").runTest()


WORKER = """
import random, sys, threading
from decimal import Decimal
from pathlib import Path
from kaggle_kit.evaluation.api_ledger import Ledger, OverBudget

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
charged = folder / f"charged-{seed}"

def spend(number):
    draw = random.Random(seed * 10 + number)
    own = Ledger(folder / "ledger.json", draw.choice("ab"), 1, Decimal("1.5"))
    for _ in range(12):
        usd = Decimal(draw.randint(1, 12)) / 100
        try:
            token = own.reserve(usd)
        except OverBudget:
            continue
        cost = usd * draw.choice([0, 1, 2]) / 2
        with charged.open("a") as file:
            file.write(f"{own.run} {cost}\\n")
        if draw.random() < 0.8:
            own.settle(token, cost)

threads = [threading.Thread(target=spend, args=(number,)) for number in range(3)]
print("begun", flush=True)
[one.start() for one in threads]
[one.join() for one in threads]
"""


def test_threads_of_several_processes_one_of_which_is_killed_do_not_overspend(tmp_path):
    start = [sys.executable, "-c", WORKER, str(tmp_path)]
    pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen([*start, str(seed)], **pipes) for seed in (1, 2, 3)]
    for worker in workers:
        assert worker.stdout.readline() == "begun\n"
    workers[0].send_signal(signal.SIGKILL)
    assert [worker.wait(60) for worker in workers] == [-signal.SIGKILL, 0, 0]
    lines = [line.split() for file in tmp_path.glob("charged-*") for line in file.read_text().splitlines()]
    by_run = {run: sum((Decimal(cost) for name, cost in lines if name == run), Decimal(0)) for run in "ab"}
    for run, charged in by_run.items():
        own, everything = ledger(tmp_path, run).spent()
        assert charged <= own <= 1 and sum(by_run.values()) <= everything <= Decimal("1.5")
    assert sum(by_run.values()) > Decimal("0.3"), "they did spend"
    for worker in workers:
        worker.stdout.close()


def test_two_threads_do_not_get_the_same_last_dollar(tmp_path):
    def reserve(_):
        try:
            return ledger(tmp_path).reserve(0.4)
        except OverBudget:
            return None

    with ThreadPoolExecutor(6) as pool:
        tokens = list(pool.map(reserve, range(6)))
    assert sum(token is not None for token in tokens) == 2
