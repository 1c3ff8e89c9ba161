"""Pages and their pairs: found by name, generated to the same bytes, parameters read as literals."""

from __future__ import annotations

import nbformat
import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.pages import app
from kaggle_kit.core import page_files
from kaggle_kit.core.errors import ConfigError

PAGE = """\
# %% [markdown]
# # A question

# %% tags=["parameters"]
model = "tiny"  # a comment is no obstacle
seed = 42
overrides = []

# %%
print(model)

# %%
print(model)
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "notebooks" / "phase1" / "toy.py"
    path.parent.mkdir(parents=True)
    path.write_text(PAGE)
    return path


def test_a_page_is_found_by_name_in_any_folder(page):
    assert page_files.find_pages(page.parents[1]) == {"toy": page}


def test_an_unknown_page_names_the_nearest(page):
    with pytest.raises(ConfigError, match="did you mean 'toy'"):
        page_files.page_path("toi", page.parents[1])


def test_two_pages_of_one_name_are_refused(page):
    (page.parents[1] / "toy.py").write_text(PAGE)
    with pytest.raises(ConfigError, match="two pages are named 'toy'"):
        page_files.find_pages(page.parents[1])


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="checkout"):
        page_files.find_pages(tmp_path / "absent")


def test_generating_a_pair_twice_gives_the_same_bytes(page):
    first = page_files.pair(page).read_bytes()
    page.with_suffix(".ipynb").unlink()
    assert page_files.pair(page).read_bytes() == first


def test_a_pair_is_a_valid_notebook_that_any_runner_accepts(page):
    book = nbformat.read(page_files.pair(page), as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert book.metadata.language_info.name == "python"
    assert [cell.source for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    assert all(not cell.outputs for cell in book.cells if cell.cell_type == "code")


def test_equal_cells_get_different_ids_and_other_cells_keep_theirs(page):
    before = [cell.id for cell in page_files.notebook(page).cells]
    assert len(set(before)) == 4
    page.write_text(PAGE.replace("# # A question", "# # Another question"))
    after = [cell.id for cell in page_files.notebook(page).cells]
    assert (before[0] != after[0], before[1:] == after[1:]) == (True, True)


def test_a_pair_is_stale_once_its_source_changes(page):
    assert not page_files.is_paired(page)
    page_files.pair(page)
    assert page_files.is_paired(page)
    page.write_text(PAGE.replace("42", "43"))
    assert not page_files.is_paired(page)


def test_parameters_are_names_with_literal_defaults(page):
    assert page_files.parameters(page) == {"model": "tiny", "seed": 42, "overrides": []}


@pytest.mark.parametrize("line", ["seed = int('4')", "a, b = 1, 2", "import os", "seed =", "a.b = 1"])
def test_a_parameter_that_is_no_literal_is_refused(page, line):
    page.write_text(PAGE.replace("seed = 42", line))
    with pytest.raises(ConfigError, match="name = literal"):
        page_files.parameters(page)


def test_a_page_without_a_parameters_cell_is_refused(page):
    page.write_text(PAGE.replace(' tags=["parameters"]', ""))
    with pytest.raises(ConfigError, match="found 0 cells"):
        page_files.parameters(page)


def test_the_command_reports_a_stale_pair_and_then_writes_it(page, monkeypatch):
    monkeypatch.setattr(page_files.find_pages, "__defaults__", (page.parents[1],))
    runner = CliRunner()
    stale = runner.invoke(app, ["pair", "--check"])
    assert (stale.exit_code, "stale: " in stale.output) == (1, True)
    assert not page.with_suffix(".ipynb").exists()
    assert "written: " in runner.invoke(app, ["pair"]).output
    fresh = runner.invoke(app, ["pair", "--check"])
    assert (fresh.exit_code, "every page has its pair" in fresh.output) == (0, True)
    assert "toy  model='tiny'  seed=42  overrides=[]" in runner.invoke(app, ["list"]).output


def test_every_page_of_the_project_has_its_pair():
    assert [path.name for path in page_files.find_pages().values() if not page_files.is_paired(path)] == []


def test_values_of_a_command_line_have_the_types_of_the_pages_defaults(tmp_path):
    page = tmp_path / "page.py"
    page.write_text('# %% tags=["parameters"]\nname = "x"\ncount = 3\noverrides = []\n')
    words = ["name=3", "count=5", "overrides=['training.max_length=auto']"]
    expected = {"name": "3", "count": 5, "overrides": ["training.max_length=auto"]}
    assert page_files.typed_values(page, words) == expected
    with pytest.raises(ConfigError, match="count=many: a value is no literal"):
        page_files.typed_values(page, ["count=many"])
    with pytest.raises(ConfigError, match="did you mean 'count'"):
        page_files.typed_values(page, ["coutn=5"])
