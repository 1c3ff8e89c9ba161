"""What a run is asked to be: members of the groups of `params/`, and overrides of single values.

request = Request.of({"model": "minilm", "task": "ncbi_disease", …}, ["training.epochs=2"])
request.chosen("strategy"), request.files()
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kaggle_kit.core.errors import ConfigError, nearest

GROUPS = ("model", "task", "strategy", "profile", "experiment")


def params_dir() -> Path:
    """The folder of the configuration groups: $KAGGLE_KIT_PARAMS, else `params/` beside the package."""
    named = os.environ.get("KAGGLE_KIT_PARAMS")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "params"
    if not folder.is_dir():
        raise ConfigError(
            f"no configuration folder at {folder}; set KAGGLE_KIT_PARAMS to the project's params/"
        )
    return folder.resolve()


def members(group: str) -> list[str]:
    """The names that a group of `params/` offers, sorted."""
    return sorted(path.stem for path in (params_dir() / group).glob("*.yaml"))


@dataclass(frozen=True)
class Request:
    """What a run is asked to be: members of the groups in the order in which they speak, then overrides."""

    groups: list[tuple[str, str]]
    choices: dict[str, str]  # group -> the member that an override names
    values: list[tuple[str, Any]]
    problems: list[str]  # overrides that could not be understood

    @classmethod
    def of(cls, names: Mapping[str, str | Sequence[str] | None], overrides: Iterable[str]) -> Request:
        """`names`: group -> members. ConfigError for a member that there is not."""
        choices, values, problems = _parse(overrides)
        listed = {group: _listed(choices.pop(group, names[group])) for group in ("task", "experiment")}
        listed |= {group: _listed(names[group]) for group in ("model", "strategy", "profile")}
        groups = [(group, name) for group in GROUPS for name in listed[group]]
        members_said = (*groups, *choices.items())
        unknown = [problem for group, name in members_said for problem in unknown_member(group, name)]
        if unknown:
            raise ConfigError("\n".join(problems + unknown))
        return cls(groups, choices, values, problems)

    def chosen(self, group: str) -> str:
        """The member that is composed: the last of what was asked for, an experiment and an override say."""
        name = next(name for asked, name in self.groups if asked == group)
        for file in self._experiments():
            for default in OmegaConf.load(file).get("defaults", ()):
                name = name if isinstance(default, str) else default.get(f"override /{group}", name)
        return self.choices.get(group, name)

    def files(self) -> list[tuple[Path, str]]:
        """(file, place in the configuration) in the order of their say; an empty place is the root."""
        found = []
        for group, name in self.groups:
            if group in ("model", "strategy", "profile"):
                found.append(params_dir() / group / f"{self.chosen(group)}.yaml")
            elif group == "task":
                found.append(params_dir() / group / f"{name}.yaml")
        return [(file, _package(file)) for file in (*found, *self._experiments())]

    def _experiments(self) -> list[Path]:
        """The experiments' files, each after those that it builds on."""
        names = [name for group, name in self.groups if group == "experiment"]
        return [file for name in names for file in _with_bases(params_dir() / "experiment" / f"{name}.yaml")]


def _with_bases(file: Path) -> list[Path]:
    said = OmegaConf.load(file).get("defaults", ())
    bases = [other for other in said if isinstance(other, str) and other != "_self_"]
    return [*(found for name in bases for found in _with_bases(file.with_stem(name))), file]


def _package(file: Path) -> str:
    if file.read_text(encoding="utf-8").startswith("# @package _global_"):
        return ""
    return f"tasks.{file.stem}" if file.parent.name == "task" else file.parent.name


def _parse(overrides: Iterable[str]) -> tuple[dict[str, str], list[tuple[str, Any]], list[str]]:
    """Group choices, (key, value) pairs, and what could not be understood."""
    parser = OverridesParser.create()
    chosen: dict[str, str] = {}
    values: list[tuple[str, Any]] = []
    problems: list[str] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            override = None
        if override is None or override.type != OverrideType.CHANGE or override.is_sweep_override():
            problems.append(f"override {text!r} is not of the form key=value, such as training.epochs=2")
        elif override.key_or_group in GROUPS:
            chosen[override.key_or_group] = str(override.value())
        else:
            values.append((override.key_or_group, override.value()))
    return chosen, values, problems


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(dict.fromkeys(names or ()))


def unknown_member(group: str, name: str) -> list[str]:
    """One problem, with the nearest name, where a group of `params/` has no such member; else none."""
    allowed = members(group)
    if name in allowed:
        return []
    return [f"unknown {group} {name!r}; allowed: {', '.join(allowed)}{nearest(name, allowed)}"]
