"""Where things that can be rebuilt are kept: token files, practice corpora, the tiny model.

The cache may hold restricted text (a token file is its text by other names), so it is always local: on
Kaggle it lies outside `/kaggle/working`, which is saved with a kernel's output, and it is part of no
kernel, dataset or run folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import KAGGLE_ROOT, KAGGLE_WORKING

KAGGLE_SCRATCH = KAGGLE_ROOT / "tmp"


def cache_dir(name: str) -> Path:
    """The folder for one kind of cached thing: `KAGGLE_KIT_CACHE`, Kaggle's scratch, or the user's cache.

    ConfigError where the variable names a folder that leaves the machine with a kernel's output.
    """
    override = os.environ.get("KAGGLE_KIT_CACHE")
    if override:
        root = Path(override)
        if root.resolve().is_relative_to(KAGGLE_WORKING.resolve()):
            raise ConfigError(
                f"KAGGLE_KIT_CACHE={override} lies below {KAGGLE_WORKING}, whose files leave the machine "
                f"with the kernel's output; the cache may hold restricted text: take {KAGGLE_SCRATCH} instead"
            )
    elif KAGGLE_WORKING.is_dir():
        root = KAGGLE_SCRATCH / "kaggle_kit"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kaggle_kit"
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless it is there; it appears whole or not at all."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        build(unfinished)
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster and its copy serves
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
