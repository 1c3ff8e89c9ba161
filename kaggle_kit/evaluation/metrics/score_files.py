"""What the official programs read of a folder, with the leftovers of systems and editors read past.

for line in file_lines(path): ...
"""

from __future__ import annotations

from pathlib import Path

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.data.formats.base import leftover


def folder_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The folder's own files that match, sorted; hidden ones and those of a Mac's archive are none."""
    return sorted(
        path for path in folder.glob(pattern) if path.is_file() and not leftover(path.relative_to(folder))
    )


def file_lines(path: Path) -> list[bytes]:
    """The file's lines as the Perl and Python scripts see them: LF alone ends one, a CR before it stays.

    Raises ScoreError for a file whose lines end in CR alone, which those scripts take for a single line.
    """
    raw = path.read_bytes()
    if b"\r" in raw.rstrip() and b"\n" not in raw.rstrip():
        raise ScoreError(f"{path}: found lines that end in CR alone; write the file with LF at its line ends")
    return raw.removesuffix(b"\n").split(b"\n") if raw else []
