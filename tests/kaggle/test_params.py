"""Own models and tasks travel with a kernel: with the kit inside, and with the kit from a dataset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from omegaconf import OmegaConf

from kaggle_kit.core.config import params_dir
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.secrets import SecretLeak
from kaggle_kit.kaggle import bundle
from kaggle_kit.kaggle.build import Experiment, build_experiment
from kaggle_kit.kaggle.bundle import build_dataset
from kaggle_kit.kaggle.metadata import Sources

NAMES = {"model": "mine", "task": "ours", "profile": "open"}
COMPOSED = """
from kaggle_kit.core.config import compose, config_hash, members
mine = compose("mine", "ours", "s1_single", "open")
print(config_hash(mine), mine.model.parameters, "bert" in members("model"))
"""


def put(folder: Path, place: str, like: str, **changes) -> None:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.load(params_dir() / like), changes)))


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    put(tmp_path / "own", "model/mine.yaml", "model/minilm.yaml", name="mine", parameters=9)
    put(tmp_path / "own", "task/ours.yaml", "task/ncbi_disease.yaml", name="ours", slugs=["our-notes"])
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("dataset", [None, "jane/kaggle-kit-wheels"])
def test_a_kernel_composes_its_own_model_and_task_as_they_are_here(own, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "KAGGLE_INPUT", tmp_path / "input")
    if dataset:
        build_dataset(tmp_path / "input" / "kaggle-kit-wheels", "jane", packages=())
        put(own, "model/mine.yaml", "model/minilm.yaml", name="mine", parameters=7)  # changed since then
    experiment = Experiment.of("s1_single_task", **NAMES)
    built = build_experiment(experiment, tmp_path / "out", "jane", Sources(kit=dataset))
    described = json.loads((built.folder / "kernel-metadata.json").read_text())
    assert described["dataset_sources"] == [*([dataset] if dataset else []), "jane/our-notes"]
    page = nbformat.read(next(built.folder.glob("*.ipynb")), as_version=4)
    opening = page.cells[0].source.partition("from kaggle_kit.core")[0]
    environ = {"TMPDIR": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-"]
    done = subprocess.run(command, input=opening + COMPOSED, env=environ, capture_output=True, text=True)
    assert done.stdout.split() == [built.config_hash, "7" if dataset else "9", "True"], done.stderr


def test_the_packed_kit_holds_the_shipped_files_alone(own, monkeypatch):
    """A dataset that held own files would change kernels that were built without them."""
    with_own = bundle.pack()
    monkeypatch.delenv("KAGGLE_KIT_PARAMS")
    assert bundle.pack() == with_own


def test_a_token_in_an_own_file_is_never_written(own, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted0123456789")
    put(own, "model/mine.yaml", "model/minilm.yaml", name="mine", title="by hf_planted0123456789")
    with pytest.raises(SecretLeak, match="HF_TOKEN"):
        build_experiment(Experiment.of("s1_single_task"), tmp_path / "out", "jane")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place", [{"slugs": []}, {"path": "corpora/ours"}, {"path": "corpora/ours", "slugs": []}]
)
def test_a_corpus_that_lies_where_no_kernel_sees_it_is_refused(own, place, tmp_path):
    put(own, "task/ours.yaml", "task/ncbi_disease.yaml", name="ours", **place)
    with pytest.raises(ConfigError, match="task 'ours': no kernel sees its corpus"):
        build_experiment(Experiment.of("s1_single_task", **NAMES), tmp_path / "out", "jane")
    assert not (tmp_path / "out").exists()
    mounted = {**NAMES, "overrides": ["tasks.ours.path=/kaggle/input/our-notes"]}
    built = build_experiment(Experiment.of("s1_single_task", **mounted), tmp_path / "out", "jane")
    assert json.loads((built.folder / "kernel-metadata.json").read_text())["dataset_sources"] == []
