"""JSON on disk: whole files replaced at once, and logs that grow by one line.

append_record(path, {"step": 1, "loss": 0.7}); records = read_records(path)
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from kaggle_kit.core.disk import writing
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.integrity import reading


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON: NaN and infinities become null, array and tensor scalars become numbers."""
    return json.dumps(plain(value, finite=True), ensure_ascii=False, allow_nan=False, indent=indent)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and hand it to the system at once, so that a crash loses at most the last one."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the object in every line of a log; none where the file is absent.

    A last line without its line end was cut by a crash and is left out; any other line that is not a
    JSON object raises RunFolderError with path and line.
    """
    if not path.is_file():
        return []
    with reading(path):
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        if isinstance(record := json.loads(line), dict):
            return record
        problem = "no object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    then = "delete that line, or run the page again in a new folder"
    raise RunFolderError(f"{where}: not a JSON object ({problem}); the log is damaged: {then}")


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


def plain(value: Any, *, finite: bool = False) -> Any:
    """Return Python's own mappings, lists and numbers for those of any library; `finite`: null for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, finite=finite) for item in value]
    value = value.item() if hasattr(value, "item") else value  # a scalar of numpy or torch
    return None if finite and isinstance(value, float) and not math.isfinite(value) else value


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots; lists and empty mappings are values."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        values |= flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return values
