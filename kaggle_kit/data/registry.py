"""The tasks of the study and what is known of each, from `params/task/`.

task("semeval2017t3").primary_metric        # "map"
"""

from copy import deepcopy
from functools import cache
from pathlib import Path

from kaggle_kit.core.config import compose
from kaggle_kit.core.params import members, own_params
from kaggle_kit.core.schema import TaskConfig


def task_names() -> list[str]:
    """Return every task id, sorted."""
    return members("task")


def task(name: str) -> TaskConfig:
    """Return a copy of a task as its file describes it. Raises ConfigError for an unknown id."""
    return deepcopy(_task(own_params(), name))


def describe() -> list[dict[str, str]]:
    """Return one row per task for a table: id, title, levels, format, access, metric."""
    return [
        {
            "task": known.name,
            "title": known.title,
            "levels": "+".join(str(level) for level in sorted({part.level for part in known.components})),
            "format": known.format,
            "access": known.access,
            "metric": known.primary_metric,
        }
        for known in map(task, task_names())
    ]


@cache
def _task(own: Path | None, name: str) -> TaskConfig:
    return compose(task=name).tasks[name]  # own is the cache's key only
