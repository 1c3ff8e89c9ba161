"""What reads run folders and scores files must start on a laptop without torch being loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_TORCH = ("core", "data/formats", "data/practice", "evaluation/metrics", "analysis")


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_importing_every_module_of_the_package_loads_no_torch(package):
    files = [path for path in (ROOT / "kaggle_kit" / package).rglob("*.py") if path.name != "__init__.py"]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    assert modules
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name"
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
