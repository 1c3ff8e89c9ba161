"""Set up `.venv` for this repository: `python3 .ci/setup.py`, `--light` for `.venv-check`, `--kaggle` for
`.venv-kaggle`, which has the versions of Kaggle's image, `--export` for `.venv-export`, which quantises.

`make setup` calls it with whatever Python starts. It imports nothing outside the standard library,
looks for Python 3.11–3.13, says what it is about to download and how much, and does nothing when
the environment already stands for the present requirements. `PYTHON=python3.12` chooses.

Without a GPU it wants a CPU build of torch, because the default build for Linux brings about 3 GB
of CUDA libraries: first one that pip can already see (a local wheel), then PyTorch's own CPU index.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / ".ci" / "constraints-cpu.txt"
KAGGLE_CONSTRAINTS = ROOT / ".ci" / "constraints-kaggle.txt"
# What the image has though nothing here asks for it, and what the tests themselves need.
KAGGLE_PACKAGES = ["nbconvert", "notebook", "torchao"]
KAGGLE_PACKAGES += ["hypothesis>=6.100", "pytest-xdist>=3.6", "torchjd[quadprog-projector]>=0.8"]
INPUTS = [ROOT / "requirements.txt", ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)]
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SUPPORTED = [(3, 11), (3, 12), (3, 13)]
USUAL_NAMES = ["python3.11", "python3.12", "python3.13", "python3", "python"]
KAGGLE_NAMES = ["python3.12", *USUAL_NAMES]  # the image has 3.12
DISK_GB = {"tools": 0.3, "cpu": 4.0, "cuda": 10.0}


class CannotGoOn(Exception):
    """Something that only the user can mend; the message says what and how."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def find_python(names: list[str] = USUAL_NAMES) -> str:
    """The path of the interpreter to build on: PYTHON if given, else the first supported one of `names`."""
    chosen = os.environ.get("PYTHON", "").strip()
    seen = []
    for name in [chosen] if chosen else [*names, sys.executable]:
        probe = "import sys; print(*sys.version_info[:2], sys.executable)"
        try:
            done = subprocess.run([name, "-c", probe], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode != 0:
            continue  # a launcher without its interpreter, as pyenv leaves them
        major, minor, executable = done.stdout.strip().split(" ", 2)
        if (int(major), int(minor)) in SUPPORTED:
            return executable
        seen.append(f"{name} is Python {major}.{minor}")
    raise CannotGoOn(
        f"no Python 3.11, 3.12 or 3.13 was found ({'; '.join(seen) or chosen or 'none at all'}).\n"
        "  Get one: `apt install python3.11 python3.11-venv` (Debian, Ubuntu), `brew install python@3.12`\n"
        "  (macOS), `pyenv install 3.12`, or python.org. Then run the same command again, with\n"
        "  PYTHON=/path/to/python3.12 if it is not on the PATH."
    )


def check_disk(kind: str) -> None:
    needed, free = DISK_GB[kind], shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        raise CannotGoOn(
            f"not enough disk: {free:.1f} GB free in {ROOT}, about {needed:.1f} GB needed,\n"
            f"  so {needed - free:.1f} GB are missing. Free some space, or move this folder to another disk."
        )


def create(venv: Path, python: str) -> None:
    """A working virtual environment in place of none, or of one that was left broken."""
    own = venv / "bin" / "python"
    if own.exists() and subprocess.run([own, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    say(f"creating {venv.name} with {python}")
    done = subprocess.run([python, "-m", "venv", "--clear", venv], capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotGoOn(
            f"{python} cannot create a virtual environment:\n{(done.stdout + done.stderr).strip()}\n"
            "  On Debian and Ubuntu install its venv package (python3-venv, or python3.12-venv by version)."
        )


def pip_install(venv: Path) -> list[str]:
    return [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]


def install(venv: Path, *arguments: str) -> None:
    if subprocess.run([*pip_install(venv), *arguments], cwd=ROOT).returncode != 0:
        raise CannotGoOn(
            "pip could not install the packages; its own message stands above.\n"
            "  Without a network nothing can be fetched. Otherwise run the same command again: it goes on\n"
            "  where it stopped."
        )


def installed_torch(venv: Path) -> str | None:
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def has_gpu() -> bool:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "GPU" in done.stdout


def address_of(venv: Path, requirement: str, *options: str) -> str | None:
    """Where pip would take a wheel from, or None. The dry run reads metadata, not the wheel."""
    dry_run = ["--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-"]
    command = [*pip_install(venv), *dry_run, *options, requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return json.loads(done.stdout)["install"][0]["download_info"]["url"]
    except (subprocess.TimeoutExpired, ValueError, LookupError):
        return None


def size_of(url: str) -> str:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=5) as answer:
            return f"{int(answer.headers['Content-Length']) / 1e6:.0f} MB"
    except (OSError, TypeError, ValueError):
        return "about 200 MB"


def install_cpu_torch(venv: Path) -> bool:
    """Take a CPU build of torch where one can be had, and tell whether there was one.

    The local version `+cpu` matches CPU builds only: an index of CUDA builds has no answer to it.
    """
    pinned = CONSTRAINTS.read_text(encoding="utf-8").split("torch==")[1].split()[0]
    requirement = f"torch=={pinned}+cpu"
    say(f"looking for a CPU build of torch {pinned}")
    for options in ([], ["--index-url", PYTORCH_CPU_INDEX, "--timeout", "4", "--retries", "0"]):
        url = address_of(venv, requirement, *options)
        if url:
            verb = "taking the local wheel" if url.startswith("file:") else "downloading"
            say(f"{verb} {url.rsplit('/', 1)[-1].replace('%2B', '+')}, {size_of(url)}")
            install(venv, "--no-deps", *options, requirement)
            return True
    return False


def prepare_torch(venv: Path) -> list[str]:
    """Decide which torch the environment gets, say so with its size, and return pip's further options."""
    pinned = ["--constraint", str(CONSTRAINTS)]
    version = installed_torch(venv)
    if version:
        say(f"torch {version} is already there and stays")
        return pinned if version.endswith("+cpu") else []
    if platform.system() != "Linux":
        say("torch's default build for this system has no CUDA libraries: about 100 MB to download")
        return pinned
    if has_gpu():
        say("a GPU was found: torch comes with its CUDA libraries, about 3 GB to download")
        check_disk("cuda")
        return []
    if not install_cpu_torch(venv):
        say("no CPU build can be had here: torch's default build it is, about 3 GB to download")
        check_disk("cuda")
    return pinned


def build_kaggle(venv: Path, python: str) -> None:
    """The image's packages beside a CPU build of torch, on the image's Python where there is one for it.

    Never a CUDA build: nothing is computed on a GPU here, and those libraries take gigabytes.
    """
    started = time.monotonic()
    if not (venv / "ready").exists():
        check_disk("cpu")
    for other in dict.fromkeys([python, find_python()]):
        create(venv, other)
        if platform.system() != "Linux" or installed_torch(venv) or install_cpu_torch(venv):
            break
        say(f"there is none for {other}")
        shutil.rmtree(venv)
    else:
        raise CannotGoOn("no CPU build of torch can be had here; PYTHON=python3.11 chooses another Python.")
    say("downloading what is missing of the image's packages: at most 150 packages, 0.7 GB")
    pinned = ["--constraint", str(KAGGLE_CONSTRAINTS)]
    install(venv, "--quiet", *pinned, *KAGGLE_PACKAGES, "--requirement", "requirements.txt")
    say(f"{venv.name} is ready after {time.monotonic() - started:.0f} s")


def build(venv: Path, python: str, *, light: bool) -> None:
    import tomllib  # here, because only the interpreter that builds is known to be 3.11 or later

    started = time.monotonic()
    if not (venv / "ready").exists():
        check_disk("tools" if light else "cpu")
    create(venv, python)
    if light:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        tools = project["optional-dependencies"]["check"]
        say(f"downloading the static gates' tools, at most 40 MB: {', '.join(tools)}")
        install(venv, "--quiet", *tools)
    else:
        options = prepare_torch(venv)
        say("downloading what is missing of the other requirements: at most 190 packages, 0.7 GB")
        install(venv, *options, "--editable", f".[{'export' if venv.name == '.venv-export' else 'dev'}]")
    say(f"{venv.name} is ready after {time.monotonic() - started:.0f} s")


def main() -> None:
    light, kaggle, export = (option in sys.argv[1:] for option in ("--light", "--kaggle", "--export"))
    names = {".venv-check": light, ".venv-kaggle": kaggle, ".venv-export": export, ".venv": True}
    venv = ROOT / next(name for name, wanted in names.items() if wanted)
    stamp = venv / "ready"
    inputs = [*INPUTS, KAGGLE_CONSTRAINTS] if kaggle else INPUTS
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()
    if stamp.exists() and stamp.read_text() == state and (venv / "bin" / "python").exists():
        return
    python = find_python(KAGGLE_NAMES) if kaggle else find_python()
    if os.path.realpath(python) != os.path.realpath(sys.executable):
        os.execv(python, [python, *sys.argv])
    if kaggle:
        build_kaggle(venv, python)
    else:
        build(venv, python, light=light)
    stamp.write_text(state)


if __name__ == "__main__":
    try:
        main()
    except CannotGoOn as problem:
        sys.exit(f"setup: cannot go on: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nsetup: stopped; the same command goes on from here")
