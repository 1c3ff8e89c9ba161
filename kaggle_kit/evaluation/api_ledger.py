"""What may be spent on APIs: reserve before a request, settle after it, in one file for all runs of a user.

    ledger = Ledger(ledger_file(), run="zero_shot-…", most_usd=5.0, most_usd_in_all=80.0)
    token = ledger.reserve(usd)        # OverBudget where the run's or everybody's sum would pass its cap
    ledger.settle(token, billed_usd)

A request is reserved at the most that it can cost. One that was never settled, after a crash, keeps counting
in full. Threads and processes exclude each other by a lock on the file, which is replaced at once. Sums are
whole billionths of a dollar, so nothing is lost to rounding.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import uuid4

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.records import write_atomically, writing

PLACE = "KAGGLE_KIT_LEDGER"
NANO = 10**9  # of a dollar
Usd = Decimal | float | int


class OverBudget(KitError):
    """A request that might cost more than is left; nothing was sent."""


def ledger_file() -> Path:
    """Return the file of all runs: `KAGGLE_KIT_LEDGER`, else in the user's own state folder.

    It is no cache: whoever deletes it forgets what was spent.
    """
    if named := os.environ.get(PLACE):
        return Path(named).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kaggle_kit" / "api_ledger.json"


@dataclass(frozen=True)
class Ledger:
    """The sums of one run and of all. `most_usd` caps the run, `most_usd_in_all` everything in the file."""

    path: Path
    run: str
    most_usd: Usd
    most_usd_in_all: Usd

    def reserve(self, usd: Usd) -> str:
        """Return a token for a request that costs at most `usd`. Raises OverBudget."""
        wanted = _nano(usd)
        with self._locked() as state:
            for what, spent, cap in self._sums(state):
                if spent + wanted > _nano(cap):
                    raise OverBudget(
                        f"{what}: ${_usd(spent):f} of ${cap} are spent or reserved, and the next request may "
                        f"cost ${_usd(wanted):f}. Answers are kept, and the same command goes on from them: "
                        f"raise experiment.most_usd (or most_usd_in_all). Ledger: {self.path}"
                    )
            token = uuid4().hex
            state["open"][token] = [self.run, wanted]
        return token

    def settle(self, token: str, usd: Usd) -> None:
        """Count `usd` in place of the reservation, more if more was billed. KitError for an unknown token."""
        with self._locked() as state:
            if token not in state["open"]:
                raise KitError(
                    f"{self.path}: reservation {token} is not open; it was settled, or edited away"
                )
            run, _ = state["open"].pop(token)
            state["runs"][run] = state["runs"].get(run, 0) + _nano(usd)

    def spent(self) -> tuple[Decimal, Decimal]:
        """Return dollars spent or reserved by this run, and by all."""
        with self._locked() as state:
            own, everything = (spent for _, spent, _ in self._sums(state))
        return _usd(own), _usd(everything)

    def _sums(self, state: dict[str, Any]) -> list[tuple[str, int, Usd]]:
        reserved = list(state["open"].values())
        own = state["runs"].get(self.run, 0) + sum(amount for run, amount in reserved if run == self.run)
        everything = sum(state["runs"].values()) + sum(amount for _, amount in reserved)
        return [(f"run {self.run}", own, self.most_usd), ("all runs", everything, self.most_usd_in_all)]

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """The state, written back unless the block raises or leaves it as it was."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Each opening has a lock of its own, so that threads exclude each other, too.
            with self.path.with_name(f".{self.path.name}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                state = self._read()
                before = json.dumps(state)
                yield state
                if (after := json.dumps(state)) != before:
                    write_atomically(self.path, after + "\n")

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {"runs": {}, "open": {}}
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
            amounts = [*state["runs"].values(), *(amount for _, amount in state["open"].values())]
            if all(type(amount) is int and amount >= 0 for amount in amounts):
                return state
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise KitError(
            f"{self.path} is no ledger any more, so nobody knows what was spent; look at the service's own "
            "bill, then move the file away, which begins at 0"
        )


def _nano(usd: Usd) -> int:
    try:
        amount = (Decimal(str(usd)) * NANO).to_integral_value(ROUND_CEILING)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise KitError(f"{usd!r} is no amount of dollars; allowed: a finite number of at least 0")
    return int(amount)


def _usd(nano: int) -> Decimal:
    return Decimal(nano) / NANO
