"""The notebook pages: find them by name, pair each with its .ipynb, read what parameters they declare.

    pair(page_path("s1_single_task"))        # python -m kaggle_kit pages pair

The `.py` in percent format is the source. Its `.ipynb` is generated: a kernelspec, no outputs, and
cell ids that depend on the cells alone, so that generating twice gives the same bytes.
"""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from kaggle_kit.core.errors import ConfigError, nearest, unknown
from kaggle_kit.core.records import write_atomically
from kaggle_kit.core.runtime import SOURCE_ROOT

PAGES_DIR = SOURCE_ROOT / "notebooks"
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def find_pages(folder: Path = PAGES_DIR) -> dict[str, Path]:
    """Return every page's source below `folder`, by the name of its file without the ending.

    Raises ConfigError where there is no such folder or two pages have one name.
    """
    if not folder.is_dir():
        raise ConfigError(f"no notebook pages: {folder} is not a folder; run from a checkout of the project")
    pages: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        if other := pages.get(path.stem):
            raise ConfigError(f"two pages are named {path.stem!r}: {other} and {path}; rename one")
        pages[path.stem] = path
    return pages


def page_path(name: str, folder: Path = PAGES_DIR) -> Path:
    """Return the source of one page; ConfigError with the nearest name for an unknown one."""
    pages = find_pages(folder)
    if name not in pages:
        raise unknown("page", name, pages)
    return pages[name]


def notebook(page: Path) -> NotebookNode:
    """Return the page as a notebook without outputs, its metadata and cell ids settled."""
    source = jupytext.read(page, fmt="py:percent")
    settle_ids(source.cells)
    source.metadata = nbformat.from_dict(METADATA)
    source.nbformat, source.nbformat_minor = 4, 5
    return source


def settle_ids(cells: Iterable[NotebookNode]) -> None:
    """Give every cell an id that depends on its text alone; equal cells are numbered."""
    seen: Counter[str] = Counter()
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def paired_text(page: Path) -> str:
    """Return the bytes that the page's .ipynb must have."""
    return nbformat.writes(notebook(page)).rstrip("\n") + "\n"


def is_paired(page: Path) -> bool:
    """Whether the page's .ipynb exists and holds the bytes that the page gives."""
    pair_path = page.with_suffix(".ipynb")
    return pair_path.is_file() and pair_path.read_text(encoding="utf-8") == paired_text(page)


def pair(page: Path) -> Path:
    """Write the page's .ipynb beside it, unless it is already right."""
    path = page.with_suffix(".ipynb")
    return path if is_paired(page) else write_atomically(path, paired_text(page))


def parameters(page: Path) -> dict[str, Any]:
    """Read names and default values from the page's `parameters` cell.

    Raises ConfigError where the page has no such cell, or it holds anything but literals.
    """
    cells = [c for c in notebook(page).cells if "parameters" in c.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ConfigError(f'{page}: found {len(cells)} cells tagged "parameters"; a page has exactly one')
    try:
        return dict(_assignment(statement) for statement in ast.parse(cells[0].source).body)
    except (SyntaxError, ValueError) as error:
        expected = 'the "parameters" cell must hold `name = literal` only'
        raise ConfigError(f"{page}: {expected} ({error})") from error


def named_values(words: Iterable[str]) -> dict[str, str]:
    """Parse the NAME=VALUE parameters of a command line. ConfigError for another word, or one twice."""
    given = list(words)
    values = dict(word.split("=", 1) for word in given if "=" in word)
    if len(values) != len(given):
        raise ConfigError(f"found {' '.join(given)}; expected NAME=VALUE for every parameter, each once")
    return values


def typed_values(page: Path, words: Iterable[str]) -> dict[str, Any]:
    """Parse NAME=VALUE words for a page; values of parameters that are no strings are read as literals.

    ConfigError for a parameter that the page does not declare, and for a value that is no literal.
    """
    values, declared = named_values(words), parameters(page)
    check_declared(page, values)
    try:
        return {n: v if isinstance(declared[n], str) else ast.literal_eval(v) for n, v in values.items()}
    except (SyntaxError, ValueError) as error:
        given = " ".join(map("=".join, values.items()))
        then = "write numbers and lists as in Python"
        raise ConfigError(f"{given}: a value is no literal ({error}); {then}") from error


def check_declared(page: Path, values: Iterable[str]) -> None:
    """Raise ConfigError with the nearest name for a value that is none of the page's parameters."""
    declared = parameters(page)
    if unknown := [name for name in values if name not in declared]:
        hints = "; ".join(f"{name!r}{nearest(name, declared)}" for name in unknown)
        raise ConfigError(f"{page.stem} has no parameter {hints}; it declares: {', '.join(declared)}")


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, ast.literal_eval(value)
    raise ValueError(f"line {statement.lineno}: not an assignment to one name")
