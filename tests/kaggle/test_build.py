"""A page becomes a kernel folder: parameters in, nothing executed, the kit inside, the same bytes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.page_files import PAGES_DIR, page_path
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.secrets import SecretLeak
from kaggle_kit.experiment.page_run import run_page
from kaggle_kit.experiments.token_controlled import MULTI
from kaggle_kit.experiments.transfer_runs import CONTROL
from kaggle_kit.kaggle import build, bundle
from kaggle_kit.kaggle.build import Experiment, build_experiment, mark_session, session_of
from kaggle_kit.kaggle.bundle import build_dataset
from kaggle_kit.kaggle.metadata import Sources
from tests.kaggle_service.counting import COUNTING


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "counting.py").write_text(COUNTING)
    return tmp_path / "pages"


def built_notebook(built: build.Built) -> nbformat.NotebookNode:
    (path,) = built.folder.glob("*.ipynb")
    return nbformat.read(path, as_version=4)


def test_an_experiment_is_injected_behind_the_defaults_and_nothing_has_run(tmp_path, pages):
    experiment = Experiment.of("counting", pages, seed=7, overrides=["training.epochs=3"])
    built = build_experiment(experiment, tmp_path, "jane", pages_dir=pages)
    page = built_notebook(built)
    nbformat.validate(page)
    tags = [cell.metadata.get("tags", []) for cell in page.cells[:3]]
    assert tags == [[], ["parameters"], ["injected-parameters"]]
    assert "seed = 7" in page.cells[2].source
    assert 'overrides = ["training.epochs=3"]' in page.cells[2].source
    assert f'run_dir = "{built.run_dir}"' in page.cells[2].source
    assert page.metadata.kernelspec.name == "python3"
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    assert not (tmp_path / "runs").exists()


def test_building_twice_gives_the_same_bytes_and_unique_cell_ids(tmp_path, pages, monkeypatch):
    packed = bundle.pack()  # once, so that an edit of the checkout meanwhile changes nothing
    monkeypatch.setattr(build, "pack", lambda: packed)
    experiment = Experiment.of("counting", pages)
    first = build_experiment(experiment, tmp_path / "a", "jane", pages_dir=pages)
    second = build_experiment(experiment, tmp_path / "b", "jane", pages_dir=pages)
    for name in (path.name for path in first.folder.iterdir()):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    ids = [cell.id for cell in built_notebook(first).cells]
    assert len(set(ids)) == len(ids)
    assert first.size < 600_000  # bytes: two thirds of the largest that is pushed


def test_experiments_that_differ_in_one_value_get_kernels_of_their_own(tmp_path, pages):
    names = {
        build_experiment(Experiment.of("counting", pages, **named), tmp_path, "jane", pages_dir=pages).ref
        for named in ({"seed": 1}, {"seed": 2}, {"seed": 1, "overrides": ["training.epochs=9"]})
    }
    assert len(names) == 3
    assert all(len(name.partition("/")[2]) <= 50 for name in names)


def test_the_embedded_kit_unpacks_and_imports_without_the_checkout(tmp_path):
    cell = bundle.first_cell(run_dir="", internet=False, packed=bundle.pack())
    opening, _, _ = cell.partition("from kaggle_kit.core.kaggle_image")
    code = f"{opening}\nimport kaggle_kit.core.config as c; print(c.__file__); print(c.params_dir())"
    environ = {"TMPDIR": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-"]
    done = subprocess.run(command, input=code, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(tmp_path / "kaggle_kit-")) for line in done.stdout.split())


def test_the_embedded_kit_holds_the_pages_that_other_pages_run_first(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(bundle.pack()), mode="r:xz") as archive:
        archive.extractall(tmp_path, filter="data")
    code = (
        "from kaggle_kit.core import page_files as pages; "
        f"print(*(pages.parameters(pages.page_path(name))['strategy'] for name in {[MULTI, CONTROL]}))"
    )
    environ = {"PATH": "", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout.split() == ["s2_shared", "s1_single"], done.stderr
    assert not list(tmp_path.rglob("*.ipynb"))


def test_without_internet_the_first_cell_finds_the_kit_among_the_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "KAGGLE_INPUT", tmp_path / "input")
    build_dataset(tmp_path / "input" / "datasets" / "jane" / "kit", "jane", packages=())
    opening = bundle.first_cell(run_dir="", internet=False, packed=None).partition("from kaggle_kit.core")[0]
    code = f"{opening}\nimport kaggle_kit; print(kaggle_kit.__file__)"
    command, environ = [sys.executable, "-"], {"TMPDIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(command, input=code, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "kaggle_kit-")), done.stderr


def test_a_first_cell_that_finds_no_kit_says_what_to_attach(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "KAGGLE_INPUT", tmp_path)
    cell = bundle.first_cell(run_dir="", internet=False, packed=None)
    with pytest.raises(
        FileNotFoundError, match="no kaggle_kit.kit in .*add the dataset of `kernels dataset`"
    ):
        exec(cell, {})


def test_the_packed_kit_is_the_same_whatever_the_times_of_its_files(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "kaggle_kit").mkdir(parents=True)
        (tmp_path / folder / "kaggle_kit" / "x.py").write_text("x = 1\n")
        (tmp_path / folder / "kaggle_kit" / "x.pyc").write_text(folder)
    assert bundle.pack(tmp_path / "a") == bundle.pack(tmp_path / "b")


def test_real_corpora_are_attached_by_their_slugs_and_practice_needs_none(tmp_path):
    named = {"model": "minilm", "task": "ncbi_disease"}
    real = build_experiment(Experiment.of("s1_single_task", profile="open", **named), tmp_path, "jane")
    described = json.loads((real.folder / "kernel-metadata.json").read_text())
    assert described["dataset_sources"] == ["jane/ncbi-disease"]
    assert described["is_private"] is True
    practice = build_experiment(Experiment.of("s1_single_task", profile="smoke", **named), tmp_path, "jane")
    assert json.loads((practice.folder / "kernel-metadata.json").read_text())["dataset_sources"] == []


@pytest.mark.parametrize(
    ("named", "gpu"),
    [
        ({}, False),
        ({"profile": "open"}, True),
        ({"profile": "t4"}, True),
        ({"overrides": ["profile.device=cuda"]}, True),
        ({"profile": "open", "overrides": ["profile.device=cpu"]}, False),
    ],
)
def test_a_gpu_is_asked_for_unless_the_run_is_on_the_cpu(named, gpu, tmp_path):
    asked = {"model": "minilm", "task": "ncbi_disease"} | named
    built = build_experiment(Experiment.of("s1_single_task", **asked), tmp_path, "jane")
    described = json.loads((built.folder / "kernel-metadata.json").read_text())
    assert described["enable_gpu"] is gpu
    assert described.get("machine_shape") == ("NvidiaTeslaT4" if gpu else None)


def test_without_internet_the_kit_comes_from_the_attached_dataset(tmp_path, pages):
    experiment = Experiment.of("counting", pages)
    built = build_experiment(experiment, tmp_path, "jane", Sources(kit="jane/kaggle-kit"), pages)
    described = json.loads((built.folder / "kernel-metadata.json").read_text())
    assert described["enable_internet"] is False
    assert described["dataset_sources"] == ["jane/kaggle-kit"]
    assert built.size < 10_000
    assert "prepare(run_dir=" in built_notebook(built).cells[0].source


def test_the_kit_dataset_lies_flat_and_holds_the_kit(tmp_path, monkeypatch):
    monkeypatch.setattr("kaggle_kit.kaggle.bundle.pack", lambda: b"the kit")
    folder = build_dataset(tmp_path / "dataset", "jane", packages=())
    assert {path.name for path in folder.iterdir()} == {bundle.KIT_FILE, "dataset-metadata.json"}
    assert json.loads((folder / "dataset-metadata.json").read_text())["id"] == "jane/kaggle-kit-wheels"
    assert (folder / bundle.KIT_FILE).read_bytes() == b"the kit"


def test_kernels_whose_runs_a_page_reads_are_attached(tmp_path, pages):
    experiment = Experiment.of("counting", pages)
    built = build_experiment(experiment, tmp_path, "jane", Sources(kernels=("jane/s2-shared",)), pages)
    described = json.loads((built.folder / "kernel-metadata.json").read_text())
    assert described["kernel_sources"] == ["jane/s2-shared"]


def test_a_session_is_numbered_and_its_own_output_attached_once(tmp_path, pages):
    built = build_experiment(Experiment.of("counting", pages), tmp_path, "jane", pages_dir=pages)
    (path,) = built.folder.glob("*.ipynb")
    assert session_of(path.read_text()) is None
    sources = []
    for session in (1, 2, 3):
        mark_session(built.folder, session, attach=session > 1)
        assert session_of(path.read_text()) == session
        sources.append(json.loads((built.folder / "kernel-metadata.json").read_text())["kernel_sources"])
    assert sources == [[], [built.ref], [built.ref]]


def test_a_page_too_large_to_push_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(build, "LARGEST", 1000)
    with pytest.raises(ConfigError, match="bytes to push; allowed: at most 1,000"):
        build.page_text(page_path("overview"), packed=bundle.pack())


def test_an_unknown_parameter_and_a_page_that_trains_nothing_are_refused():
    with pytest.raises(ConfigError, match="no parameter 'modle' — did you mean 'model'"):
        build.page_text(page_path("s1_single_task"), {"modle": "tiny"})
    with pytest.raises(ConfigError, match="overview trains nothing"):
        Experiment.of("overview", PAGES_DIR)


def test_the_pages_default_model_is_refused_under_a_paper_profile_before_anything_is_built(tmp_path):
    toy = {"task": "ncbi_disease", "profile": "t4"}
    with pytest.raises(ConfigError, match="model 'tiny' is built on the spot.*'t4' is a paper.* llama3b"):
        build_experiment(Experiment.of("s1_single_task", **toy), tmp_path, "jane")
    with pytest.raises(ConfigError, match="name another model"):
        run_page("s1_single_task", **toy, runs_dir=tmp_path / "runs")
    with pytest.raises(ConfigError, match="name another model"):
        start_run(compose(**toy), page="s1_single_task", runs_dir=tmp_path / "runs")
    assert not list(tmp_path.iterdir())
    assert Experiment.of("s1_single_task", **toy, model="minilm").config().profile.paper


def test_a_model_in_a_folder_of_this_machine_is_refused_before_anything_is_built(tmp_path, pages):
    (tmp_path / "model").mkdir()
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    said = {"model_type": "bert", "num_attention_heads": 2, **sizes}
    (tmp_path / "model" / "config.json").write_text(json.dumps(said))
    experiment = Experiment.of("counting", pages, model=str(tmp_path / "model"))
    with pytest.raises(ConfigError, match="a folder of this machine"):
        build_experiment(experiment, tmp_path / "out", "jane", pages_dir=pages)
    assert not (tmp_path / "out").exists()


def test_a_token_among_the_parameters_is_never_written(tmp_path, pages, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted0123456789")
    experiment = Experiment.of("counting", pages, overrides=["training.note=hf_planted0123456789"])
    with pytest.raises((SecretLeak, ConfigError)):
        build_experiment(experiment, tmp_path / "out", "jane", pages_dir=pages)
    with pytest.raises(SecretLeak, match="HF_TOKEN"):
        build.page_text(pages / "counting.py", {"overrides": ["x=hf_planted0123456789"]})
    assert not (tmp_path / "out").exists()
