"""Every page has a kernel-metadata.json, it agrees with the page, and the client would take it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.page_files import find_pages
from kaggle_kit.kaggle import metadata as about

FOLDERS = sorted(path.parent for path in about.METADATA_DIR.glob("*/kernel-metadata.json"))
every_kernel = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_page_has_metadata_that_agrees_with_the_page():
    assert about.stale_metadata() == [], "run `python -m kaggle_kit kernels init`"
    assert {folder.name for folder in FOLDERS} == set(find_pages())


@every_kernel
def test_a_kernel_is_private_has_its_code_and_a_title_that_makes_its_name(folder: Path):
    described = about.read_metadata(folder)
    about.refuse_public(described, folder)
    slug = described["id"].partition("/")[2]
    assert described["title"].lower().replace(" ", "-") == slug
    assert 5 <= len(slug) <= 50
    if about.owner_of(folder) == about.NO_OWNER:
        assert (folder / described["code_file"]).is_file()


@every_kernel
def test_a_page_at_its_defaults_takes_no_gpu_for_a_run_on_the_cpu(folder: Path):
    described = about.read_metadata(folder)
    assert described["enable_gpu"] is False
    assert "machine_shape" not in described


@pytest.mark.parametrize(
    ("declared", "gpu"),
    [
        ('profile = "smoke"', False),
        ('profile = "open"', True),
        ('profile = "t4"', True),
        ('profile = "smoke"\noverrides = ["profile=open"]', True),
        ('profile = "smoke"\noverrides = ["experiment=ncbi_minilm"]', True),  # which chooses a profile
        ('runs_dir = "runs"', False),
    ],
)
def test_a_pages_machine_is_that_of_the_profile_it_declares(declared, gpu, tmp_path):
    (tmp_path / "page.py").write_text(f'# %% tags=["parameters"]\n{declared}\n')
    assert about.page_takes_gpu(tmp_path / "page.py") is gpu


def test_a_page_without_metadata_a_stray_folder_and_an_edit_are_all_named(tmp_path):
    pages, folder = tmp_path / "pages", tmp_path / "kernels"
    pages.mkdir()
    for name in ("one_page", "two_page"):
        (pages / f"{name}.py").write_text('# %% tags=["parameters"]\nmodel = "tiny"\n')
    two = about.page_metadata("two_page", pages / "two_page.py", folder / "two_page")
    about.write(folder / "two_page", two | {"enable_internet": False})
    about.write(folder / "gone", two)
    assert about.stale_metadata(folder, pages) == [
        f"{folder / 'gone'}: there is no such page",
        f"{folder / 'one_page' / 'kernel-metadata.json'} is missing",
        f"{folder / 'two_page' / 'kernel-metadata.json'} differs from what the page declares",
    ]


@pytest.mark.parametrize("said", [False, "false", None, 1])
def test_a_kernel_that_is_not_private_is_refused(said):
    with pytest.raises(about.PublicKernel, match="only private kernels are pushed"):
        about.refuse_public({"is_private": said}, Path("x"))


def test_the_owner_is_the_one_that_init_filled_in(tmp_path):
    about.write(tmp_path / "page", {"id": "jane/kaggle-kit-page"})
    assert about.known_owner(tmp_path) == "jane"
    about.write(tmp_path / "page", {"id": f"{about.NO_OWNER}/kaggle-kit-page"})
    with pytest.raises(ConfigError, match="kernels init --owner NAME"):
        about.known_owner(tmp_path)
    assert about.known_owner(tmp_path, about.NO_OWNER) == about.NO_OWNER


def test_a_name_that_kaggle_would_refuse_is_refused_here():
    with pytest.raises(ConfigError, match="51 characters; 5 to 50"):
        about.describe("x" * 51, "x.ipynb", False)


def test_metadata_that_is_not_json_says_how_to_write_it_anew(tmp_path):
    (tmp_path / "kernel-metadata.json").write_text("{")
    with pytest.raises(ConfigError, match="kernels init"):
        about.read_metadata(tmp_path)
    (tmp_path / "kernel-metadata.json").write_text(json.dumps({"id": "jane/x"}))
    assert about.owner_of(tmp_path) == "jane"
