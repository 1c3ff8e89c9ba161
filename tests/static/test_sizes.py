"""Files and functions stay readable: a hard limit that fails, and a softer one that is reported."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("kaggle_kit", "tests", "benchmarks", ".ci")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILE_LINES, FUNCTION_LINES = (250, 400), (40, 60)  # (reported, refused)

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def _weigh(what: str, lines: int, limits: tuple[int, int]) -> None:
    reported, refused = limits
    assert lines <= refused, f"{what} has {lines} lines; at most {refused}: split it by subject"
    if lines > reported:
        warnings.warn(f"{what} has {lines} lines (usual: {reported})", stacklevel=2)


@every_file
def test_the_file_and_its_functions_have_readable_sizes(path):
    source = path.read_text(encoding="utf-8")
    _weigh(path.name, source.count("\n"), FILE_LINES)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _weigh(f"{path.name}: {node.name}", node.end_lineno - node.lineno + 1, FUNCTION_LINES)
