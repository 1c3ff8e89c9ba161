"""Where one experiment's chain of sessions stands, kept on disk so that it survives its own restart.

link = Link.begin(folder, built); link.note = "waiting"; link.save()
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.integrity import reading
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.kaggle.build import Built
from kaggle_kit.kaggle.metadata import read_metadata


class ChainBusy(KitError):
    """Another process is already chaining this experiment."""


class Phase(StrEnum):
    WAITING = "waiting"  # for a free session, to push
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Link:
    """The chain of one experiment. `session` is the one that waits or runs, counted from 1.

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
    def begin(cls, folder: Path, built: Built) -> Link:
        """The chain kept in `folder`, or a new one with a copy of `built` in it.

        Every session of a chain runs the same code: a chain that has begun keeps its own copy. One that
        had failed gets another try from where it stood. ConfigError where the folder belongs to another
        experiment; remove it to begin anew. RunFolderError where its chain.json is damaged.
        """
        path = folder / "chain.json"
        if not path.is_file():
            kernel = folder / "kernel"
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
        kept = asdict(self)
        del kept["folder"]
        write_atomically(self.folder / "chain.json", to_json(kept, indent=2) + "\n")

    @property
    def built(self) -> Built:
        return Built(Path(self.kernel), self.ref, self.run_dir, self.config_hash, 0)

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
        return self.phase in (Phase.DONE, Phase.FAILED)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a chain's folder for this process; ChainBusy where another one holds it. Dies with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ChainBusy(f"{folder} is being chained by another process; stop that one first") from error
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
