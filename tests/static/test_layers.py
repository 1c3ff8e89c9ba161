"""The floors of the house: who may import whom, and what a bare import may cost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "hydra", "omegaconf")


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_import_contracts_hold():
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def _copy(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kaggle_kit", folder / "kaggle_kit", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core/types.py", "import kaggle_kit.data.registry"),  # upwards
        ("data/registry.py", "import kaggle_kit.models"),  # to a sibling
        ("evaluation/metrics/brat.py", "import torch"),  # torch in a scorer
    ],
)
def test_a_forbidden_import_breaks_a_contract(module, line, tmp_path):
    _copy(tmp_path)
    with open(tmp_path / "kaggle_kit" / module, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert _lint_imports(tmp_path).returncode == 1


def test_a_package_on_no_floor_breaks_a_contract(tmp_path):
    _copy(tmp_path)
    (tmp_path / "kaggle_kit" / "attic.py").write_text("import json\n")
    assert _lint_imports(tmp_path).returncode == 1


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, kaggle_kit; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
