"""Every page by its two files: the `.py` source in percent format and the generated `.ipynb`."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.core.page_files import notebook

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "notebooks").rglob("*.py"))
MOST_CODE_LINES, MOST_CELLS = 80, 25
LEAST_OWN_SHARE = 0.5  # of a page's code lines, which appear on no other page
MOST_FUNCTION_LINES = 10

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def _pair(page: Path) -> nbformat.NotebookNode:
    return nbformat.read(page.with_suffix(".ipynb"), as_version=4)


def _code(page: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook(page).cells if cell.cell_type == "code"]


def test_there_are_pages():
    assert PAGES


def test_every_notebook_has_its_source():
    notebooks = [
        path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
    ]
    assert sorted(path.with_suffix(".py") for path in notebooks) == PAGES


@every_page
def test_the_pair_has_the_cells_of_its_source(page):
    def cells(book):
        return [(c.id, c.cell_type, c.source, c.metadata.get("tags", [])) for c in book.cells]

    assert cells(_pair(page)) == cells(notebook(page)), "run `python -m kaggle_kit pages pair`"


@every_page
def test_the_pair_carries_no_output_and_no_execution_count(page):
    for cell in _pair(page).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@every_page
def test_the_pair_is_a_valid_notebook_for_the_kernel_python3_with_unique_cell_ids(page):
    book = _pair(page)
    nbformat.validate(book)
    ids = [cell.id for cell in book.cells]
    assert book.metadata.kernelspec.name == "python3" and len(set(ids)) == len(ids)


@every_page
def test_one_parameters_cell_holds_literals_only(page):
    (cell,) = [cell for cell in _code(page) if "parameters" in cell.metadata.get("tags", [])]
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        ast.literal_eval(statement.value)


@every_page
def test_every_code_cell_is_plain_python(page):
    for cell in _code(page):
        ast.parse(cell.source)  # a magic or a shell line would not run under papermill everywhere


@every_page
def test_the_page_is_short_and_defines_no_long_function(page):
    sources = [cell.source for cell in _code(page)]
    lines = [line.strip() for source in sources for line in source.splitlines()]
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= MOST_CODE_LINES
    assert len(notebook(page).cells) <= MOST_CELLS
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, node.name


@every_page
def test_the_page_begins_with_a_title_and_the_common_bootstrap(page):
    first, *_ = notebook(page).cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    finding, finding_too = (
        _code(each)[0].source.partition("from kaggle_kit")[0] for each in (page, PAGES[0])
    )
    assert finding == finding_too and "sys.path" in finding


def _code_lines(page: Path) -> list[str]:
    """The lines of its code cells but for blank ones, comments, the bootstrap and the parameters."""
    bootstrap, *cells = _code(page)
    kept = [cell.source for cell in cells if "parameters" not in cell.metadata.get("tags", [])]
    lines = [line.strip() for source in kept for line in source.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@every_page
def test_at_least_half_of_a_page_is_its_own(page):
    elsewhere = {line for other in PAGES if other != page for line in _code_lines(other)}
    lines = _code_lines(page)
    own = [line for line in lines if line not in elsewhere]
    assert len(own) >= LEAST_OWN_SHARE * len(lines), f"{len(own)} of {len(lines)} lines are its own"


@every_page
def test_a_page_ends_with_checks_that_can_fail(page):
    *_, last = _code(page)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(last.source)))
