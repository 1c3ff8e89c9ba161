"""Results that stay as their run left them: what the manifest signs, and what no figure may be.

    manifest = signed(folder, manifest)                 # SHA-256 of every result file, and of the manifest
    assert_signed(manifest, path); assert_unchanged(folder, manifest["files"])

This finds what was edited, cut or exchanged. It proves nothing about who ran a page: whoever can write a
run folder can sign it anew.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.records import AGAIN, sha256_of

LOGS = ("events.jsonl", "tokens.jsonl", "trials.jsonl")
TABLES = ("metrics.json", "similarity.json", "affinity.json", "transfer.json")
# What other pages and the verdict read of a finished run, files and folders.
READ = ("config.yaml", "best.yaml", *LOGS, *TABLES, "documents", "best_development", "arms")
SIGNED = (*READ, "predictions", "adapters")
TEXTS = ("run_id", "config_hash", "started", "finished", "device")
FACTS = dict.fromkeys(TEXTS, str) | dict.fromkeys(("flags", "totals", "data_hashes"), dict)  # of a manifest
METRIC = {"name": str, "value": float, "unit": str, "split": str, "n": int, "scorer": str, "task": str}
COUNTS = {"tp", "fp", "fn"}
LARGEST = 2.0**53  # beyond it a count is none


def signed(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the SHA-256 of every result file in `folder`, and its own."""
    facts = dict(manifest) | {"files": _files(folder)}
    return facts | {"sha256": _digest(facts)}


def assert_signed(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise RunFolderError for a manifest that is incomplete, unsigned, or was edited."""
    if manifest.get("complete") is not True:
        raise RunFolderError(f"{path} does not say complete: true; {AGAIN}")
    for name, kind in FACTS.items():
        if not isinstance(manifest.get(name), kind):
            raise RunFolderError(f"{path}: {name} is {manifest.get(name)!r}, no {kind.__name__}; {AGAIN}")
    if not isinstance(manifest.get("files"), dict) or "sha256" not in manifest:
        raise RunFolderError(f"{path} is unsigned: the run finished before results were signed; {AGAIN}")
    if manifest["sha256"] != _digest(manifest):
        raise RunFolderError(f"{path} was edited since the run finished: its own sha256 differs; {AGAIN}")


def assert_unchanged(folder: Path, files: Mapping[str, str], only: Iterable[str] = SIGNED) -> None:
    """Raise RunFolderError naming the files that were edited, removed or added since they were signed."""
    only = tuple(only)
    wanted = {name: digest for name, digest in files.items() if name.partition("/")[0] in only}
    there = _files(folder, only)
    kinds = {
        "edited": sorted(name for name in wanted.keys() & there.keys() if wanted[name] != there[name]),
        "missing": sorted(wanted.keys() - there.keys()),
        "added": sorted(there.keys() - wanted.keys()),
    }
    if found := [f"{', '.join(names)} {kind}" for kind, names in kinds.items() if names]:
        raise RunFolderError(f"{folder}: {'; '.join(found)} since the run finished; {AGAIN}")


def checked_metrics(records: Any, path: Path) -> list[dict[str, Any]]:
    """Return the records of `metrics.json`; RunFolderError naming the field that is no figure."""
    for record in records:
        if not isinstance(record, dict) or record.keys() != METRIC.keys():
            fields = f"{_keys(record)}, not {_keys(METRIC)}"
            raise RunFolderError(f"{path}: a figure has the fields {fields}; {AGAIN}")
        for name, kind in METRIC.items():
            value, where = record[name], f"{path}: {name} of {record['name']} on {record['split']}"
            if kind is str and not isinstance(value, str):
                raise RunFolderError(f"{where} is {value!r}, no text; {AGAIN}")
            if kind is not str:
                _assert_number(value, where, least=0 if kind is int else -LARGEST)
    return records


def checked_documents(records: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return a per-document table; RunFolderError naming the document and the field that is no figure."""
    seen: set[str] = set()
    for record in records:
        name = record.get("document") if isinstance(record, dict) else None
        if not isinstance(name, str) or name in seen:
            raise RunFolderError(f"{path}: document is {name!r}, missing or a second time; {AGAIN}")
        seen.add(name)
        figures = {key: value for key, value in record.items() if key not in ("document", "cluster")}
        if not (figures.keys() >= COUNTS or "value" in figures):
            raise RunFolderError(f"{path}: {name} has neither {_keys(COUNTS)} nor value; {AGAIN}")
        for key, value in figures.items():
            most = 1 if key == "value" else LARGEST
            _assert_number(value, f"{path}: {key} of {name}", least=0, most=most)
    return records


def _assert_number(value: Any, where: str, least: float, most: float = LARGEST) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # false for NaN, too
        bound = "a finite number" if least < 0 else f"a finite number of at least {least}"
        bound += f" and at most {most}" if most < LARGEST else ""
        raise RunFolderError(f"{where} is {value!r}; allowed: {bound}; {AGAIN}")


def _files(folder: Path, names: Iterable[str] = SIGNED) -> dict[str, str]:
    """Path below the folder -> SHA-256; hidden files, which systems leave behind, are no results."""
    found = (path for name in names for path in (folder / name, *(folder / name).rglob("*")))
    files = {path.relative_to(folder).as_posix(): path for path in sorted(found) if path.is_file()}
    return {name: sha256_of(path) for name, path in files.items() if not re.search(r"(^|/)\.", name)}


def _digest(manifest: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _keys(record: Any) -> str:
    return ", ".join(sorted(map(str, record))) if isinstance(record, Iterable) else repr(record)
