"""Checkpoints of a stranger: nothing outside their folder is read, and an older whole one is taken."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from kaggle_kit.core.records import sha256_of
from kaggle_kit.training.checkpoint import MANIFEST, DamagedCheckpoint, read_checkpoint
from tests.training.test_checkpoint import manager, saved


def signed_anew(checkpoint: Path, **changes) -> None:
    """Change the manifest as a stranger would who knows how it is sealed."""
    manifest = json.loads((checkpoint / MANIFEST).read_text()) | changes
    manifest.pop("sha256")
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))


def sealed(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_outside_the_folder_is_never_read(tmp_path, absolute):
    saved(tmp_path / "own", 1)
    outside = tmp_path / "outside.json"
    outside.write_text('{"secret": 1}')
    name = str(outside) if absolute else "../../outside.json"
    signed_anew(tmp_path / "own" / "step-000001", files={name: sealed(outside)})
    with pytest.raises(DamagedCheckpoint, match=r"outside\.json"):
        read_checkpoint(tmp_path / "own" / "step-000001")


@pytest.mark.parametrize("name", ["pipe.json", "x" * 300, "..", "", "\0"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, name):
    """A pipe that nobody writes to was read for ever; a name too long for the disk raised an OSError."""
    saved(tmp_path, 1)
    os.mkfifo(tmp_path / "step-000001" / "pipe.json")
    signed_anew(tmp_path / "step-000001", files={name: {"bytes": 0, "sha256": ""}})
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(tmp_path / "step-000001")


def test_a_link_is_neither_a_file_of_a_checkpoint_nor_a_checkpoint(tmp_path):
    saved(tmp_path / "own", 1)
    state, outside = tmp_path / "own" / "step-000001" / "state.json", tmp_path / "outside.json"
    state.rename(outside)
    state.symlink_to(outside)
    with pytest.raises(DamagedCheckpoint, match=r"state\.json"):
        read_checkpoint(tmp_path / "own" / "step-000001")
    (tmp_path / "own" / "step-000002").symlink_to(saved(tmp_path / "other", 2).folder / "step-000002")
    with pytest.raises(DamagedCheckpoint, match="link"):
        read_checkpoint(tmp_path / "own" / "step-000002")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"state": ' + "[" * 100_000, b"\xff\xfe"])
def test_the_older_checkpoint_is_taken_where_a_sealed_file_cannot_be_read(tmp_path, content):
    saved(tmp_path, 1, 2)
    newest = tmp_path / "step-000002"
    files = json.loads((newest / MANIFEST).read_text())["files"]
    for name in ("state.json", "parameters.safetensors"):
        (newest / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        files[name] = sealed(newest / name)
    signed_anew(newest, files=files)
    with manager(tmp_path) as checkpoints:
        assert checkpoints.newest().path.name == "step-000001"


@pytest.mark.parametrize("changes", [{"files": None}, {"files": {}}, {"identity": 3}, {"files": {"a": 1}}])
def test_a_manifest_that_is_none_is_passed_over(tmp_path, changes):
    saved(tmp_path, 1, 2)
    signed_anew(tmp_path / "step-000002", **changes)
    with manager(tmp_path) as checkpoints:
        assert checkpoints.newest().path.name == "step-000001"
