"""JSON on disk: whole files replaced at once, and logs that grow by one line.

append_record(path, {"step": 1, "loss": 0.7}); records = read_records(path)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from kaggle_kit.core.disk import writing
from kaggle_kit.core.errors import RunFolderError


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, array and tensor scalars become numbers."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and hand it to the system at once, so that a crash loses at most the last one."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Every line of a log; none where the file is absent.

    A last line without its line end was cut by a crash and is left out; any other line that is not
    JSON raises RunFolderError with path and line.
    """
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise RunFolderError(
                f"{path}:{number}: not JSON ({error}); the log is damaged: delete that "
                "line, or run the page again in a new folder"
            ) from error
    return records


def write_atomically(path: Path, text: str) -> Path:
    """Replace a file at once: a reader, or a crash, meets the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # containers may share process ids
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
