"""Files on disk: JSON, replaced at once or grown by a line; checksums, locks, errors that name the place.

append_record(path, {"step": 1, "loss": 0.7}); records = read_records(path)
with writing(path):
    path.write_text(text)      # DiskError where the disk is full, read-only or closed to this user
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self
from uuid import uuid4

import yaml

from kaggle_kit.core.errors import DiskError, KitError, RunFolderError

AGAIN = "run its page again in a new folder"


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON: NaN and infinities become null, array and tensor scalars become numbers."""
    return json.dumps(plain(value, finite=True), ensure_ascii=False, allow_nan=False, indent=indent)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and hand it to the system at once, so that a crash loses at most the last one."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the object in every line of a log; none where the file is absent.

    A last line without its line end was cut by a crash and is left out; any other line that is not a
    JSON object raises RunFolderError with path and line.
    """
    if not path.is_file():
        return []
    with reading(path):
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        if isinstance(record := json.loads(line), dict):
            return record
        problem = "no object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    then = "delete that line, or run the page again in a new folder"
    raise RunFolderError(f"{where}: not a JSON object ({problem}); the log is damaged: {then}")


def write_atomically(path: Path, text: str) -> Path:
    """Replace a file at once: a reader, or a crash, meets the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # containers may share process ids
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    return path


def write_json(path: Path, value: Any) -> Path:
    """Replace a file at once by a value as indented JSON."""
    return write_atomically(path, to_json(value, indent=2) + "\n")


def plain(value: Any, *, finite: bool = False) -> Any:
    """Return Python's own mappings, lists and numbers for those of any library; `finite`: null for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, finite=finite) for item in value]
    value = value.item() if hasattr(value, "item") else value  # a scalar of numpy or torch
    return None if finite and isinstance(value, float) and not math.isfinite(value) else value


def flat(node: Mapping[str, Any], prefix: str = "", joint: str = ".") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots; lists and empty mappings are values."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{joint}{key}" if prefix else str(key)
        values |= flat(value, name, joint) if isinstance(value, Mapping) and value else {name: value}
    return values


class Recorded(dict[str, Any]):
    """What a file of a run folder records; RunFolderError, naming the file, for a field that it lacks."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        super().__init__(values)
        self.path = path

    @classmethod
    def read(cls, path: Path, parse: Callable[[str], Any] = json.loads) -> Self:
        """Return the object in a file; RunFolderError where the file is damaged or holds no object."""
        with reading(path):
            return cls(parse(path.read_text(encoding="utf-8")).items(), path)

    def __missing__(self, name: str) -> Any:
        raise RunFolderError(f"{self.path} does not record {name}; {AGAIN}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error of reading a malformed run folder into a RunFolderError that names the file."""
    try:
        yield
    except KitError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RunFolderError(f"{path} is damaged ({why}); {AGAIN}, or move this one away") from error
    except yaml.YAMLError as error:
        raise RunFolderError(f"{path} is no YAML ({error}); {AGAIN}, or move this one away") from error


ELSEWHERE = "or name a folder on another disk"
FORBIDDEN = f"this user has no permission there: change it, {ELSEWHERE}"
REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space there, {ELSEWHERE}",
    errno.EDQUOT: f"this user's quota is used up: free some space there, {ELSEWHERE}",
    errno.EROFS: f"the disk is read-only: mount it for writing, {ELSEWHERE}",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
}


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Turn an OSError of a full, read-only or forbidden place into a DiskError that names it.

    An empty `place` leaves it to the error to say where it was.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = place or error.filename or "a file"
        raise DiskError(error.errno, f"{where} cannot be used: {REMEDIES[error.errno]}") from error


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(lock: Path, busy: KitError) -> Iterator[IO[str]]:
    """Keep other processes out by a lock on a file. Raises `busy` where one of them has it.

    It is free again once the block, and every child process that inherited the open file, is over.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        opened = lock.open("a")
    with opened as file:
        for pause in (0.0, 0.02, 0.05):  # `is_locked` holds it for a moment
            time.sleep(pause)
            if _takes(file, fcntl.LOCK_EX):
                yield file
                return
        raise busy


def is_locked(lock: Path) -> bool:
    """Whether a process keeps others out by this file at this moment."""
    if not lock.is_file():
        return False
    with lock.open() as file:  # for reading: it may lie on a read-only disk
        return not _takes(file, fcntl.LOCK_SH)


def _takes(file: IO[str], kind: int) -> bool:
    """Try to lock a file until it is closed; False where another process has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
