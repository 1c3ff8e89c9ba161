"""Where a corpus lies, found in one fixed order and never guessed, and the files of its splits.

    root = locate(task("ncbi_disease"))
    split_files(task("ncbi_disease"), root, "train")

The order: the task's `path` · the environment · the Kaggle mounts · `data/` · the hub, for a task with
`options.dataset`. A place that somebody named must hold the corpus; one that is merely usual may lack it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kaggle_kit.core.errors import CorpusMissing
from kaggle_kit.core.runtime import KAGGLE_INPUT
from kaggle_kit.core.schema import TaskConfig
from kaggle_kit.core.secrets import HUB, hub_fault, read_secret
from kaggle_kit.data.formats import format_module
from kaggle_kit.data.formats.base import leftover

REPOSITORY = Path(__file__).resolve().parents[2]


def locate(
    task: TaskConfig,
    *,
    working_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    kaggle_input: Path = KAGGLE_INPUT,
) -> Path:
    """Return the root folder of a corpus: the first place below which the task's layout matches.

    Raises CorpusMissing with every place looked at and the steps to get the corpus; at once when
    a named place (`path`, `$KAGGLE_KIT_<TASK>`) does not hold it. Never falls back to practice data.
    """
    environ = os.environ if environ is None else environ
    patterns = [pattern for split in splits(task) for pattern in globs(task, split)]
    looked_at = []
    for origin, place in _places(task, working_dir or Path.cwd(), environ, kaggle_input):
        if place.is_dir() and any(next(place.glob(pattern), None) is not None for pattern in patterns):
            return place
        state = "there, but nothing in it matches" if place.exists() else "not there"
        looked_at.append(f"{origin}: {place} ({state})")
        if task.path or environ.get(variable(task)):
            break
    raise CorpusMissing(_missing(task, looked_at))


def variable(task: TaskConfig) -> str:
    """Return the environment variable that names one corpus's folder, such as KAGGLE_KIT_NCBI_DISEASE."""
    return f"KAGGLE_KIT_{task.name.upper()}"


def splits(task: TaskConfig) -> list[str]:
    """Return the splits on disk, in the order of the layout; held-out ones are cut from these."""
    return list(dict.fromkeys(key.partition("@")[0] for key in task.layout))


def globs(task: TaskConfig, split: str) -> list[str]:
    """Return the globs of a split; those of `split@value` where an option of the task has that value."""
    for value in task.options.values():
        if f"{split}@{value}" in task.layout:
            return task.layout[f"{split}@{value}"]
    return task.layout.get(split, [])


def split_files(task: TaskConfig, root: Path, split: str) -> list[Path]:
    """Return the split's files in a fixed order; a matching folder stands for those found in it."""
    find = format_module(task.format).find
    globbed = [path for pattern in globs(task, split) for path in sorted(root.glob(pattern))]
    matches = [path for path in globbed if not leftover(path.relative_to(root))]
    found = [path for match in matches for path in (find(match) if match.is_dir() else [match])]
    return list(dict.fromkeys(found))


def _places(
    task: TaskConfig, working_dir: Path, environ: Mapping[str, str], kaggle_input: Path
) -> Iterator[tuple[str, Path]]:
    if task.path:
        yield f"tasks.{task.name}.path", Path(task.path).expanduser()
    if named := environ.get(variable(task)):
        yield f"${variable(task)}", Path(named).expanduser()
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
    if dataset := task.options.get("dataset"):
        patterns = [pattern for split in splits(task) for pattern in globs(task, split)]
        yield "hub", hub_folder(dataset, task.options.get("revision"), patterns)


def hub_folder(dataset: str, revision: str | None = None, patterns: Iterable[str] = ("*",)) -> Path:
    """Return the folder in the hub's cache with the files of a dataset that match, or lie below a match.

    They are downloaded once. Raises CorpusMissing where the hub does not give them.
    """
    from huggingface_hub import snapshot_download

    named = [way for pattern in patterns for way in (pattern, pattern.removeprefix("**/"), f"{pattern}/*")]
    settings = {"revision": revision, "allow_patterns": named, "token": read_secret(HUB)}
    try:
        return Path(snapshot_download(dataset, repo_type="dataset", **settings))
    except (OSError, ValueError) as error:
        fault = hub_fault(error, "file of it")
        raise CorpusMissing(f"dataset {dataset!r} lies in no folder here, and {fault}") from error


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
