"""A run's checkpoints: folders that are complete or not there, the last two and the best.

checkpoints = CheckpointManager(run.checkpoints, identity=identity(config=..., corpus=..., plan=...),
                                logs=(run.events_jsonl, run.tokens_jsonl))
with checkpoints:                          # one process at a time
    checkpoints.save(capture(trainer), best=True)
    newest = checkpoints.newest()          # .state, and .skipped: what was damaged, and how

A checkpoint is written beside its final place, every file is forced to the disk, a manifest with the
sha256 of each comes last, and one rename makes it count. Tensors are safetensors, all else is JSON;
nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kaggle_kit.core.errors import KitError, RunFolderError
from kaggle_kit.core.records import sha256_of, sync, writing
from kaggle_kit.core.runtime import library_versions, logger
from kaggle_kit.training.state import Documents, Tensors, TrainingState

MANIFEST = "manifest.json"
TEMPORARY, DISCARDED, DAMAGED = ".tmp-", ".old-", "damaged-"
RESERVE_BYTES = 64 * 1024**2  # left free for logs and predictions
KEPT = 2  # newest checkpoints, beside the best one


class CheckpointError(KitError):
    """A checkpoint that could not be written. The older ones are as they were; training may go on."""


class DamagedCheckpoint(KitError):
    """A checkpoint that must not be loaded: the message names the file and what is wrong with it."""


class Newest(NamedTuple):
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
        logs: Iterable[Path] = (),
        facts: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.logs = tuple(logs)
        self.facts = dict(facts or {})
        self.allow = tuple(allow)
        self._held = ExitStack()

    def __enter__(self) -> CheckpointManager:
        """Take the folder for this process, and delete what a death in the middle of a save left there.

        Raises RunFolderError where another process holds it.
        """
        self._held.enter_context(_locked(self.folder))
        for prefix in (TEMPORARY, DISCARDED):
            for leftover in self.folder.glob(f"{prefix}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def save(self, state: TrainingState, *, best: bool = False) -> Path:
        """Write a checkpoint, then delete those it makes superfluous.

        CheckpointError where it cannot be written, a full disk included; the older ones are kept then.
        """
        facts = {"step": state.step, "best": best, "identity": self.identity, "facts": self.facts}
        name, number = f"step-{state.step:06d}", 1
        while (self.folder / name).exists():  # that step was written before
            number += 1
            name = f"step-{state.step:06d}-{number}"
        try:
            for log in filter(Path.is_file, self.logs):  # they must never be behind a checkpoint
                sync(log)
            path = write_checkpoint(self.folder, name, state.documents, state.tensors, facts)
            kept = {*list_checkpoints(self.folder)[:KEPT], self.best()}
            for old in {*list_checkpoints(self.folder), *self.folder.glob(f"{DAMAGED}*")} - kept:
                _discard(old)
        except (OSError, SafetensorError) as error:
            place = self.folder / name
            raise CheckpointError(
                f"saving {place} failed: {error}. The older checkpoints are whole"
            ) from error
        return path

    def newest(self) -> Newest:
        """Verify from the newest checkpoint back to the first whole one.

        Damaged folders are set aside as `damaged-…`; the next save deletes them. RunFolderError where
        the identity differs.
        """
        skipped: list[str] = []
        for path in list_checkpoints(self.folder):
            try:
                manifest, documents, tensors = read_checkpoint(path)
                with _damage(path.name):  # one that was sealed without a state, or without saying whose
                    versions = dict(documents["state"]["versions"])
                    stored = {name: str(value) for name, value in manifest["identity"].items()}
            except DamagedCheckpoint as error:
                skipped.append(str(error))
                logger.warning("checkpoint skipped: %s", error)
                aside = path.with_name(f"{DAMAGED}{path.name}")
                if aside.exists():
                    _discard(aside)
                os.rename(path, aside)
                continue
            self._check(stored, versions)
            return Newest(path, TrainingState(documents, tensors), tuple(skipped))
        return Newest(None, None, tuple(skipped))

    def best(self) -> Path | None:
        """Return the checkpoint of the best dev score, unverified."""
        return next((path for path, manifest in _manifests(self.folder) if manifest.get("best")), None)

    def rewind_logs(self, step: int) -> None:
        """Cut the logs after `step`, with any line torn by a crash: what comes then is done again."""
        for log in filter(Path.is_file, self.logs):
            kept = 0
            with suppress(ValueError):  # no JSON
                for line in log.read_bytes().splitlines(keepends=True):
                    if not line.endswith(b"\n") or json.loads(line).get("step", 0) > step:
                        break
                    kept += len(line)
            os.truncate(log, kept)

    def _check(self, stored: Mapping[str, str], versions: Mapping[str, str]) -> None:
        now = self.identity
        changed = {
            name: f"{name}: {stored.get(name, 'absent')} in the checkpoint, {now.get(name, 'absent')} now"
            for name in sorted({name for name, _ in stored.items() ^ now.items()})
        }
        refused = [name for name in changed if not any(fnmatch(name, pattern) for pattern in self.allow)]
        if refused:
            differences = "\n  ".join(changed[name] for name in refused)
            raise RunFolderError(
                f"{self.folder} belongs to another run:\n  {differences}\n"
                f"Start a new run, undo the change, or allow it by name: allow={tuple(refused)}"
            )
        for difference in changed.values():
            logger.warning("resuming although %s", difference)
        for name, version in library_versions().items():
            if versions.get(name) not in (version, None):
                logger.warning("%s was %s and is %s: losses may differ", name, versions[name], version)


def stored_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of the newest checkpoint with an intact manifest; empty where there is none."""
    return next((manifest["facts"] for _, manifest in _manifests(folder)), {})


