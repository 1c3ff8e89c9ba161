"""No test is written and never run: every test file lies where pytest collects it, and holds tests."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"


def _test_functions(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]


def test_ci_collects_the_tests_folder_whole():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    assert settings["testpaths"] == ["tests"]
    assert not {"python_files", "python_functions", "norecursedirs"} & set(settings)
    assert not any(word in settings["addopts"] for word in ("--ignore", "--deselect", " -k", " -m"))


def test_every_test_file_holds_a_test():
    assert [path.name for path in TESTS.rglob("test_*.py") if not _test_functions(path)] == []


def test_every_test_stands_in_a_file_that_is_collected():
    elsewhere = [path for path in TESTS.rglob("*.py") if not path.name.startswith("test_")]
    elsewhere += [
        path for folder in ("kaggle_kit", "benchmarks", ".ci") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [path.name for path in elsewhere if _test_functions(path)] == []


def test_no_two_tests_of_one_file_share_a_name():
    for path in TESTS.rglob("test_*.py"):
        names = _test_functions(path)
        assert len(set(names)) == len(names), f"{path.name}: a later test hides an earlier one"
