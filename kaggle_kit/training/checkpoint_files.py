"""Folders that are complete or not there: the file layer of checkpoints.

    write_checkpoint(folder, "step-000200", {"state": {...}}, {"parameters": tensors}, facts={"step": 200})
    manifest, documents, tensors = read_checkpoint(folder / "step-000200")

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kaggle_kit.core.disk import sha256_of, sync, writing
from kaggle_kit.core.errors import KitError, RunFolderError

MANIFEST = "manifest.json"
TEMPORARY, DISCARDED, DAMAGED = ".tmp-", ".old-", "damaged-"
RESERVE_BYTES = 64 * 1024**2  # left free for logs and predictions
NAME = re.compile(r"step-(\d+)(?:-(\d+))?")

Documents = dict[str, Any]
Tensors = dict[str, dict[str, Tensor]]


class CheckpointError(KitError):
    """A checkpoint that could not be written. The older ones are as they were; training may go on."""


class DamagedCheckpoint(KitError):
    """A checkpoint that must not be loaded: the message names the file and what is wrong with it."""


def write_checkpoint(
    parent: Path,
    name: str,
    documents: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    facts: Mapping[str, Any],
) -> Path:
    """Write `<key>.json` and `<key>.safetensors` for every entry; CheckpointError leaves nothing behind."""
    final, temporary = parent / name, parent / f"{TEMPORARY}{name}"
    texts = {key: json.dumps(document) for key, document in documents.items()}
    try:
        _check_space(parent, sum(map(len, texts.values())) + tensor_bytes(tensors))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for key, held in tensors.items():
            save_file(dict(held), temporary / f"{key}.safetensors")
        for key, text in texts.items():
            (temporary / f"{key}.json").write_text(text, encoding="utf-8")
        files = sorted(temporary.iterdir())
        with ThreadPoolExecutor() as pool:  # hashing and writing leave Python's lock
            sealed = list(pool.map(_seal, files))
        names = (file.name for file in files)
        manifest = {**facts, "files": dict(zip(names, sealed, strict=True))}
        manifest["sha256"] = _digest_of(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        sync(temporary / MANIFEST)
        sync(temporary)
        os.rename(temporary, final)
        sync(parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{final} was not written: {error}. The older checkpoints are whole") from error
    return final


def read_manifest(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` sealed, the files themselves unread; DamagedCheckpoint if it is not intact."""
    if path.is_symlink() or (path / MANIFEST).is_symlink():
        raise DamagedCheckpoint(f"{path.name}: a link is no checkpoint; it may lead anywhere")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sealed = manifest.pop("sha256")
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path.name}: no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: {type(error).__name__}: {error}") from error
    if not isinstance(manifest.get("files"), dict):
        raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: it lists no files")
    if sealed != _digest_of(manifest):
        raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: its own sha256 differs")
    return manifest


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Documents, Tensors]:
    """(manifest, documents, tensors) after comparing every byte with the manifest."""
    manifest = read_manifest(path)
    documents: Documents = {}
    tensors: Tensors = {}
    for name, sealed in manifest["files"].items():
        file = path / name
        if Path(name).name != name or name == ".." or file.is_symlink():
            raise DamagedCheckpoint(f"{path.name}/{MANIFEST}: {name!r} is no file of this folder's own")
        try:
            size = file.stat().st_size
            if size != sealed["bytes"]:
                raise DamagedCheckpoint(f"{path.name}/{name}: {size} bytes instead of {sealed['bytes']}")
            if sha256_of(file) != sealed["sha256"]:
                raise DamagedCheckpoint(f"{path.name}/{name}: its sha256 differs")
            if file.suffix == ".json":
                documents[file.stem] = json.loads(file.read_text(encoding="utf-8"))
            else:
                tensors[file.stem] = load_file(file)
        except OSError as error:
            raise DamagedCheckpoint(f"{path.name}/{name}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            raise DamagedCheckpoint(f"{path.name}/{name}: {type(error).__name__}: {error}") from error
    return manifest, documents, tensors


def list_checkpoints(parent: Path) -> list[Path]:
    """Newest first: by step, then by how often that step was written."""
    found = [(match, path) for path in parent.glob("step-*") if (match := NAME.fullmatch(path.name))]
    found.sort(key=lambda item: (int(item[0][1]), int(item[0][2] or 1)), reverse=True)
    return [path for _, path in found]


def free_name(parent: Path, step: int) -> str:
    """`step-000200`, or `step-000200-2`, … where that step was written before."""
    name, number = f"step-{step:06d}", 1
    while (parent / name).exists():
        number += 1
        name = f"step-{step:06d}-{number}"
    return name


def discard(path: Path) -> None:
    """Delete a folder. It loses its name first, so that a death in between leaves no half checkpoint."""
    doomed = path.with_name(f"{DISCARDED}{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def set_aside(path: Path) -> None:
    """Rename a damaged folder, so that it counts neither as a checkpoint nor as the best one."""
    aside = path.with_name(f"{DAMAGED}{path.name}")
    if aside.exists():
        discard(aside)
    os.rename(path, aside)


def sweep(parent: Path) -> None:
    """Delete what a death in the middle of a save or of a deletion left behind; needs the lock."""
    for prefix in (TEMPORARY, DISCARDED):
        for leftover in parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; RunFolderError where another one holds it.

    The system itself releases the lock of a process that dies, and a forked child does not inherit
    it, so a lock is never stale.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            file.seek(0)
            raise RunFolderError(
                f"{folder} is in use by process {file.read() or 'unknown'}; "
                "wait for it or stop it, or train into another run folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def rewind_log(path: Path, step: int) -> int:
    """Cut a log of one line per step after `step`, with any line torn by a crash; returns the lines cut.

    What was logged beyond a checkpoint is done, and logged, again.
    """
    if not path.is_file():
        return 0
    kept = 0
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            ahead = not line.endswith(b"\n") or json.loads(line).get("step", 0) > step
        except ValueError:
            ahead = True
        if ahead:
            os.truncate(path, kept)
            return len(lines) - number
        kept += len(line)
    return 0


def sync_files(paths: Iterable[Path]) -> None:
    """Force logs to the disk, which must never be behind a checkpoint."""
    for path in paths:
        if path.is_file():
            sync(path)


def tensor_bytes(tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """What the tensors take on the disk, but for their headers."""
    return sum(tensor.nbytes for held in tensors.values() for tensor in held.values())


def _check_space(parent: Path, needed: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed + RESERVE_BYTES:
        raise OSError(
            errno.ENOSPC, f"it needs {needed:,} bytes and {RESERVE_BYTES:,} in reserve; {free:,} are free"
        )


def _seal(file: Path) -> dict[str, Any]:
    sync(file)
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
