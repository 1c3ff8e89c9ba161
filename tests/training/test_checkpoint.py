"""Checkpoint folders: complete or not there, whatever happens to the process, the files or the disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.training import checkpoint as files
from kaggle_kit.training.checkpoint import (
    CheckpointError,
    CheckpointManager,
    DamagedCheckpoint,
    identity,
    stored_facts,
)
from kaggle_kit.training.state import TrainingState

FORK = multiprocessing.get_context("fork")


def state(step: int, size: int = 100, **told) -> TrainingState:
    """A state whose every tensor says which step it is of."""
    documents = {
        "trainer_state": {"global_step": step},
        "state": {"tokens": {"step": step}, "ended": False, "versions": {}, **told},
    }
    return TrainingState(documents, {"parameters": {"w": torch.full((size,), float(step))}})


def manager(folder: Path, **options) -> CheckpointManager:
    return CheckpointManager(folder, **{"identity": {"plan": "aa"}} | options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def saved(folder: Path, *steps: int, **options) -> CheckpointManager:
    made = manager(folder, **options)
    with made:
        for step in steps:
            made.save(state(step))
    return made


def test_the_last_two_and_the_best_are_kept(tmp_path):
    with manager(tmp_path) as checkpoints:
        for step in (200, 400, 600, 800, 1000):
            checkpoints.save(state(step), best=step in (200, 400))
    assert names(tmp_path) == ["step-000400", "step-000800", "step-001000"]
    assert checkpoints.best().name == "step-000400"


def test_what_is_loaded_is_what_was_saved(tmp_path):
    newest = saved(tmp_path, 200, 400).newest()
    assert newest.path.name == "step-000400" and newest.skipped == ()
    assert newest.state.step == 400
    assert torch.equal(newest.state.tensors["parameters"]["w"], torch.full((100,), 400.0))
    assert newest.state.documents == state(400).documents


def test_a_step_that_is_saved_again_does_not_touch_the_first_copy_until_the_second_is_whole(tmp_path):
    checkpoints = saved(tmp_path, 200, 400)
    with checkpoints:
        assert checkpoints.save(state(400)).name == "step-000400-2"
    assert names(tmp_path) == ["step-000400", "step-000400-2"]
    assert checkpoints.newest().path.name == "step-000400-2"


DAMAGES = {
    "a truncated file": (lambda p: os.truncate(p / "parameters.safetensors", 20), "20 bytes instead of"),
    "a flipped bit": (lambda p: flip(p / "parameters.safetensors", -1), "its sha256 differs"),
    "a missing file": (lambda p: (p / "state.json").unlink(), "No such file"),
    "a missing manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json: No such file"),
    "an empty manifest": (lambda p: os.truncate(p / "manifest.json", 0), "Expecting value"),
    "a changed manifest": (
        lambda p: edit(p / "manifest.json", '"best": false', '"best": true '),
        "own sha256",
    ),
}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_the_reason_and_the_one_before_it_loaded(tmp_path, damage):
    harm, reason = DAMAGES[damage]
    checkpoints = saved(tmp_path, 200, 400)
    harm(tmp_path / "step-000400")
    with checkpoints:
        newest = checkpoints.newest()
        assert newest.state.step == 200
        assert len(newest.skipped) == 1 and "step-000400" in newest.skipped[0] and reason in newest.skipped[0]
        assert names(tmp_path) == ["damaged-step-000400", "step-000200"]
        checkpoints.save(state(400))
    assert names(tmp_path) == ["step-000200", "step-000400"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(["manifest.json", "parameters.safetensors", "state.json"]), data=st.data())
def test_no_flipped_bit_of_any_file_is_ever_loaded(tmp_path_factory, file, data):
    folder = tmp_path_factory.mktemp("flip")
    path = files.write_checkpoint(
        folder, "step-000001", {"state": {"a": [1, 2]}}, {"parameters": {"w": torch.ones(3)}}, {"step": 1}
    )
    content = bytearray((path / file).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    (path / file).write_bytes(content)
    try:
        manifest, documents, tensors = files.read_checkpoint(path)
    except DamagedCheckpoint:
        return
    # white space of the manifest is the one thing that may change
    assert file == "manifest.json" and manifest["step"] == 1 and documents == {"state": {"a": [1, 2]}}


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, 200, 400)
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=files.RESERVE_BYTES + 399))
    with checkpoints, pytest.raises(CheckpointError, match="step-000600 failed.*are free"):
        checkpoints.save(state(600))
    assert names(tmp_path) == ["step-000200", "step-000400"]


@pytest.mark.parametrize("call", range(8))
def test_a_disk_that_fills_while_writing_costs_the_new_checkpoint_only(tmp_path, monkeypatch, call):
    checkpoints = saved(tmp_path, 200, 400)
    calls = iter(range(100))
    fsync = os.fsync

    def fails_once(descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fails_once)
    with checkpoints:
        try:
            checkpoints.save(state(600))
        except CheckpointError as error:
            assert "No space left on device" in str(error)
            assert (
                {"step-000200", "step-000400"}
                <= set(names(tmp_path))
                <= {"step-000200", "step-000400", "step-000600"}
            )
    assert checkpoints.newest().state.step in (400, 600)


def _save_under_a_limit(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    with manager(folder) as checkpoints:
        try:
            checkpoints.save(state(600, size=100_000))
        except CheckpointError as error:
            os._exit(7 if "File too large" in str(error) else 8)
    os._exit(0)


def test_a_write_refused_by_the_system_itself_costs_the_new_checkpoint_only(tmp_path):
    saved(tmp_path, 200, 400)
    process = FORK.Process(target=_save_under_a_limit, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert names(tmp_path) == ["step-000200", "step-000400"]


def _save_forever(folder: Path) -> None:
    with manager(folder) as checkpoints:
        newest = checkpoints.newest().state
        for step in range(newest.step + 1 if newest else 1, 100_000):
            checkpoints.save(state(step, size=20_000), best=step % 7 == 0)


def test_a_process_killed_in_the_middle_of_saves_always_leaves_a_whole_newest_checkpoint(tmp_path):
    reached = 0
    for number in range(12):
        process = FORK.Process(target=_save_forever, args=(tmp_path,))
        process.start()
        time.sleep(0.05 + 0.013 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        newest = manager(tmp_path).newest()
        assert newest.skipped == ()
        step = newest.state.step if newest.state else 0
        assert step >= reached
        if newest.state:
            assert torch.equal(newest.state.tensors["parameters"]["w"], torch.full((20_000,), float(step)))
        reached = step
    assert reached > 5
    with manager(tmp_path):
        assert not [name for name in names(tmp_path) if name.startswith((files.TEMPORARY, files.DISCARDED))]


def _try_to_lock(folder: Path) -> None:
    try:
        with manager(folder):
            os._exit(0)
    except RunFolderError as error:
        os._exit(5 if f"in use by process {os.getppid()}" in str(error) else 6)


def test_a_second_process_is_refused_and_let_in_when_the_first_has_gone(tmp_path):
    with manager(tmp_path):
        process = FORK.Process(target=_try_to_lock, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == 5
    process = FORK.Process(target=_try_to_lock, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_the_lock_of_a_killed_process_is_not_stale(tmp_path):
    process = FORK.Process(target=_save_forever, args=(tmp_path,))
    process.start()
    while not (tmp_path / ".lock").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with manager(tmp_path) as checkpoints:
        assert (checkpoints.folder / ".lock").read_text() == str(os.getpid())


def test_another_identity_is_refused_with_every_key_that_differs(tmp_path):
    before = identity(config={"seed": 1, "training": {"epochs": 3.0}}, corpus={"ncbi": "ff"}, plan="aa")
    assert before == {"config.seed": "1", "config.training.epochs": "3.0", "corpus.ncbi": "ff", "plan": "aa"}
    saved(tmp_path, 200, identity=before)
    now = before | {"config.seed": "2", "corpus.ncbi": "00"}
    with pytest.raises(RunFolderError) as refused:
        manager(tmp_path, identity=now).newest()
    assert "config.seed: 1 in the checkpoint, 2 now" in str(refused.value)
    assert "corpus.ncbi: ff in the checkpoint, 00 now" in str(refused.value)
    assert "epochs" not in str(refused.value)
    with pytest.raises(RunFolderError, match="corpus.ncbi"):
        manager(tmp_path, identity=now, allow=["config.*"]).newest()
    assert manager(tmp_path, identity=now, allow=["config.seed", "corpus.ncbi"]).newest().state.step == 200


def test_the_facts_of_the_newest_checkpoint_can_be_read_without_a_model(tmp_path):
    assert stored_facts(tmp_path) == {}
    saved(tmp_path, 200, facts={"token_budget": 4096})
    assert stored_facts(tmp_path) == {"token_budget": 4096}


def test_a_log_is_cut_after_the_step_with_the_line_that_a_crash_tore(tmp_path):
    log = tmp_path / "events.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in range(1, 6)]
    log.write_text("".join(lines) + '{"ste')
    checkpoints = manager(tmp_path, logs=[log, tmp_path / "absent.jsonl"])
    for step in (9, 3):
        checkpoints.rewind_logs(step)
        assert log.read_text() == "".join(lines[:step])
