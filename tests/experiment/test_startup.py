"""The table at the top of a page, and what stops the page there."""

from __future__ import annotations

from collections import namedtuple

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import startup
from kaggle_kit.models.decisions import Decision
from kaggle_kit.training.session import SessionClock


@pytest.fixture
def run(tmp_path):
    return start_run(compose(task="semeval2017t3"), page="toy", runs_dir=tmp_path)


def rows(findings: list[startup.Finding]) -> dict[str, str]:
    return {finding.what: finding.found for finding in findings}


def test_the_table_says_what_was_found_and_what_will_be_done(run):
    clock = SessionClock(limit_hours=11.5, started=0.0, now=lambda: 1800.0)
    found = rows(startup.check_startup(compose(task="semeval2017t3"), run, clock))
    assert list(found) == ["device", "kernel", "disk", "session", "packages", "batch", "run"]
    assert found["device"].startswith("cpu") and found["device"].endswith("asked for: cpu")
    assert found["kernel"].startswith("float32 product and gradient right to")
    assert found["session"].startswith("11.00 of 11.5 h left; the run pauses before")
    assert found["batch"] == "micro-batches of 2,048 tokens, as configured"
    assert found["run"] == "fresh: smoke gate of 50 steps, then training"


def test_a_run_with_checkpoints_is_said_to_go_on_from_them(run):
    (run.checkpoints / "shared" / "step-000400").mkdir(parents=True)
    (run.checkpoints / "own" / "step-000020").mkdir(parents=True)
    run.pause(reason="SIGTERM")
    found = rows(startup.check_startup(compose(task="semeval2017t3"), run))
    assert found["run"] == "goes on from the checkpoint of step 420, paused by SIGTERM"


def test_a_gpu_that_was_asked_for_and_is_not_there_stops_the_page(run, monkeypatch):
    monkeypatch.setattr(startup.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        startup.check_startup(
            compose(task="semeval2017t3", profile="open", overrides=["profile.device=cuda"]), run
        )


def test_an_allocator_that_ignores_the_setting_is_found_on_a_gpu(run, monkeypatch):
    ignored = Decision("fixed segments", "read back from the allocator; call set_allocator() first")
    cuda = {
        "is_available": lambda: True,
        "get_device_capability": lambda: (7, 5),
        "mem_get_info": lambda: (14 * startup.GIB, 15 * startup.GIB),
        "get_device_name": lambda: "Tesla T4",
    }
    for name, said in cuda.items():
        monkeypatch.setattr(startup.torch.cuda, name, said)
    monkeypatch.setattr(startup, "allocator_in_force", lambda: ignored)
    monkeypatch.setattr(startup, "_kernel", lambda *_: startup.Finding("kernel", "right"))
    asked = compose(task="semeval2017t3", overrides=["profile.device=cuda"])
    found = rows(startup.check_startup(asked, run))
    assert found["allocator"] == f"{ignored.value}, {ignored.reason}"


def test_everything_that_stops_the_page_is_told_at_once(run, monkeypatch):
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr(startup.shutil, "disk_usage", lambda _: Usage(1024**2))
    monkeypatch.setattr(startup, "_kernel", lambda *_: startup.Finding("kernel", "none", "no kernel runs"))
    with pytest.raises(startup.StartupError) as caught:
        startup.check_startup(compose(task="semeval2017t3"), run)
    assert "0.0 GiB are free" in str(caught.value)
    assert "no kernel runs" in str(caught.value)


def test_a_device_without_a_fitting_kernel_is_told_by_its_own_word():
    found = startup._kernel("meta", startup.torch.float32)
    assert found.problem.startswith("no kernel runs on meta: ")
