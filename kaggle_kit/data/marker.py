"""The mark of a practice corpus: a file with the checksum of every file that the generator wrote.

mark(root); check_marker(root)     # Marked(some=True, all=True)

A name proves nothing: `practice` is also what a general practice calls its notes.
"""

import json
from pathlib import Path
from typing import NamedTuple

from kaggle_kit.core.records import sha256_of
from kaggle_kit.data.formats.base import corpus_files

MARKER = "practice.json"


class Marked(NamedTuple):
    """Whether the generator wrote some of the files below a folder, and all of them."""

    some: bool
    all: bool


def mark(root: Path) -> None:
    """Write the checksums of all files below `root` into its marker."""
    sums = {path.relative_to(root).as_posix(): sha256_of(path) for path in _files(root)}
    (root / MARKER).write_text(json.dumps({"written by": "kaggle_kit", "files": sums}), encoding="utf-8")


def check_marker(root: Path) -> Marked:
    """Check whether any, and whether all, files are the generator's, unedited; missing ones do not matter."""
    try:
        sums = json.loads((root / MARKER).read_text(encoding="utf-8"))["files"]
        known = [sums.get(path.relative_to(root).as_posix()) == sha256_of(path) for path in _files(root)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Marked(False, False)
    return Marked(any(known), bool(known) and all(known))


def _files(root: Path) -> list[Path]:
    return [path for path in corpus_files(root, "") if path.name != MARKER]
