"""The study under the real Snakemake: order, interruption, changes, pauses, failures. Pages are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.ops.study import graph, status, workflow
from kaggle_kit.ops.study.workflow import SNAKEFILE

ROOT = Path(__file__).resolve().parents[3]


def order(journal: list[str]) -> list[str]:
    """The pages in the order in which they ended; what reads runs stands behind them."""
    return [line.removeprefix("end ") for line in journal if not line.startswith("begin ")]


@pytest.mark.slow
def test_twins_run_after_their_run_and_the_judge_after_everything_and_nothing_twice(stand_in):
    study = stand_in.study()
    assert stand_in.run() == 0
    journal = stand_in.journal()
    ended = order(journal)
    multi, twins = (study.of_kind(kind) for kind in (graph.MULTI_TASK, graph.TWIN))
    assert set(ended[:6]) == {run.id for run in (*multi, *twins)}
    assert all(ended.index(twin.twin_of) < ended.index(twin.id) for twin in twins)
    assert [line.split()[0] for line in ended[6:]] == ["verdict", "pages", "pages"]
    assert "overview" in ended[-1] and (stand_in.home / "reports" / "rq5_practice.html").is_file()
    assert {line.split()[-1] for line in journal if line.startswith("begin ")} == {"threads=1"}

    manifest = stand_in.places.runs_dir / multi[0].id / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")  # newer than its twins, as a download may be
    assert stand_in.run() == 0
    assert [line.split()[0] for line in stand_in.journal()] == ["verdict", "pages", "pages"]

    new = set(stand_in.study("seeds=[1,3]").runs) - set(study.runs)
    assert len(new) == 3  # of seed 3: the run and its two twins
    assert stand_in.run("seeds=[1,3]") == 0
    ended = order(stand_in.journal())
    assert set(ended[:3]) == new and len(ended) == 6  # and the judge, its page and the report


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_what_is_missing(stand_in):
    multi = [run.id for run in stand_in.study().of_kind(graph.MULTI_TASK)]
    stand_in.choose("wait", multi[1])
    words = [f"--runs-dir={stand_in.places.runs_dir}", f"--reports-dir={stand_in.places.reports_dir}"]
    changes = ["seeds=[1,2]", "controls=[total]", "tasks=[semeval2014t7,semeval2017t3]"]
    command = [sys.executable, "-m", "kaggle_kit", "study", "run", "rq5_practice", *changes, *words]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    running = stand_in.places.runs_dir / multi[1] / "config.yaml"
    while not (running.is_file() and (stand_in.places.runs_dir / multi[0] / "manifest.json").is_file()):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    with pytest.raises(RunFolderError, match="another study is running"):
        stand_in.run()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == workflow.STOPPED and multi[1] in out
    stand_in.choose("wait", None)
    begun = {line.split()[1] for line in stand_in.journal() if line.startswith("begin ")}
    done = {id for id in begun if status.state_of(stand_in.places.runs_dir / id) == status.DONE}
    assert multi[0] in done and multi[1] not in done
    assert stand_in.run() == 0
    again = {line.split()[1] for line in stand_in.journal() if line.startswith("begin ")}
    assert again == set(stand_in.study().runs) - done


@pytest.mark.slow
def test_paused_and_failed_runs_hold_up_their_twins_alone_and_are_run_again(stand_in):
    study = stand_in.study()
    (first, second), runs = study.of_kind(graph.MULTI_TASK), stand_in.places.runs_dir
    stand_in.choose("pause", first.id)
    stand_in.choose("fail", second.id)
    assert stand_in.run() == 1
    found = status.states(study, runs)
    assert found[first.id] == status.PAUSED and found[second.id] == status.FAILED
    assert {found[twin.id] for twin in study.of_kind(graph.TWIN)} == {status.MISSING}
    assert status.why(runs / first.id) == "paused at step 3 of 9"
    assert status.why(runs / second.id) == "error: the stand-in fails as asked"
    stand_in.choose("pause", None)
    stand_in.choose("fail", None)
    assert stand_in.run() == 0
    assert set(status.states(study, runs).values()) == {status.DONE}


@pytest.mark.slow
def test_what_stands_behind_the_dashes_goes_to_snakemake(stand_in, capfd):
    assert stand_in.run(more=("--dry-run", "--quiet", "rules")) == 0
    assert stand_in.journal() == [] and "token_controlled" in capfd.readouterr().out


def test_the_workflow_lies_beside_the_module_and_is_packaged():
    assert SNAKEFILE.is_file()
    assert '"kaggle_kit.ops.study" = ["Snakefile"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert os.path.basename(SNAKEFILE) == "Snakefile"
