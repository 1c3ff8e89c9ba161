"""Facts of the machine and the code that a run records, the module's one logger, and its workspace.

logger.info("running %s on %s", git_sha(), environment())
"""

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TRAINING = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
LIBRARIES = (*TRAINING, "datasets", "tokenizers", "safetensors", "numpy", "scikit-learn", "hydra-core")
GIB = 1024**3
# What stops a run: Ctrl-C, `timeout`, `docker stop`, `scancel`, a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SOURCE_ROOT = Path(__file__).resolve().parents[2]
KERNELS_FOLDER = "kernel-metadata"  # `kernels init --owner` writes the user's name into its tracked files
PACKED_SHA = "git_sha"  # beside the package where the kit was unpacked from a kernel, without its .git
# The one place that knows where Kaggle mounts things; a stand-in of the service moves it.
KAGGLE_ROOT = Path(os.environ.get("KAGGLE_KIT_KAGGLE_ROOT") or "/kaggle")
KAGGLE_INPUT = KAGGLE_ROOT / "input"
KAGGLE_WORKING = KAGGLE_ROOT / "working"
KEPT_TO_ONE = "KAGGLE_KIT_KEPT_TO_ONE_GPU"  # set where a kernel's first cell, not the user, hid the others


class _Handler(logging.StreamHandler):
    """Writes to stderr, but in a notebook to stdout: what is no error is not shown in red.

    It is silent where the caller configured logging.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stdout if "ipykernel" in sys.modules else sys.stderr
            super().emit(record)


def _logger() -> logging.Logger:
    """Return the module's logger with one handler, however often the module is reloaded."""
    named = logging.getLogger("kaggle_kit")
    if not named.handlers:
        handler = _Handler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        named.addHandler(handler)
        named.setLevel(logging.INFO)
    return named


logger = _logger()


def environment(folder: Path = Path(".")) -> dict[str, Any]:
    """Return what this process may use: cores by its affinity, and the disk that is free at `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "memory_gib": round(memory / GIB, 1),
        "disk_free_gib": round(shutil.disk_usage(folder).free / GIB, 1),
        "kaggle": kaggle_run_type(),
    }


def library_versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Read installed versions from package metadata (nothing is imported); absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def git_sha(folder: Path = SOURCE_ROOT) -> str | None:
    """Return the commit checked out at `folder`, with `-dirty` for local changes; None outside a checkout.

    Whose kernels they are changes no result, so `kernel-metadata/` is left out. A kit that was packed into
    a kernel carries the commit it was packed from.
    """
    if (folder / PACKED_SHA).is_file():
        return (folder / PACKED_SHA).read_text(encoding="utf-8").strip() or None
    if not (folder / ".git").exists():
        return None
    git, others = ("git", "--no-optional-locks"), f":(exclude){KERNELS_FOLDER}"  # without taking its locks
    commit = printed(*git, "rev-parse", "HEAD", folder=folder)
    changed = printed(*git, "diff", "--name-only", "HEAD", "--", ".", others, folder=folder)
    if not commit or changed is None:
        return None
    return f"{commit}-dirty" if changed else commit


def printed(*command: str, folder: Path | None = None) -> str | None:
    """What a program prints; None where it fails or is not there."""
    try:
        shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()


def python_path() -> str:
    """Return the PYTHONPATH by which a new process imports this checkout."""
    return os.pathsep.join(filter(None, (str(SOURCE_ROOT), os.environ.get("PYTHONPATH"))))


@contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Hand `SIGNALS` to a function as long as the block lasts."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def kaggle_run_type(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return `Interactive` in the Kaggle editor, `Batch` for a saved version, None anywhere else."""
    return environ.get("KAGGLE_KERNEL_RUN_TYPE") or None


def workspace() -> Path:
    """Return the folder where relative output paths of a page begin, wherever its kernel was started.

    Kaggle's working folder, else the checkout that holds this module, else the working directory.
    """
    if kaggle_run_type() and KAGGLE_WORKING.is_dir():
        return KAGGLE_WORKING
    return SOURCE_ROOT if (SOURCE_ROOT / "params").is_dir() else Path.cwd()


def in_workspace(path: Path | str) -> Path:
    """Return `path` itself when absolute, else below the workspace."""
    return workspace() / Path(path).expanduser()