def identity(**parts: Any) -> dict[str, str]:
    """Return values by dotted names: `identity(config={"seed": 1}, plan=sha)` → `config.seed`, `plan`."""
    names: dict[str, str] = {}
    for key, part in parts.items():
        if isinstance(part, Mapping):
            below = identity(**{str(name): value for name, value in part.items()})
            names |= {f"{key}.{name}": value for name, value in below.items()}
        else:
            names[key] = str(part)
    return names


def write_checkpoint(
    parent: Path,
    name: str,
    documents: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    facts: Mapping[str, Any],
) -> Path:
    """Write `<key>.json` and `<key>.safetensors` for every entry; an error leaves nothing behind."""
    final, temporary = parent / name, parent / f"{TEMPORARY}{name}"
    texts = {f"{key}.json": json.dumps(document) for key, document in documents.items()}
    needed, free = sum(map(len, texts.values())) + tensor_bytes(tensors), shutil.disk_usage(parent).free
    if free < needed + RESERVE_BYTES:
        reason = f"it needs {needed:,} bytes and {RESERVE_BYTES:,} in reserve; {free:,} are free"
        raise OSError(errno.ENOSPC, reason)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for key, held in tensors.items():
            save_file(dict(held), temporary / f"{key}.safetensors")
        for file, text in texts.items():
            (temporary / file).write_text(text, encoding="utf-8")
        files = sorted(temporary.iterdir())
        with ThreadPoolExecutor() as pool:  # hashing and writing leave Python's lock
            sealed = list(pool.map(_seal, files))
        manifest = {**facts, "files": {file.name: seal for file, seal in zip(files, sealed, strict=True)}}
        manifest["sha256"] = _digest_of(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        sync(temporary / MANIFEST)
        sync(temporary)
        os.rename(temporary, final)
        sync(parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` sealed, the files unread; DamagedCheckpoint if it is not intact."""
    file = path / MANIFEST
    if path.is_symlink() or file.is_symlink():
        raise DamagedCheckpoint(f"{path.name}: a link is no checkpoint; it may lead anywhere")
    with _damage(f"{path.name}/{MANIFEST}"):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        sealed = manifest.pop("sha256")
        manifest["files"].items()
        if sealed != _digest_of(manifest):
            raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: its own sha256 differs")
    return manifest


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Documents, Tensors]:
    """Return (manifest, documents, tensors) after comparing every byte with the manifest."""
    manifest = read_manifest(path)
    documents: Documents = {}
    tensors: Tensors = {}
    for name, sealed in manifest["files"].items():
        file, place = path / name, f"{path.name}/{name}"
        with _damage(place):
            if Path(name).name != name or file.is_symlink() or (file.exists() and not file.is_file()):
                raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: {name!r} is no file of this folder's own")
            if (size := file.stat().st_size) != sealed["bytes"]:
                raise DamagedCheckpoint(f"{place}: {size} bytes instead of {sealed['bytes']}")
            if sha256_of(file) != sealed["sha256"]:
                raise DamagedCheckpoint(f"{place}: its sha256 differs")
            if file.suffix == ".json":
                documents[file.stem] = json.loads(file.read_text(encoding="utf-8"))
            else:
                tensors[file.stem] = load_file(file)
    return manifest, documents, tensors


def list_checkpoints(parent: Path) -> list[Path]:
    """Return the checkpoints' folders, newest first: by step, then by how often that step was written."""
    found = [path for path in parent.glob("step-*") if re.fullmatch(r"step-\d+(-\d+)?", path.name)]
    return sorted(found, key=lambda path: [int(n) for n in path.name.split("-")[1:]], reverse=True)


def tensor_bytes(tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Return the bytes that the tensors take on the disk, but for their headers."""
    return sum(tensor.nbytes for held in tensors.values() for tensor in held.values())


@contextmanager
def _damage(place: str) -> Iterator[None]:
    """Turn any error of reading a missing or malformed file into a DamagedCheckpoint that names it."""
    try:
        yield
    except OSError as error:
        raise DamagedCheckpoint(f"{place}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{place}: {type(error).__name__}: {error}") from error


def _manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Checkpoints with an intact manifest, newest first."""
    for path in list_checkpoints(folder):
        with suppress(DamagedCheckpoint):
            yield path, read_manifest(path)


def _discard(path: Path) -> None:
    """Delete a folder. It loses its name first, so that a death in between leaves no half checkpoint."""
    doomed = path.with_name(f"{DISCARDED}{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; RunFolderError where another one holds it.

    The system itself releases the lock of a process that dies, and a forked child does not inherit
    it, so a lock is never stale.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # EAGAIN or EACCES, as the system likes
            file.seek(0)
            raise RunFolderError(
                f"{folder} is in use by process {file.read() or 'unknown'}; "
                "wait for it or stop it, or train into another run folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _seal(file: Path) -> dict[str, Any]:
    sync(file)
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
