"""What the open maps of a configuration may hold: `experiment`, and a task's `options` and splits.

    unknown_experiment({"name": "ood", "split": "test"}, ["spilt"], "dev")     # one problem, with the nearest

An experiment's file says which keys it reads. Beside them, any run may be given those of `ANY_RUN`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from kaggle_kit.core.errors import nearest
from kaggle_kit.core.schema import PracticeConfig, TaskConfig

ANY_RUN: Mapping[str, Any] = {
    # what best.yaml of a search adds
    "tuning": {"trials": 0, "split": None, "study": None, "target_tokens": None},
    "candidates": [],  # ids of the runs that S5 chooses among, as a study sets them
    "test": "welch",  # from here on: how the judge decides, beside alpha and margin
    "estimand": "mean",
    "power": 0.8,
    "resamples": 10_000,
    "seeds": [],
    "looks": [],
}
FREE = ("types", "space")  # maps whose keys are the user's own words
PRACTICE = {field.name: None for field in fields(PracticeConfig)}
SPLITS = ("train", "dev", "test")
EVERY_FORMAT = ("text_folder",)  # where texts lie that are not beside their annotations
OPTIONS = {"cqa": ("subtask",)}  # format -> what else its reader looks at


def unknown_experiment(declared: Mapping[str, Any], path: Sequence[str], value: Any) -> Iterator[str]:
    """What an override of `experiment.<path>` names that neither the experiment's file nor `ANY_RUN` does."""
    known = {**ANY_RUN, **declared}
    if "practice" in known:
        known["practice"] = PRACTICE
    yield from _unknown("experiment", known, path, value)


def unknown_in_task(place: str, task: TaskConfig) -> Iterator[str]:
    """Options that the reader of the task's format does not look at, and splits that there are not."""
    for name, splits in (("layout", task.layout), ("held_out", task.held_out)):
        for key in splits:
            if (split := key.partition("@")[0]) not in SPLITS:
                listed = f"{', '.join(SPLITS)}{nearest(split, SPLITS)}"
                yield f"unknown key '{place}.{name}.{key}'; allowed: {listed}"
    allowed = (*OPTIONS.get(task.format, ()), *EVERY_FORMAT)
    for key in task.options:
        if key not in allowed:
            yield (
                f"unknown key '{place}.options.{key}'; format {task.format} allows: "
                f"{', '.join(allowed)}{nearest(key, allowed)}"
            )


def _unknown(place: str, known: Mapping[str, Any], path: Sequence[str], value: Any) -> Iterator[str]:
    if not path:
        for key, inner in value.items() if isinstance(value, Mapping) else ():
            yield from _unknown(place, known, [str(key)], inner)
        return
    key, *rest = path
    here = f"{place}.{key}"
    if key not in known:
        yield f"unknown key {here!r}; allowed: {', '.join(sorted(known))}{nearest(key, known)}"
    elif isinstance(known[key], Mapping) and known[key] and key not in FREE:
        yield from _unknown(here, known[key], rest, value)
