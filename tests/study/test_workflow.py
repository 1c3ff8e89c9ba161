"""The study under the real Snakemake: order, interruption, changes, pauses, failures. Pages are stand-ins."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.experiment.page_run import claimed
from kaggle_kit.study import graph, status, workflow
from kaggle_kit.study.spec import load_selection
from kaggle_kit.study.workflow import SNAKEFILE

ROOT = Path(__file__).resolve().parents[2]


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
    assert len(new) == 6  # other seeds are another declaration, of which every run is told
    assert stand_in.run("seeds=[1,3]") == 0
    ended = order(stand_in.journal())
    assert set(ended[:6]) == new and len(ended) == 9  # and the judge, its page and the report


@pytest.mark.slow
def test_several_comparisons_are_judged_together_and_every_other_question_is_answered(stand_in):
    plain = (
        "{name: plain, strategy: s3a_flat, experiment: ablation_pcgrad, overrides: [experiment.level=off]}"
    )
    changes = ["strategies=[s2_shared,s3a_flat]", "primary={model: tiny, strategy: s3a_flat}"]
    changes += [f"ablations=[{plain}]"]
    assert stand_in.run(*changes) == 0
    read = [line for line in order(stand_in.journal()) if line.startswith(("verdict", "pages"))]
    judged = [line for line in read if line.startswith("verdict")]
    assert len(judged) == 4 and sum("--multi-task" in line for line in judged) == 2
    assert sum("--question ablation" in line for line in judged) == 1
    (together,) = [line for line in judged if "--study rq5_practice" in line]
    assert all(change in together for change in changes)  # else it would judge runs of another configuration
    assert "pages execute overview" in read[-1] and "study_verdict=" in read[-1]
    reports = {file.name for file in (stand_in.home / "reports").iterdir()}
    assert {"rq5_practice.study.json", "rq5_practice.ablation.contrasts.json"} <= reports


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_what_is_missing(stand_in):
    multi = [run.id for run in stand_in.study().of_kind(graph.MULTI_TASK)]
    stand_in.choose("wait", multi[1])
    command = [sys.executable, "-m", "kaggle_kit", *stand_in.words("run")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    in_background = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # as a shell's `&` leaves it
    child = subprocess.Popen(command, cwd=ROOT, preexec_fn=in_background, **pipes)
    deadline = time.monotonic() + 240  # never waited for, unless something hangs
    running = stand_in.places.runs_dir / multi[1] / "config.yaml"
    assert status.state_of(running.parent) == status.MISSING
    while not (running.is_file() and (stand_in.places.runs_dir / multi[0] / "manifest.json").is_file()):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    with pytest.raises(RunFolderError, match="another study is running"):
        stand_in.run()
    child.send_signal(signal.SIGINT)
    out, told = child.communicate(timeout=240)
    assert child.returncode == workflow.STOPPED and "Error" not in out + told
    assert told.startswith(
        "stopped with 1 of 6 runs done; go on with `python -m kaggle_kit study run rq5_practice"
    )
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
    ended = stand_in.command("run")
    assert ended.exit_code == 1
    assert f"paused: {runs / first.id}\n  paused at step 3 of 9" in ended.stderr
    assert f"unfinished: {runs / second.id}\n  error: the stand-in fails as asked" in ended.stderr
    found = status.states(study, runs)
    assert {found[twin.id] for twin in study.of_kind(graph.TWIN)} == {status.MISSING}

    stand_in.choose("fail", None)
    assert stand_in.command("run").exit_code == 75  # nothing failed, something is paused
    counts = {
        line.split()[0]: line.split()[1:] for line in stand_in.command("status").stdout.splitlines()[1:]
    }
    assert counts["multi_task"] == ["1", "0", "1", "0", "0"]  # done, running, paused, unfinished, missing
    assert counts["token_controlled"] == ["2", "0", "0", "0", "2"]

    stand_in.choose("pause", None)
    assert stand_in.command("run").exit_code == 0
    assert set(status.states(study, runs).values()) == {status.DONE}


@pytest.mark.slow
def test_what_stands_behind_the_dashes_goes_to_snakemake(stand_in, capfd):
    assert stand_in.run(more=("--dry-run", "--quiet", "rules")) == 0
    assert stand_in.journal() == [] and "token_controlled" in capfd.readouterr().out
    assert not stand_in.places.runs_dir.exists()  # a dry run writes nothing


def test_the_workflow_is_packaged_and_snakemake_is_needed_by_the_setup_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"]["kaggle_kit.study"] == [SNAKEFILE.name]
    assert SNAKEFILE.is_file()
    assert any(line.startswith("snakemake") for line in project["project"]["optional-dependencies"]["dev"])
    assert "snakemake" not in (ROOT / "requirements.txt").read_text(
        encoding="utf-8"
    )  # what a kernel installs
    importing = re.compile(r"^\s*(?:import|from) snakemake", re.M)
    sources = [*(ROOT / "kaggle_kit").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")]
    assert not [path for path in sources if importing.search(path.read_text(encoding="utf-8"))]


def test_without_snakemake_a_study_says_how_to_get_it(stand_in, monkeypatch):
    monkeypatch.setattr(workflow, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="a study needs snakemake: run `make setup`"):
        stand_in.run()


def test_a_run_is_running_while_a_process_works_in_its_folder(tmp_path):
    with claimed(tmp_path / "a"):
        assert status.state_of(tmp_path / "a") == status.RUNNING
    (tmp_path / "a" / "config.yaml").touch()
    assert status.state_of(tmp_path / "a") == status.FAILED


def test_the_view_deletes_nothing_but_links(tmp_path, stand_in):
    study, places = stand_in.study(), stand_in.places
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("x")
    folder = workflow.view(study, places, tmp_path)
    (folder / "stale").symlink_to(elsewhere)
    assert {path.name for path in workflow.view(study, places, tmp_path).iterdir()} == set(study.runs)
    assert (elsewhere / "thesis.txt").is_file()
    (folder / "thesis.txt").write_text("x")
    with pytest.raises(RunFolderError, match="thesis.txt is no link"):
        workflow.view(study, places, tmp_path)
    assert (folder / "thesis.txt").is_file()


def test_a_study_of_another_name_is_still_the_one_of_its_file(tmp_path, stand_in):
    """Snakemake missed params/study/mine.yaml, and the judge of all comparisons knew no study `mine`."""
    changes = ("name=mine", "seeds=[1,2]")
    study = graph.Study(load_selection("rq5_practice", changes), changes, "rq5_practice")
    found = workflow.settings(study, stand_in.places, tmp_path / "views" / "mine")
    assert Path(found["declared"]).is_file() and found["study"] == ["rq5_practice", *changes]
    assert load_selection(*found["study"][:1], found["study"][1:]).name == "mine"


@pytest.mark.parametrize("word", ["-n", "-np", "--dry-run", "--dryrun"])
def test_every_word_for_a_dry_run_leaves_the_runs_folder_alone(stand_in, monkeypatch, word):
    monkeypatch.setattr(workflow, "_watched", lambda command, lock: 0)
    assert stand_in.run(more=(word,)) == 0 and not stand_in.places.runs_dir.exists()
    assert stand_in.run(more=("--notemp",)) == 0 and stand_in.places.runs_dir.is_dir()
