"""The kaggle client as a subprocess, with its sharp edges turned into results and errors.

    client = KaggleClient()
    client.push(folder); client.status("jane/s1-minilm").state; client.output("jane/s1-minilm", Path("out"))

The client ends with code 0 where the service refused a push politely ("Maximum batch GPU session
count of 2 reached."), so its text is read. `KaggleBusy` means: the same call may work later.
"""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.secrets import redact
from kaggle_kit.kaggle.metadata import NO_OWNER, checked, read_metadata, refuse_public

PUSHED = re.compile(r"Kernel version (\d+) successfully pushed")
PUSH_ERROR = re.compile(r"Kernel push error: (.*)")
INVALID = re.compile(r"The following are not valid (\w+ sources?).*?: (\[.*\])")
STATUS = re.compile(r'has status "(?:KernelWorkerStatus\.)?(\w+)"')
FAILURE = re.compile(r'Failure message: "(.*)"', re.DOTALL)
# The client's own words without a token, and the service's for one that it does not take.
NO_TOKEN = re.compile(r"authentication required|find kaggle\.json|401 client error|unauthorized", re.I)
SESSIONS_FULL = re.compile(r"session count|concurrent|already running", re.I)
QUOTA_SPENT = re.compile(r"quota", re.I)
PASSES = re.compile(
    r"\b(429|5\d\d)\b|connection|timed? ?out|temporar|try again|too many|rate limit|remote end"
    r"|incomplete ?read|does not match expected size|internal error|unavailable",
    re.I,
)
# Since 2.2.5 the client ends the message of an HTTP error with advice of its own, behind an empty line.
ADVICE = re.compile(
    r"\n\s*\n(?:You don't have access|The resource was not found|You have been rate limited"
    r"|This is a problem on Kaggle's side).*",
    re.DOTALL,
)
CALL_SECONDS = 1800  # a large output takes minutes; nothing takes longer than this


class KaggleError(KitError):
    """The service or its client refused, and would refuse again."""


class NoToken(KaggleError):
    """The client has no token of the user's, or one that the service does not take."""

    def __init__(self) -> None:
        created = "create one on https://www.kaggle.com/settings/api (Generate New Token)"
        kept = "save it in ~/.kaggle/access_token, or set KAGGLE_API_TOKEN to it"
        none = "no Kaggle token was found, or it is not valid any more"
        super().__init__(f"{none}; {created} and {kept}; `kaggle auth login` does without")


class UnknownSource(KaggleError):
    """A kernel was pushed and runs, without a source that it names: pushing again would change nothing."""


class KaggleBusy(KaggleError):
    """Not now: no free session, quota spent, or the connection failed."""


class QuotaSpent(KaggleBusy):
    """The week's GPU hours are used up."""


class State(StrEnum):
    """Where a kernel's newest session stands; names of the service."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    NEW_SCRIPT = "NEW_SCRIPT"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCEL_ACKNOWLEDGED = "CANCEL_ACKNOWLEDGED"

    @property
    def ended(self) -> bool:
        """Whether the session is over."""
        return self in (State.COMPLETE, State.ERROR, State.CANCEL_ACKNOWLEDGED)


class Status(NamedTuple):
    """The state of a kernel's newest session, and what the service says of it."""

    state: State
    message: str = ""


class Quota(NamedTuple):
    """GPU hours left this week, and when they are renewed."""

    hours: float
    renewed: datetime


class KaggleClient:
    """Calls `kaggle` with `environ`. Every method raises KaggleBusy or KaggleError."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = dict(environ)

    def require_token(self) -> None:
        """NoToken where the client finds none; whether the service can be reached is not asked."""
        with suppress(KaggleBusy):
            self._call("config", "view")

    def push(self, folder: Path) -> int:
        """Push a kernel folder and return the version number, 0 where the service named none.

        Raises PublicKernel for a kernel that is not private; UnknownSource where the kernel started without
        one of its sources.
        """
        described = read_metadata(folder)
        refuse_public(described, folder)
        if NO_OWNER in described["id"]:
            raise KaggleError(f"{folder}: the kernel has no owner; run `kernels init --owner NAME`")
        checked("kernel", described["id"])
        text = self._call("kernels", "push", "-p", str(folder))
        if refused := PUSH_ERROR.search(text):
            raise _failure(refused[1])
        if wrong := INVALID.findall(text):
            said = "; ".join(f"{kind}: {names}" for kind, names in wrong)
            then = "stop the session on kaggle.com, create or correct what is named, and push again"
            raise UnknownSource(f"{folder}: pushed, but the service knows no {said}; {then}")
        version = PUSHED.search(text)
        return int(version[1]) if version else 0

    def status(self, ref: str) -> Status:
        """Return the state of a kernel's newest session. KaggleError for a state that is not known."""
        text = self._call("kernels", "status", checked("kernel", ref))
        state = STATUS.search(text)
        if state is None or state[1].upper() not in State.__members__:
            allowed = f"{', '.join(State.__members__)}; see `kaggle kernels status {ref}`"
            raise KaggleError(f"{ref}: the client said {_last(text)!r}, no known status; allowed: {allowed}")
        message = FAILURE.search(text)
        return Status(State[state[1].upper()], message[1].strip() if message else "")

    def output(self, ref: str, folder: Path) -> Path:
        """Download everything that the newest session left, and its log as `<slug>.log`."""
        where = ("-p", str(folder), "-o", "-q", "--page-size", "200")
        self._call("kernels", "output", checked("kernel", ref), *where)
        return folder

    def pull(self, ref: str, folder: Path) -> Path:
        """Download the newest pushed notebook and its metadata."""
        folder.mkdir(parents=True, exist_ok=True)
        self._call("kernels", "pull", checked("kernel", ref), "-p", str(folder), "-m")
        return folder

    def quota(self) -> Quota | None:
        """The week's GPU hours; None where this client or account does not tell."""
        try:
            rows = csv.DictReader(self._call("quota", "-v").splitlines())
            gpu = next(row for row in rows if row.get("resource") == "GPU")
            renewed = datetime.fromisoformat(gpu["refreshAt"])  # without an offset before client 2.2.5
            renewed = renewed.replace(tzinfo=renewed.tzinfo or UTC)
            return Quota(float(gpu["remaining"].rstrip("h")), renewed)
        except (KaggleError, StopIteration, LookupError, ValueError):
            return None

    def _call(self, *arguments: str) -> str:
        call = partial(subprocess.run, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        own = Path(sys.executable).with_name("kaggle")  # of this environment, else the one on the PATH
        command = [str(own) if own.is_file() else "kaggle", *arguments]
        try:
            done = call(command, env=self.environ, timeout=CALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise KaggleBusy(f"kaggle {arguments[0]}: no answer for {CALL_SECONDS} s") from error
        except FileNotFoundError as error:
            then = "`pip install -e '.[kaggle]'` in a checkout installs it"
            raise KaggleError(f"there is no kaggle client; {then}") from error
        text = redact(done.stdout + done.stderr, self.environ)
        if done.returncode:
            raise _failure(text)
        return text


def _failure(text: str) -> KaggleError:
    said = _last(text)
    if NO_TOKEN.search(text):
        return NoToken()
    if QUOTA_SPENT.search(said):
        return QuotaSpent(said)
    if SESSIONS_FULL.search(said) or PASSES.search(text):
        return KaggleBusy(said)
    return KaggleError(said)


def _last(text: str) -> str:
    lines = [line.strip() for line in ADVICE.sub("", text).splitlines() if line.strip()]
    return lines[-1] if lines else "the kaggle client said nothing"
