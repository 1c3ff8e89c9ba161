"""House rules that a reader would otherwise have to remember."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("kaggle_kit", "notebooks", "params", "kernel-metadata", "tests", "benchmarks", "docs", ".ci")
TEXT = {".py", ".ipynb", ".yaml", ".yml", ".toml", ".md", ".txt", ".json", ".sh", ".cfg", ""}
TRACKED = sorted(
    path
    for path in [*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    if path.is_file()
    and path.suffix in TEXT
    and path.name != ".git"  # a file in a worktree
    and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
)
MODULES = sorted((ROOT / "kaggle_kit").rglob("*.py"))

# Put together here, so that this file passes its own test.
MACHINE_PATHS = re.compile(r"(?<![\w.~/-])/" + r"(?:root|home|work|Users|tmp)/")
REGISTRY_HOSTS = re.compile(
    "|".join(("pypi" r"\.org", "pythonhosted" r"\.org", "npmjs" r"\.org", "deb\\.debian"))
)
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b|pragma: no cover")
GLOBAL_DRAW = re.compile(r"(?:(?:np|numpy)\.)?random\.(?!default_rng|[gs]et_?state)[a-z]")

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())


def _matches(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    lines = (
        (path, n, line) for path in paths for n, line in enumerate(path.read_text("utf-8").splitlines(), 1)
    )
    return [
        f"{path.relative_to(ROOT)}:{n}: {line.strip()[:80]}"
        for path, n, line in lines
        if pattern.search(line)
    ]


def test_no_file_names_a_machine_path_or_a_registry_host():
    assert _matches(MACHINE_PATHS, TRACKED) == []
    assert _matches(REGISTRY_HOSTS, TRACKED) == []


def test_the_module_holds_nothing_unfinished():
    assert _matches(UNFINISHED, [*MODULES, *(ROOT / "notebooks").rglob("*.py")]) == []


def test_no_test_is_switched_off():
    switched_off = re.compile(r"mark\.(?:skip\b|xfail)|assert " "True")
    assert _matches(switched_off, [path for path in TRACKED if path.suffix == ".py"]) == []


@every_module
def test_the_module_prints_nothing_and_draws_on_no_global_generator(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called, place = ast.unparse(node.func), f"line {node.lineno}"
            assert called != "print", f"{place}: return or log it; pages and the command line print"
            assert not GLOBAL_DRAW.match(called), f"{place}: pass a generator in"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert "pickle" not in names, f"line {node.lineno}: a pickle runs code when it is read"


@pytest.mark.parametrize(
    ("called", "draws"),
    [
        ("random.shuffle", True),
        ("np.random.seed", True),
        ("random.getstate", False),  # a checkpoint keeps the generators that libraries draw on
        ("np.random.set_state", False),
        ("np.random.default_rng", False),
        ("random.Random", False),
    ],
)
def test_a_draw_is_told_from_keeping_a_generators_state(called, draws):
    assert bool(GLOBAL_DRAW.match(called)) == draws


@every_module
def test_the_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
