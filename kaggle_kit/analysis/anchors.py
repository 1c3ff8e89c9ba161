"""Between which figures a task's scores lie: a trivial baseline and the best published score.

    published_best(task), trivial_baseline(task)     # .8843 and .7261 of cQA subtask A: chronological order
    scale(task, practice=False)                      # {"unit": 0.1582, "trivial": …, "why": …}

`task` is a task's configuration as plain values. One point of F1 and one of MAP are not the same size; in
units of this distance they can be averaged over tasks.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kaggle_kit.core.errors import ConfigError

DECLARED_UNIT = 1.0  # a whole score, where no published distance is known


def published_best(task: Mapping[str, Any]) -> float | None:
    """Return the best published figure of a task's primary metric, as its configuration quotes it.

    A task with subtasks (2017 Task 3) quotes one system per subtask and names the subtask with it. What was
    measured with gold entities given counts for such a task alone.
    """
    return max(_quoted(task, task.get("published_best", ())), default=None)


def trivial_baseline(task: Mapping[str, Any]) -> float | None:
    """Return the best quoted figure without any model; for an F1 without a quote 0, that of no answer."""
    quoted = max(_quoted(task, task.get("trivial_baselines", ())), default=None)
    return 0.0 if quoted is None and "f1" in task["primary_metric"] else quoted


def metric_kind(metric: str) -> str:
    """Return the kind of score that a margin or a spread is declared for: map or f1."""
    return "map" if metric.startswith("map") else "f1"


def scale(task: Mapping[str, Any], practice: bool) -> dict[str, Any]:
    """Return the unit of a task's score over all tasks, and why. ConfigError where it is not above 0."""
    best, trivial = (None, None) if practice else (published_best(task), trivial_baseline(task))
    if best is None or trivial is None:
        why = "practice data" if practice else "no published score or trivial baseline is known"
        return {"unit": DECLARED_UNIT, "trivial": None, "published": None, "why": f"{why}: a whole score"}
    if best <= trivial:
        values = f"the best published {task['primary_metric']} is {best:g}, the trivial baseline {trivial:g}"
        raise ConfigError(f"tasks.{task['name']}: {values}; allowed: a best one above it. Correct its file")
    why = f"from the trivial baseline {trivial:g} to the best published score {best:g}"
    return {"unit": best - trivial, "trivial": trivial, "published": best, "why": why}


def _quoted(task: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> list[float]:
    subtask = task.get("options", {}).get("subtask")
    return [
        result["value"]
        for result in results
        if result["metric"] == task["primary_metric"]
        and (task.get("gold_entities") or not result.get("gold_entities"))
        and (subtask is None or f"subtask {subtask}" in result["system"])
    ]
