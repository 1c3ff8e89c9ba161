"""What is imported is declared, and what is offered as an extra is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
DECLARED = {name[0].lower() for line in LINES if (name := re.match(r"[\w.-]+", line))}
NAMED_OTHERWISE = {"sklearn": "scikit-learn", "hydra": "hydra-core", "yaml": "pyyaml"}
OWN = {"kaggle_kit", "kaggle_secrets"}  # the second is there on Kaggle alone


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_every_package_that_the_kit_or_a_page_imports_is_in_the_requirements():
    sources = [*(ROOT / "kaggle_kit").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")]
    foreign = set().union(*map(_imported, sources)) - set(sys.stdlib_module_names) - OWN
    needed = {NAMED_OTHERWISE.get(name.lower(), name.lower()) for name in foreign}
    assert len(needed) > 20
    assert needed - DECLARED == set()


def test_every_requirement_has_a_lower_bound():
    stated = [line for line in LINES if line and not line.startswith("#")]
    assert [line for line in stated if ">=" not in line] == []


def test_the_readme_names_every_extra_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    closing = readme.partition("pip install -e '.[NAME]'")[2].partition("Licence:")[0]
    extras = set(project["optional-dependencies"])
    assert extras == {"dev", "check", "kaggle", "cluster"}
    assert extras <= set(re.findall(r"`(\w+)`", closing))
