"""Where things that can be rebuilt are kept: token files, practice corpora, the tiny model.

The cache may hold restricted text (a token file is its text by other names), so it is always local: on
Kaggle it lies outside `/kaggle/working`, which is saved with a kernel's output, and it is part of no
kernel, dataset or run folder.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import sha256_of, sync, writing
from kaggle_kit.core.runtime import KAGGLE_ROOT, KAGGLE_WORKING

KAGGLE_SCRATCH = KAGGLE_ROOT / "tmp"
CHECKSUMS = ".checksums.json"  # in every entry: file -> SHA-256


def cache_dir(name: str) -> Path:
    """Return the folder of one kind of cache: below `KAGGLE_KIT_CACHE`, Kaggle's scratch, or the user's.

    ConfigError where the variable names a folder that leaves the machine with a kernel's output.
    """
    override = os.environ.get("KAGGLE_KIT_CACHE")
    if override:
        root = Path(override)
        if root.resolve().is_relative_to(KAGGLE_WORKING.resolve()):
            saved = f"lies below {KAGGLE_WORKING}, which is saved with the kernel's output"
            then = f"the cache may hold restricted text: take {KAGGLE_SCRATCH} instead"
            raise ConfigError(f"KAGGLE_KIT_CACHE={override} {saved}; {then}")
    elif KAGGLE_WORKING.is_dir():
        root = KAGGLE_SCRATCH / "kaggle_kit"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kaggle_kit"
    folder = root / name
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, filled by `build` unless it is there and sound; it appears whole or not at all.

    Each file's checksum is kept and compared whenever the folder is asked for, so that a damaged entry is
    built anew. Nobody else on the machine may read it. Processes that want the same folder wait for the first
    of them.
    """
    if _is_sound(folder):
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{folder.name}.lock").open("a") as lock:  # it stays: others may wait for it
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if not _is_sound(folder):
                _fill(folder, build)
    return folder


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    # Names of process ids are no names: containers that share a cache may have the same one.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        build(unfinished)
        _seal(unfinished)
        if not _is_sound(folder):  # else another process was faster
            if folder.is_dir():
                shutil.rmtree(folder)
            os.rename(unfinished, folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Write down the checksums, and bring every file to the disk, for the owner's eyes alone."""
    (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o700 if path.is_dir() else 0o600)
        sync(path)


def _is_sound(folder: Path) -> bool:
    """Whether the folder holds the files that were built, unchanged."""
    try:
        return json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")) == _checksums(folder)
    except (OSError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
