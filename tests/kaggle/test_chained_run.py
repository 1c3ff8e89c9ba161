"""A chain over real sessions: the real client, real execution, kills and drops, and one result."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment.page_run import run_page
from kaggle_kit.kaggle.build import Experiment, build_experiment
from kaggle_kit.kaggle.chain import Chain, Link, Phase
from kaggle_kit.kaggle.client import KaggleClient
from tests.kaggle_service.counting import COUNTING
from tests.kaggle_service.service import Fault, KaggleService

PLANTED = "wandb-planted-0123456789abcdef"


def reached(step: int):
    return lambda working: any(working.glob(f"runs/*/checkpoints/step-{step:06d}/state.json"))


def state_files(run: RunFolder) -> dict[str, str]:
    return {str(path.relative_to(run.path)): path.read_text() for path in run.checkpoints.rglob("*.json")}


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "counting.py").write_text(COUNTING)
    return tmp_path / "pages"


@pytest.mark.slow
def test_a_run_chained_over_five_sessions_two_of_them_killed_equals_a_local_run(tmp_path, pages):
    choices = {"model": "tiny", "task": "semeval2017t3"}
    folder = run_page("counting", **choices, runs_dir=tmp_path / "local", progress=False, pages_dir=pages)
    local = RunFolder.open(folder)

    faults = {
        2: Fault(reached(20), environ={"HANG_AT": "20"}),  # killed; its output can be read, not mounted
        4: Fault(reached(35), lose_output=True, environ={"HANG_AT": "35"}),  # killed; nothing is left
    }
    environ = {"STEPS_PER_SESSION": "15", "WANDB_API_KEY": PLANTED}
    with KaggleService(tmp_path / "kaggle", faults=faults, environ=environ) as service:
        service.answers = {"SaveKernel": [(200, {"error": "Maximum batch GPU session count of 2 reached."})]}
        service.drops = {"SaveKernel": ["", "after"], "GET": ["half"], "GetKernelSessionStatus": ["before"]}
        built = build_experiment(
            Experiment.of("counting", pages, **choices), tmp_path / "built", "jane", pages_dir=pages
        )
        link = Link.begin(tmp_path / "chain", built)
        Chain(KaggleClient(service.environ), [link], poll=0.3, longest=1.0).run()
        sessions = service.sessions(link.ref)

    assert link.phase is Phase.DONE, link.note
    states = ["COMPLETE", "CANCEL_ACKNOWLEDGED", "COMPLETE", "CANCEL_ACKNOWLEDGED", "COMPLETE"]
    assert [session.status for session in sessions] == states
    assert [session.mounts for session in sessions] == [
        [],
        [f"{link.ref}/1"],
        [f"{link.ref}/1"],
        [f"{link.ref}/3"],
        [f"{link.ref}/3"],
    ]
    chained = RunFolder.open(link.output)
    assert chained.run_id == local.run_id
    for fact in ("value", "config_hash", "totals"):
        assert chained.manifest()[fact] == local.manifest()[fact]
    assert state_files(chained) == state_files(local)
    assert chained.manifest()["environment"]["kaggle"] == "Batch"

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 50
    assert [path for path in written if PLANTED.encode() in path.read_bytes()] == []
