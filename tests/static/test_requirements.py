"""What is imported is declared, and what is offered as an extra is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
IMAGE = ROOT / ".ci" / "constraints-kaggle.txt"
DECLARED = {name[0].lower() for line in LINES if (name := re.match(r"[\w.-]+", line))}
NAMED_OTHERWISE = {"sklearn": "scikit-learn", "hydra": "hydra-core", "yaml": "pyyaml"}
OWN = {"kaggle_kit", "kaggle_secrets"}  # the second is there on Kaggle alone
QUANTISER = ROOT / "kaggle_kit" / "export" / "quantiser.py"  # a program of an environment of its own


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_every_package_that_the_kit_or_a_page_imports_is_in_the_requirements():
    sources = {*(ROOT / "kaggle_kit").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")} - {QUANTISER}
    foreign = set().union(*map(_imported, sources)) - set(sys.stdlib_module_names) - OWN
    needed = {NAMED_OTHERWISE.get(name.lower(), name.lower()) for name in foreign}
    assert len(needed) > 20
    assert needed - DECLARED == set()


def test_the_program_that_quantises_imports_what_its_environment_has_and_nothing_of_the_kit():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = _requirements(project["optional-dependencies"]["export"])
    foreign = _imported(QUANTISER) - set(sys.stdlib_module_names)
    assert foreign <= DECLARED | set(extra) and "gptqmodel" in foreign


def test_every_requirement_has_a_lower_bound():
    stated = [line for line in LINES if line and not line.startswith("#")]
    assert [line for line in stated if ">=" not in line] == []


def _requirements(lines: list[str]) -> dict[str, Requirement]:
    stated = (line.partition("#")[0].strip() for line in lines)
    return {one.name.lower().replace("_", "-"): one for one in map(Requirement, filter(None, stated))}


def test_a_lower_bound_is_the_version_that_is_tested_as_that_of_kaggles_image():
    image = _requirements(IMAGE.read_text(encoding="utf-8").splitlines())
    bounds, pins = {}, {}
    for name, need in _requirements(LINES).items():
        (bounds[name],) = (part.version for part in need.specifier if part.operator == ">=")
        (pins[name],) = (part.version for part in image[name].specifier if part.operator == "==")
    # The image's torch is a CUDA build of 3 GB; the test takes the CPU build of another version.
    assert (bounds.pop("torch"), pins.pop("torch")) == ("2.10", "2.13.0")
    assert bounds == pins


def test_what_a_running_notebook_runs_on_is_not_replaced_by_installing_the_requirements():
    image, asked = _requirements(IMAGE.read_text(encoding="utf-8").splitlines()), _requirements(LINES)
    for name in ("ipykernel", "jupyter-client", "tornado", "ipython", "notebook", "pyzmq", "traitlets"):
        (pin,) = image[name].specifier
        assert name not in asked or pin.version in asked[name].specifier


def test_transformers_stays_below_the_version_that_drops_what_is_deprecated_now():
    allowed = _requirements(LINES)["transformers"].specifier
    assert "5.99" in allowed and "6.0.0" not in allowed and "6.0.0.dev0" not in allowed


def test_the_readme_names_every_extra_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    closing = readme.partition("pip install -e '.[NAME]'")[2].partition("Licence:")[0]
    extras = set(project["optional-dependencies"])
    assert extras == {"dev", "check", "kaggle", "cluster", "api", "export"}
    assert extras <= set(re.findall(r"`(\w+)`", closing))
