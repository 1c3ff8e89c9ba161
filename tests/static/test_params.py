"""Every YAML below `params/`: it composes into a run, and it says nothing that is not declared."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kaggle_kit.core import schema
from kaggle_kit.core.config import compose

PARAMS = Path(__file__).resolve().parents[2] / "params"
OTHERS = {
    "study": "tests/study",
    "cost": "tests/study",
    "api": "tests/evaluation/test_api_prices.py",
}  # typed by their readers, tested there
FILES = sorted(path for path in PARAMS.rglob("*.yaml") if path.parent.name not in OTHERS)
SCHEMAS = {
    "model": schema.ModelConfig,
    "task": schema.TaskConfig,
    "strategy": schema.StrategyConfig,
    "profile": schema.RunConfig,  # profiles and experiments may set any group
    "experiment": schema.RunConfig,
}
PUBLIC = {1: "semeval2021t6", 2: "semeval2017t3"}  # level -> a task that every profile admits

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")


def _strategy(path: Path) -> str:
    """The strategy that a file is, that it overrides, or that goes with it; else the default."""
    if path.parent.name == "strategy":
        return path.stem
    said = OmegaConf.load(path)
    if said.get("experiment", {}).get("factor") == "architecture":
        return said.experiment.levels[0]
    if path.parent.name == "experiment" and said.get("strategy", {}).get("pcgrad") is True:
        return "s2_shared"  # gradients of one task conflict with nothing
    choices = [c for c in said.get("defaults", []) if not isinstance(c, str)]
    return next(
        (choice["override /strategy"] for choice in choices if "override /strategy" in choice), "s1_single"
    )


def test_every_file_lies_in_a_declared_group():
    folders = {path.relative_to(PARAMS).parent.as_posix() for path in PARAMS.rglob("*.yaml")}
    assert folders == set(SCHEMAS) | set(OTHERS)


@every_file
def test_the_file_composes_into_a_run(path):
    kind = OmegaConf.load(PARAMS / "strategy" / f"{_strategy(path)}.yaml").kind
    tasks = [PUBLIC[2]] if kind == "single" else [PUBLIC[1], PUBLIC[2]]
    group, name = path.parent.name, path.stem
    chosen = {"task": tasks, "strategy": _strategy(path)} | {group: [name] if group == "task" else name}
    run = compose(**chosen)
    if group == "task":
        assert list(run.tasks) == [name]
    else:
        assert run.experiment["name"] == name if group == "experiment" else getattr(run, group).name == name


@every_file
def test_the_file_uses_declared_keys_only(path):
    said = OmegaConf.load(path)
    said.pop("defaults", None)
    OmegaConf.merge(OmegaConf.structured(SCHEMAS[path.parent.name]), said)  # an unknown key raises


def test_an_undeclared_key_would_be_noticed():
    with pytest.raises(Exception, match="lora_rank"):
        OmegaConf.merge(OmegaConf.structured(schema.ModelConfig), {"lora_rank": 8})
