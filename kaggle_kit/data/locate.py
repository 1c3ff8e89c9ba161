"""Where a corpus lies, found in one fixed order and never guessed.

    root = locate(task("ncbi_disease"))

The order: the task's `path` · the environment · the Kaggle mounts · `data/`. A place that somebody
named must hold the corpus; one that is merely usual may lack it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kaggle_kit.core.errors import CorpusMissing
from kaggle_kit.core.runtime import KAGGLE_INPUT
from kaggle_kit.core.schema import TaskConfig
from kaggle_kit.data.layout import globs, holds, splits

REPOSITORY = Path(__file__).resolve().parents[2]


def locate(
    task: TaskConfig,
    *,
    working_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    kaggle_input: Path = KAGGLE_INPUT,
) -> Path:
    """The root folder of a corpus: the first place below which the task's layout matches.

    Raises CorpusMissing with every place looked at and the steps to get the corpus; at once when
    a named place (`path`, `$KAGGLE_KIT_<TASK>`) does not hold it. Never falls back to practice data.
    """
    environ = os.environ if environ is None else environ
    looked_at: list[str] = []
    for origin, place in _named(task, environ):
        if not holds(task, place):
            raise CorpusMissing(_missing(task, [f"{origin}: {_state(place)}"]))
        return place
    for origin, place in _usual(task, working_dir or Path.cwd(), environ, kaggle_input):
        if holds(task, place):
            return place
        looked_at.append(f"{origin}: {_state(place)}")
    raise CorpusMissing(_missing(task, looked_at))


def variable(task: TaskConfig) -> str:
    """The environment variable that names one corpus's folder, such as KAGGLE_KIT_NCBI_DISEASE."""
    return f"KAGGLE_KIT_{task.name.upper()}"


def _named(task: TaskConfig, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if task.path:
        yield f"tasks.{task.name}.path", Path(task.path).expanduser()
    if named := environ.get(variable(task)):
        yield f"${variable(task)}", Path(named).expanduser()


def _usual(
    task: TaskConfig, working_dir: Path, environ: Mapping[str, str], kaggle_input: Path
) -> Iterator[tuple[str, Path]]:
    if data := environ.get("KAGGLE_KIT_DATA"):
        yield "$KAGGLE_KIT_DATA", Path(data).expanduser() / task.name
    for slug in task.slugs:
        yield "Kaggle mount", kaggle_input / slug
        owned = sorted((kaggle_input / "datasets").glob(f"*/{slug}"))
        for place in owned or [kaggle_input / "datasets" / "<owner>" / slug]:
            yield "Kaggle mount", place
    yield "working directory", working_dir / "data" / task.name
    if working_dir.resolve() != REPOSITORY:
        yield "repository", REPOSITORY / "data" / task.name


def _state(place: Path) -> str:
    if not place.exists():
        return f"{place} (not there)"
    return f"{place} (there, but nothing in it matches)"


def _missing(task: TaskConfig, looked_at: list[str]) -> str:
    layout = "\n".join(f"  {split}: {' | '.join(globs(task, split))}" for split in splits(task))
    places = "\n".join(f"  {place}" for place in looked_at)
    steps = "\n".join(f"  {line}" for line in task.obtain.strip().splitlines())
    return (
        f"corpus {task.name!r} ({task.title}) was not found.\n"
        f"Looked at:\n{places}\n"
        f"A folder counts if one of these matches below it:\n{layout}\n"
        f"How to get it:\n{steps}\n"
        f"Then set tasks.{task.name}.path or ${variable(task)} to the folder, "
        f"or put it at data/{task.name}."
    )
