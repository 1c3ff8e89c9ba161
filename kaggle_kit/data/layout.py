"""Where a corpus's splits lie below its root, by the globs of its task.

files(task, root, "train")      # every annotation file of the split, in a fixed order
"""

from __future__ import annotations

from pathlib import Path

from kaggle_kit.core.schema import TaskConfig
from kaggle_kit.data.formats import format_module
from kaggle_kit.data.formats.base import leftover


def splits(task: TaskConfig) -> list[str]:
    """The splits a corpus has on disk, in the order of the layout; held-out ones are cut from these."""
    return list(dict.fromkeys(key.partition("@")[0] for key in task.layout))


def globs(task: TaskConfig, split: str) -> list[str]:
    """The globs of a split; those of `split@value` where an option of the task has that value."""
    for value in task.options.values():
        if f"{split}@{value}" in task.layout:
            return task.layout[f"{split}@{value}"]
    return task.layout.get(split, [])


def holds(task: TaskConfig, root: Path) -> bool:
    """Whether any split's glob matches below the folder."""
    patterns = [pattern for split in splits(task) for pattern in globs(task, split)]
    return root.is_dir() and any(next(root.glob(pattern), None) is not None for pattern in patterns)


def files(task: TaskConfig, root: Path, split: str) -> list[Path]:
    """The split's files; a folder that matches stands for the files its format finds in it."""
    find = format_module(task.format).find
    globbed = [path for pattern in globs(task, split) for path in sorted(root.glob(pattern))]
    matches = [path for path in globbed if not leftover(path.relative_to(root))]
    found = [path for match in matches for path in (find(match) if match.is_dir() else [match])]
    return list(dict.fromkeys(found))
