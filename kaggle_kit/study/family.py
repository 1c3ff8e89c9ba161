"""Which comparisons a study declares, and which of them is primary: what its verdict is corrected over.

family_of(load_selection("full")).primary          # "s3b_hierarchical-llama3b"
"""

from __future__ import annotations

from typing import Any

from kaggle_kit.analysis.verdict_study import Family
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import Selection


def comparisons(selection: Selection) -> dict[str, dict[str, Any]]:
    """`STRATEGY-MODEL` -> its strategy, model and run ids; ConfigError for a study that judges nothing."""
    if found := Study(selection).verdicts():
        return found
    raise ConfigError(
        f"study {selection.name} declares no verdict; set verdict: true, and controls, in its file"
    )


def family_of(selection: Selection) -> Family:
    """A study of one comparison has it as its primary one."""
    names, primary = list(comparisons(selection)), selection.primary
    first = f"{primary.strategy}-{primary.model}" if primary else names[0]
    return Family(selection.name, names, first, list(selection.tasks))
