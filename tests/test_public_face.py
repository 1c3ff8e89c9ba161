"""What the package exports: the experiment, what shows it, and the names of the specification."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kaggle_kit

ROOT = Path(__file__).resolve().parents[1]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", kaggle_kit.EXPORTS)
def test_every_exported_name_arrives_when_it_is_asked_for(name):
    found = getattr(kaggle_kit, name)
    assert getattr(found, "__name__", "").rpartition(".")[2] == name and name in dir(kaggle_kit)


def test_a_name_that_is_not_exported_is_refused_with_those_that_are():
    with pytest.raises(AttributeError, match="no attribute 'Experimint'; it has Experiment, show"):
        kaggle_kit.Experimint  # noqa: B018


def test_importing_the_package_alone_loads_nothing_heavy():
    loaded = run(
        "import sys, kaggle_kit; print(*(name for name in ('torch', 'pandas') if name in sys.modules))"
    )
    assert loaded.split() == []


def test_the_allocator_is_set_before_torch_is_imported():
    code = "import os, kaggle_kit; kaggle_kit.MultiTaskModel; print(os.environ['PYTORCH_CUDA_ALLOC_CONF'])"
    assert run(code).split() == ["expandable_segments:True"]
