"""The top of every kernel: what Kaggle's image lacks, the run so far, the tokens.

for note in prepare(run_dir="runs/x", internet=True):
    print(note)

It runs before anything is installed, so it imports only what every image has. A package that stays
missing stops the page there; nothing else does.
"""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

from packaging.requirements import Requirement

from kaggle_kit.core.allocator import set_allocator
from kaggle_kit.core.errors import ConfigError, StartupError
from kaggle_kit.core.kaggle_outputs import last_step
from kaggle_kit.core.runtime import KAGGLE_INPUT, KAGGLE_WORKING, KEPT_TO_ONE, SOURCE_ROOT, library_versions
from kaggle_kit.core.secrets import redact, use_secrets

# The image's own torch stays, and so does what the running notebook itself runs on; tests are not run there.
NOT_ON_KAGGLE = ("torch", "ipykernel", "jupyter_client", "ipython", "pytest", "nbval")
ONLINE = "Without a verified phone number Kaggle turns the internet off: verify it, and push again"
OFFLINE = (
    "Put the wheels into the kit's dataset with `kernels dataset --package NAME`, upload its new version "
    "with `kaggle datasets version`, and push again"
)


def prepare(*, run_dir: str, internet: bool) -> list[str]:
    """Make the session ready and say what was done, one line each. StartupError as `install` has it."""
    keep_to_one_gpu()
    return [*allocate(), *install(unmet(), internet=internet), *restore(run_dir), *use_secrets()]


def keep_to_one_gpu(environ: MutableMapping[str, str] = os.environ) -> None:
    """Hide all GPUs but one, unless the user chose: the Trainer would spread one run over both.

    Who runs several experiments there (`kernels side-by-side`) is told that the user did not choose so.
    """
    if "CUDA_VISIBLE_DEVICES" not in environ:
        environ.update({"CUDA_VISIBLE_DEVICES": "0", KEPT_TO_ONE: "1"})


def allocate() -> list[str]:
    """Set the allocator, which only counts before torch is imported, and say so in one line."""
    try:
        return [f"CUDA allocator: {set_allocator()}"]
    except ConfigError as late:
        return [f"CUDA allocator: as it was, for {late}"]


def unmet(requirements: Path = SOURCE_ROOT / "requirements.txt") -> list[str]:
    """Return the lines of requirements.txt that this image does not fulfil; none without such a file."""
    if not requirements.is_file():
        return []
    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return [str(need) for need in wanted if need.name not in NOT_ON_KAGGLE and not _fulfilled(need)]


def install(missing: list[str], *, internet: bool, wheels: Path = KAGGLE_INPUT) -> list[str]:
    """Install what is missing, one by one, without touching torch: from the index, or from attached wheels.

    A package that is only older than asked for stays, and is named. StartupError for those that are absent.
    """
    if not missing:
        return ["packages: the image has all of them"]
    folders = sorted({str(wheel.parent) for wheel in wheels.rglob("*.whl")})
    links = [option for folder in folders for option in ("--find-links", folder)]
    pinned = [f"torch=={installed}"] if (installed := _installed("torch")) else []
    notes, absent = [], []
    for need in missing:
        problem = pip("install", *links, *([] if internet else ["--no-index"]), need, *pinned)
        if problem is None:
            notes.append(f"packages: installed {need}")
        elif found := _installed(Requirement(need).name):
            notes.append(f"packages: {found} of {need} stays: {problem}")
        else:
            absent.append(f"{need} ({problem})")
    importlib.invalidate_caches()
    if absent:
        raise StartupError(f"the image lacks {', '.join(absent)}. {ONLINE if internet else OFFLINE}")
    return notes


def restore(run_dir: str, inputs: Path = KAGGLE_INPUT, working: Path = KAGGLE_WORKING) -> list[str]:
    """Copy the run so far from the kernel's own output of an earlier session, where it is mounted.

    The folder appears whole or not at all; one that is already there stays as it is.
    """
    target = working / run_dir
    if not run_dir or target.exists():
        return []
    found = [config.parent for config in inputs.glob(f"**/{run_dir}/config.yaml")]
    if not found:
        return [f"run: {run_dir} starts afresh"]
    newest = max(found, key=last_step)
    unfinished = target.with_name(f".{target.name}.copying")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(newest, unfinished, copy_function=shutil.copyfile)
    for folder in (unfinished, *(path for path in unfinished.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # mounts are read-only, and copytree keeps the mode of folders
    os.replace(unfinished, target)
    return [f"run: {run_dir} goes on from step {last_step(target)}"]


def _fulfilled(need: Requirement) -> bool:
    found = _installed(need.name)
    return found is not None and need.specifier.contains(found, prereleases=True)


def _installed(name: str) -> str | None:
    return library_versions((name,)).get(name)


def pip(*arguments: str) -> str | None:
    """Run pip and return what went wrong, in its last line; None where nothing did."""
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines() or [f"pip ended with {done.returncode}"]
    return redact(said[-1])
