"""Run experiments to their end over as many Kaggle sessions as they need.

    chain = Chain(KaggleClient(), [Link.begin(folder, built)])
    chain.run(show=print_table)

Push, wait, bring the output back, check the run folder, push again with the kernel's own output
attached; stop where the manifest says complete. Every change is on disk before the next call, so a
chain that was stopped anywhere goes on where it stood, and never pushes the same session twice.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.kaggle_outputs import Progress, inspect
from kaggle_kit.core.secrets import redact
from kaggle_kit.kaggle.build import mark_session, session_of
from kaggle_kit.kaggle.client import (
    KaggleBusy,
    KaggleClient,
    KaggleError,
    NoToken,
    QuotaSpent,
    State,
    UnknownSource,
)
from kaggle_kit.kaggle.link import Link, Phase, lock

Show = Callable[[Sequence[Link]], None]
GPU_SESSIONS = 2  # "Maximum batch GPU session count of 2 reached."
CPU_SESSIONS = 5
LEAST_QUOTA_HOURS = 0.5  # less is not worth a session: the image alone takes minutes
MAX_STALLED = 3  # sessions in a row that brought a run no further
MAX_REFUSALS = 3  # equal answers before a refusal is believed: the client hides the HTTP code


@dataclass
class Chain:
    """`poll` and `longest` are seconds between questions: while all is well, and at most after failures.

    `sessions` is how many may run on a GPU at once.
    """

    client: KaggleClient
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
                held.enter_context(lock(link.folder))
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
        except KaggleBusy as busy:
            link.retries += 1
            self._wait(link, str(busy), spent=isinstance(busy, QuotaSpent))
        except UnknownSource as wrong:  # it was pushed: another try would take that session for a good one
            link.phase, link.uncertain = Phase.FAILED, False
            link.note = f"{wrong}; a chain keeps its kernel folder: remove {link.folder} to begin anew"
        except NoToken:  # no fault of this chain's, and waiting does not help
            raise
        except KaggleError as refused:
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
        mark_session(link.built, link.session, attach=link.attach)
        link.uncertain = True
        link.save()
        version = self.client.push(link.built.folder)
        self._started(link, f"pushed as version {version}")

    def _arrived(self, link: Link) -> bool:
        """Whether the newest notebook of the kernel is the session that was being pushed."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.client.pull(link.ref, Path(folder))
            except KaggleBusy:
                raise
            except KaggleError:  # no such kernel yet
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
        with tempfile.TemporaryDirectory(dir=link.folder) as fetched:
            try:
                self.client.output(link.ref, Path(fetched))
                progress = inspect(Path(fetched) / link.run_dir, link.config_hash)
            except KaggleBusy:
                raise
            except (KaggleError, RunFolderError) as error:
                begun = (Path(fetched) / link.run_dir).is_dir()  # then the folder itself is what is wrong
                return None, str(error) if begun else _last_words(Path(fetched)) or str(error)
            if progress.complete or progress.step >= link.step:
                shutil.rmtree(link.output, ignore_errors=True)
                link.output.parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(fetched) / link.run_dir, link.output)
            return progress, _last_words(Path(fetched))

    def _conclude(self, link: Link, state: State, progress: Progress | None, said: str) -> None:
        """What an ended session means for its chain."""
        step = progress.step if progress else 0
        link.sessions.append({"session": link.session, "state": state.value, "step": step})
        if progress and progress.complete:
            link.phase, link.step, link.note = Phase.DONE, step, f"complete after {link.session} session(s)"
            return
        link.stalled = 0 if step > link.step else link.stalled + 1
        link.step = max(link.step, step)
        link.attach = link.attach or (state is State.COMPLETE and step > 0)
        link.phase, link.session, link.wake = Phase.WAITING, link.session + 1, self.clock()
        link.note = f"session ended {state.value.lower()} at step {step}"
        if link.stalled >= MAX_STALLED:
            link.phase = Phase.FAILED
            link.note = (
                f"no step further in {link.stalled} sessions; the last one: {state.value} {said}".strip()
            )

    def _check_quota(self) -> None:
        """QuotaSpent while the week's hours are known not to suffice; asked at most once per renewal."""
        now = self.clock()
        if now < self._quota_until:
            raise QuotaSpent(f"the week's GPU hours are used up until {_utc(self._quota_until)}")
        quota = self.client.quota()
        if quota is not None and quota.hours < LEAST_QUOTA_HOURS:
            seconds = quota.seconds_until_renewed(datetime.fromtimestamp(now, UTC))
            self._quota_until = now + (seconds if seconds and seconds > 0 else self.longest)
            raise QuotaSpent(f"{quota.hours:.1f} GPU hours are left, renewed {_utc(self._quota_until)}")

    def _wait(self, link: Link, note: str, *, spent: bool = False) -> None:
        tries = link.retries + link.refusals
        pause = min(self.poll * 2 ** min(tries - 1, 10), self.longest)
        link.note = redact(note)
        link.wake = max(self.clock() + pause, self._quota_until if spent else 0.0)


def _last_words(folder: Path) -> str:
    """The end of the session's log, for a chain that gives up; logs may repeat tokens, this does not."""
    for log in folder.glob("*.log"):
        return redact(log.read_text(encoding="utf-8", errors="replace").strip())[-300:]
    return ""


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
