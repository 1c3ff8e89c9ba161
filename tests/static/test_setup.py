"""`.ci/setup.py`: which interpreter and which torch it chooses, and what it says when it cannot go on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / ".ci" / "setup.py"


@pytest.fixture
def setup():
    spec = importlib.util.spec_from_file_location("kit_setup", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _interpreter(folder: Path, name: str, version: str) -> Path:
    """A stand-in that answers the version probe; `broken` exits as a launcher without its Python does."""
    path = folder / name
    path.write_text("#!/bin/sh\n" + ("exit 127\n" if version == "broken" else f"echo {version} {path}\n"))
    path.chmod(0o755)
    return path


def test_the_first_supported_interpreter_is_taken_past_broken_launchers(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHON", raising=False)
    _interpreter(tmp_path, "python3.11", "broken")
    wanted = _interpreter(tmp_path, "python3.12", "3 12")
    _interpreter(tmp_path, "python3", "3 9")
    assert setup.find_python() == str(wanted)


def test_the_named_interpreter_is_taken_before_any_other(setup, tmp_path, monkeypatch):
    _interpreter(tmp_path, "python3.11", "3 11")
    wanted = _interpreter(tmp_path, "mine", "3 13")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHON", str(wanted))
    assert setup.find_python() == str(wanted)


def test_an_old_python_alone_is_named_with_the_ways_to_a_newer_one(setup, tmp_path, monkeypatch):
    old = _interpreter(tmp_path, "old", "3 9")
    monkeypatch.setenv("PYTHON", str(old))
    with pytest.raises(setup.CannotGoOn) as told:
        setup.find_python()
    assert f"{old} is Python 3.9" in str(told.value) and "pyenv install" in str(told.value)


def test_a_full_disk_is_told_with_what_is_missing(setup, monkeypatch):
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1.5e9}))
    setup.check_disk("tools")
    with pytest.raises(setup.CannotGoOn, match=r"1\.5 GB free .*4\.0 GB needed,\s+so 2\.5 GB are missing"):
        setup.check_disk("cpu")


def test_a_second_call_does_nothing(setup, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "build", lambda venv, python, light: (built.append(venv), _as_if_built(venv)))
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    setup.main()
    setup.main()
    assert built == [tmp_path / ".venv"]


def test_what_quantises_is_installed_into_an_environment_of_its_own(setup, tmp_path, monkeypatch):
    installed = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "check_disk", lambda kind: None)
    monkeypatch.setattr(setup, "create", lambda venv, python: _as_if_built(venv))
    monkeypatch.setattr(setup, "prepare_torch", lambda venv: [])
    monkeypatch.setattr(setup, "install", lambda venv, *what: installed.append((venv.name, what[-1])))
    for options in ([], ["--export"]):
        monkeypatch.setattr(sys, "argv", ["setup.py", *options])
        setup.main()
    assert installed == [(".venv", ".[dev]"), (".venv-export", ".[export]")]


def test_a_changed_requirement_calls_for_another_setup(setup, tmp_path, monkeypatch):
    built, requirements = [], tmp_path / "requirements.txt"
    requirements.write_text("numpy\n")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "INPUTS", [requirements])
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "build", lambda venv, python, light: (built.append(venv), _as_if_built(venv)))
    monkeypatch.setattr(sys, "argv", ["setup.py", "--light"])
    setup.main()
    requirements.write_text("numpy\nscipy\n")
    setup.main()
    assert built == [tmp_path / ".venv-check"] * 2


def _as_if_built(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "bin" / "python").touch()


@pytest.mark.parametrize(
    ("installed", "gpu", "cpu_build", "told", "constrained"),
    [
        ("2.13.0+cpu", False, False, "2.13.0+cpu is already there", True),
        ("2.15.0", True, False, "2.15.0 is already there", False),
        (None, True, False, "about 3 GB to download", False),
        (None, False, True, "", True),
        (None, False, False, "default build it is, about 3 GB to download", True),
    ],
)
def test_torch_is_kept_or_chosen_by_what_the_machine_has(
    setup, monkeypatch, capsys, installed, gpu, cpu_build, told, constrained
):
    monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup, "installed_torch", lambda venv: installed)
    monkeypatch.setattr(setup, "has_gpu", lambda: gpu)
    monkeypatch.setattr(setup, "install_cpu_torch", lambda venv: cpu_build)
    monkeypatch.setattr(setup, "check_disk", lambda kind: None)
    options = setup.prepare_torch(Path("venv"))
    assert told in capsys.readouterr().out
    assert options == (["--constraint", str(setup.CONSTRAINTS)] if constrained else [])
