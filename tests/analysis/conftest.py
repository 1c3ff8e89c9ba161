"""Run folders for the judge, made once; what a test alters in them is put back."""

from __future__ import annotations

import pytest

from tests.analysis.judged_runs import TASKS, Factory


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Three seeds, both controls; transfer is planted on the first task and nothing on the second."""
    folder = tmp_path_factory.mktemp("study")
    return Factory(folder).study(seeds=(1, 2, 3), effect={TASKS[0]: 0.08}, controls=("total", "share"))


@pytest.fixture
def altered_study(study):
    """The same folders, restored after the test to the last byte."""
    kept = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    yield study
    for path in [path for path in study.rglob("*") if path.is_file() and path not in kept]:
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
