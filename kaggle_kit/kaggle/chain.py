"""Run experiments to their end over as many Kaggle sessions as they need.

    links = [Link.begin(folder, built)]
    with live_table(links) as show: Chain(KaggleClient(), links).run(show)

Push, wait, bring the output back, check the run folder, push again with the kernel's own output
attached; stop where the manifest says complete. Every change is on disk before the next call, so a
chain that was stopped anywhere goes on where it stood, and never pushes the same session twice.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kaggle_kit.core.errors import ConfigError, KitError, RunFolderError
from kaggle_kit.core.kaggle_outputs import Progress, inspect
from kaggle_kit.core.records import alone, reading, write_json
from kaggle_kit.core.secrets import redact
from kaggle_kit.kaggle import client as kaggle
from kaggle_kit.kaggle.build import Built, mark_session, session_of
from kaggle_kit.kaggle.metadata import read_metadata

GPU_SESSIONS = 2  # "Maximum batch GPU session count of 2 reached."
CPU_SESSIONS = 5
LEAST_QUOTA_HOURS = 0.5  # less is not worth a session: the image alone takes minutes
MAX_STALLED = 3  # sessions in a row that brought a run no further
MAX_REFUSALS = 3  # equal answers before a refusal is believed: the client hides the HTTP code
COLUMNS = ("experiment", "phase", "session", "step", "tries", "note")


class ChainBusy(KitError):
    """Another process is already chaining this experiment."""


class Phase(StrEnum):
    """Where the chain of one experiment stands."""

    WAITING = "waiting"  # for a free session, to push
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Link:
    """Where the chain of one experiment stands. `session` is the one that waits or runs, counted from 1.

    `uncertain`: a push was begun whose answer never came. `attach`: a session has ended well, so its
    output can be mounted. `wake`: epoch seconds before which nothing is asked of the service.
    """

    folder: Path
    kernel: str
    ref: str
    run_dir: str
    config_hash: str
    phase: Phase = Phase.WAITING
    session: int = 1
    step: int = 0
    attach: bool = False
    uncertain: bool = False
    stalled: int = 0
    retries: int = 0
    refusals: int = 0
    wake: float = 0.0
    note: str = ""
    sessions: list[dict[str, str | int]] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path, built: Built) -> "Link":
        """The chain kept in `folder`, or a new one with a copy of `built` in it.

        Every session of a chain runs the same code: a chain that has begun keeps its own copy. One that
        had failed gets another try from where it stood. ConfigError where the folder belongs to another
        experiment; remove it to begin anew. RunFolderError where its chain.json is damaged.
        """
        path, kernel = folder / "chain.json", folder / "kernel"
        if not path.is_file():
            shutil.rmtree(kernel, ignore_errors=True)
            shutil.copytree(built.folder, kernel)
            link = cls(folder, str(kernel), built.ref, built.run_dir, built.config_hash)
            link.save()
            return link
        with reading(path):
            kept = json.loads(path.read_text(encoding="utf-8"))
            link = cls(folder, **kept | {"phase": Phase(kept["phase"])})
        if (link.ref, link.config_hash) != (built.ref, built.config_hash):
            raise ConfigError(f"{path} is the chain of {link.ref}; give {built.ref} a folder of its own")
        if link.phase is Phase.FAILED:
            link.phase, link.stalled, link.refusals, link.wake = Phase.WAITING, 0, 0, 0.0
        return link

    def save(self) -> None:
        """Write chain.json atomically."""
        kept = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_json(self.folder / "chain.json", kept)

    @property
    def output(self) -> Path:
        """The newest run folder that came back and was in order."""
        return self.folder / "output" / self.run_dir

    @property
    def on_gpu(self) -> bool:
        """Whether its sessions take a GPU, of which few run at once and whose hours are counted."""
        return read_metadata(Path(self.kernel)).get("enable_gpu") is not False

    @property
    def ended(self) -> bool:
        """Whether no further session will start."""
        return self.phase in (Phase.DONE, Phase.FAILED)

    def row(self) -> tuple[str, ...]:
        """The experiment as text, in the order of COLUMNS."""
        figures = (self.session, self.step, self.retries + self.refusals)
        return self.ref.rpartition("/")[2], self.phase.value, *map(str, figures), self.note


Show = Callable[[Sequence[Link]], None]


@dataclass
class Chain:
    """`poll` and `longest` are seconds between questions: while all is well, and at most after failures.

    `sessions` is how many may run on a GPU at once.
    """

    client: kaggle.KaggleClient
    links: Sequence[Link]
    poll: float = 60.0
    longest: float = 900.0
    sessions: int = GPU_SESSIONS
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _quota_until: float = field(default=0.0, init=False)

    def run(self, show: Show = lambda links: None) -> Sequence[Link]:
        """Until every chain is done or failed. `show` sees the table after each change.

        Raises ChainBusy where another process works on one of the chains, NoToken where a token is missing.
        """
        with ExitStack() as held:
            for link in self.links:
                busy = ChainBusy(f"{link.folder} is being chained by another process; stop that one first")
                held.enter_context(alone(link.folder / "lock", busy))
            show(self.links)
            while waiting := [link for link in self.links if not link.ended]:
                link = min(waiting, key=lambda one: one.wake)
                if (pause := link.wake - self.clock()) > 0:
                    self.sleep(pause)
                self.advance(link)
                show(self.links)
        return self.links

    def advance(self, link: Link) -> None:
        """One step of one chain: one push, or one question and what follows from its answer."""
        try:
            if link.phase is Phase.WAITING:
                self._push(link)
            else:
                self._ask(link)
            link.retries = link.refusals = 0
        except kaggle.NoToken:  # no fault of this chain's, and waiting does not help
            raise
        except kaggle.KaggleBusy as busy:
            link.retries += 1
            self._wait(link, str(busy), spent=isinstance(busy, kaggle.QuotaSpent))
        except kaggle.UnknownSource as wrong:  # pushed: another try would take that session for a good one
            link.phase, link.uncertain = Phase.FAILED, False
            link.note = f"{wrong}; a chain keeps its kernel folder: remove {link.folder} to begin anew"
        except kaggle.KaggleError as refused:
            link.refusals += 1
            self._wait(link, str(refused))
            if link.refusals >= MAX_REFUSALS:
                link.phase = Phase.FAILED
        link.save()

    def _push(self, link: Link) -> None:
        if link.uncertain and self._arrived(link):
            return self._started(link, "the push had arrived")
        gpu, most = link.on_gpu, self.sessions if link.on_gpu else CPU_SESSIONS
        if sum(one.phase is Phase.RUNNING and one.on_gpu is gpu for one in self.links) >= most:
            link.wake, link.note = self.clock() + self.poll, f"all {most} sessions are taken"
            return
        if gpu:
            self._check_quota()
        mark_session(Path(link.kernel), link.session, attach=link.attach)
        link.uncertain = True
        link.save()
        version = self.client.push(Path(link.kernel))
        self._started(link, f"pushed as version {version}")

    def _arrived(self, link: Link) -> bool:
        """Whether the newest notebook of the kernel is the session that was being pushed."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.client.pull(link.ref, Path(folder))
            except kaggle.KaggleBusy:
                raise
            except kaggle.KaggleError:  # no such kernel yet
                return False
            found = [session_of(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.ipynb")]
        return link.session in found

    def _started(self, link: Link, note: str) -> None:
        link.phase, link.uncertain, link.note = Phase.RUNNING, False, note
        link.wake = self.clock() + self.poll

    def _ask(self, link: Link) -> None:
        status = self.client.status(link.ref)
        if not status.state.ended:
            link.wake, link.note = self.clock() + self.poll, status.state.lower()
            return
        progress, problem = self._collect(link)
        self._conclude(link, status.state, progress, problem or status.message)

    def _collect(self, link: Link) -> tuple[Progress | None, str]:
        """Bring back what the session left; it replaces what is there only when it is in order."""
        link.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=link.folder) as name:
            fetched = Path(name)
            try:
                self.client.output(link.ref, fetched)
                progress = inspect(fetched / link.run_dir, link.config_hash)
            except kaggle.KaggleBusy:
                raise
            except (kaggle.KaggleError, RunFolderError) as error:
                begun = (fetched / link.run_dir).is_dir()  # then the folder itself is what is wrong
                return None, str(error) if begun else _last_words(fetched) or str(error)
            if progress.complete or progress.step >= link.step:
                shutil.rmtree(link.output, ignore_errors=True)
                link.output.parent.mkdir(parents=True, exist_ok=True)
                os.replace(fetched / link.run_dir, link.output)
            return progress, _last_words(fetched)

    def _conclude(self, link: Link, state: kaggle.State, progress: Progress | None, said: str) -> None:
        """What an ended session means for its chain."""
        step = progress.step if progress else 0
        link.sessions.append({"session": link.session, "state": state.value, "step": step})
        if progress and progress.complete:
            link.phase, link.step, link.note = Phase.DONE, step, f"complete after {link.session} session(s)"
            return
        link.stalled = 0 if step > link.step else link.stalled + 1
        link.step = max(link.step, step)
        link.attach = link.attach or (state is kaggle.State.COMPLETE and step > 0)
        link.phase, link.session, link.wake = Phase.WAITING, link.session + 1, self.clock()
        link.note = f"session ended {state.value.lower()} at step {step}"
        if link.stalled >= MAX_STALLED:
            link.phase, last = Phase.FAILED, f"{state.value} {said}".strip()
            link.note = f"no step further in {link.stalled} sessions; the last one: {last}"

    def _check_quota(self) -> None:
        """QuotaSpent while the week's hours are known not to suffice; asked at most once per renewal."""
        now = self.clock()
        if now < self._quota_until:
            raise kaggle.QuotaSpent(f"the week's GPU hours are used up until {_utc(self._quota_until)}")
        quota = self.client.quota()
        if quota is not None and quota.hours < LEAST_QUOTA_HOURS:
            renewed = quota.renewed.timestamp()
            self._quota_until = renewed if renewed > now else now + self.longest
            left, renewal = f"{quota.hours:.1f} GPU hours are left", _utc(self._quota_until)
            raise kaggle.QuotaSpent(f"{left}, renewed {renewal}")

    def _wait(self, link: Link, note: str, *, spent: bool = False) -> None:
        tries = link.retries + link.refusals
        pause = min(self.poll * 2 ** min(tries - 1, 10), self.longest)
        link.note = redact(note)
        link.wake = max(self.clock() + pause, self._quota_until if spent else 0.0)


@contextmanager
def live_table(links: Sequence[Link], console: Console | None = None) -> Iterator[Show]:
    """What `Chain.run` calls after every change: a table in a terminal, else one line per change."""
    console = console or Console()

    def table(links: Sequence[Link]) -> Table:
        shown = Table(*COLUMNS, box=None)
        for link in links:
            shown.add_row(*link.row())
        return shown

    if console.is_terminal:
        with Live(table(links), console=console, auto_refresh=False) as live:
            yield lambda changed: live.update(table(changed), refresh=True)
        return
    said: dict[str, tuple[str, ...]] = {}

    def show(changed: Sequence[Link]) -> None:
        for link in changed:
            if said.get(link.ref) != link.row():
                said[link.ref] = link.row()
                console.print("  ".join(link.row()), soft_wrap=True, markup=False, highlight=False)

    yield show


def _last_words(folder: Path) -> str:
    """The end of the session's log, for a chain that gives up; logs may repeat tokens, this does not."""
    for log in folder.glob("*.log"):
        return redact(log.read_text(encoding="utf-8", errors="replace").strip())[-300:]
    return ""


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
