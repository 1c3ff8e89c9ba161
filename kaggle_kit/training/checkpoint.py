"""A run's checkpoints: the last two and the best, resumed from the newest one that is whole.

checkpoints = CheckpointManager(run.checkpoints, identity=identity(config=..., corpus=..., plan=...),
                                logs=(run.events_jsonl, run.tokens_jsonl))
with checkpoints:                          # one process at a time
    checkpoints.save(capture(trainer), best=True)
    newest = checkpoints.newest()          # .state, and .skipped: what was damaged, and how
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.runtime import library_versions, logger
from kaggle_kit.training.checkpoint_files import (
    DAMAGED,
    CheckpointError,
    DamagedCheckpoint,
    discard,
    free_name,
    list_checkpoints,
    locked,
    read_checkpoint,
    read_manifest,
    rewind_log,
    set_aside,
    sweep,
    sync_files,
    write_checkpoint,
)
from kaggle_kit.training.state import TrainingState


@dataclass(frozen=True)
class Newest:
    """The newest whole checkpoint. `skipped` says of each newer one what is wrong with it."""

    path: Path | None
    state: TrainingState | None
    skipped: tuple[str, ...]


class CheckpointManager:
    """Saves and finds the checkpoints of one training run (each phase of a run has a folder of its own).

    `identity` is what must not change between sessions, by name: see `identity()`. A difference
    refuses to resume unless its name matches one of `allow` (`config.training.*`). `facts` are kept
    in every manifest and can be read before there is a model (the auto-batch result, say). `logs` have one
    line per step; a save forces them to the disk, and `rewind_logs` cuts off what will be done again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, str],
        keep: int = 2,
        logs: Iterable[Path] = (),
        facts: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.keep = keep
        self.logs = tuple(logs)
        self.facts = dict(facts or {})
        self.allow = tuple(allow)
        self._held = ExitStack()

    def __enter__(self) -> CheckpointManager:
        """Take the folder for this process; RunFolderError where another one has it."""
        self._held.enter_context(locked(self.folder))
        sweep(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def save(self, state: TrainingState, *, best: bool = False) -> Path:
        """Write a checkpoint, then delete those it makes superfluous.

        CheckpointError where it cannot be written, a full disk included; the older ones are kept then.
        """
        facts = {"step": state.step, "best": best, "identity": self.identity, "facts": self.facts}
        name = free_name(self.folder, state.step)
        try:
            sync_files(self.logs)
            path = write_checkpoint(self.folder, name, state.documents, state.tensors, facts)
            self._rotate()
        except OSError as error:
            raise CheckpointError(f"saving {name} in {self.folder} failed: {error}") from error
        return path

    def newest(self) -> Newest:
        """Verify from the newest checkpoint back to the first whole one.

        Damaged folders are set aside as `damaged-…`; the next save deletes them. RunFolderError where
        the identity differs.
        """
        skipped: list[str] = []
        for path in list_checkpoints(self.folder):
            try:
                state, stored = _whole(path)
            except DamagedCheckpoint as error:
                skipped.append(str(error))
                logger.warning("checkpoint skipped: %s", error)
                set_aside(path)
                continue
            self._check(stored, state.documents["state"]["versions"])
            return Newest(path, state, tuple(skipped))
        return Newest(None, None, tuple(skipped))

    def best(self) -> Path | None:
        """The checkpoint of the best dev score, unverified."""
        return next((path for path in list_checkpoints(self.folder) if _told(path).get("best")), None)

    def rewind_logs(self, step: int) -> None:
        """Cut the logs after `step`: what comes then is done again."""
        for log in self.logs:
            rewind_log(log, step)

    def _rotate(self) -> None:
        kept = {*list_checkpoints(self.folder)[: self.keep], self.best()}
        for path in [*list_checkpoints(self.folder), *self.folder.glob(f"{DAMAGED}*")]:
            if path not in kept:
                discard(path)

    def _check(self, stored: Mapping[str, str], versions: Mapping[str, str]) -> None:
        pairs = {name: (stored.get(name), self.identity.get(name)) for name in {**stored, **self.identity}}
        changed = {
            name: f"{name}: {before or 'absent'} in the checkpoint, {now or 'absent'} now"
            for name, (before, now) in sorted(pairs.items())
            if before != now
        }
        refused = [name for name in changed if not any(fnmatch(name, pattern) for pattern in self.allow)]
        if refused:
            raise RunFolderError(
                f"{self.folder} belongs to another run:\n  "
                + "\n  ".join(changed[name] for name in refused)
                + "\nStart a new run, undo the change, or allow it by name: "
                + f"allow=({', '.join(map(repr, refused))},)"
            )
        for name in changed:
            logger.warning("resuming although %s", changed[name])
        for name, version in library_versions().items():
            if versions.get(name) not in (version, None):
                logger.warning("%s was %s and is %s: losses may differ", name, versions[name], version)


def stored_facts(folder: Path) -> dict[str, Any]:
    """The facts of the newest checkpoint with an intact manifest; empty where there is none."""
    return next((told["facts"] for path in list_checkpoints(folder) if (told := _told(path))), {})


def identity(**parts: Any) -> dict[str, str]:
    """Nested values by dotted names: `identity(config={"seed": 1}, plan=sha)` → `config.seed`, `plan`."""
    return {name: str(value) for key, part in parts.items() for name, value in _leaves(key, part)}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, below in value.items():
        yield from _leaves(f"{name}.{key}", below)


def _whole(path: Path) -> tuple[TrainingState, dict[str, str]]:
    """The state and whose it is. DamagedCheckpoint, also for one that was sealed without either."""
    manifest, documents, tensors = read_checkpoint(path)
    try:
        documents["state"]["versions"].items()
        return TrainingState(documents, tensors), dict(manifest["identity"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(f"{path.name}: {type(error).__name__}: {error}") from error


def _told(path: Path) -> dict[str, Any]:
    try:
        return read_manifest(path)
    except DamagedCheckpoint:
        return {}
