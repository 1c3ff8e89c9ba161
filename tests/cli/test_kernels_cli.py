"""`kernels …` as a user meets it: filled in once, it pushes with the plain client and with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.kaggle import build, bundle
from kaggle_kit.kaggle import metadata as about
from kaggle_kit.kaggle.build import Built
from kaggle_kit.kaggle.chain import Chain, Link, Phase
from kaggle_kit.kaggle.client import KaggleClient, NoToken
from tests.kaggle_service.service import KaggleService

PAGE = "s1_single_task"


@pytest.fixture
def service(tmp_path, monkeypatch):
    with KaggleService(tmp_path / "service") as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield running


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, ["kernels", *map(str, arguments)])


def test_a_page_folder_pushes_with_the_plain_client_once_the_owner_is_filled_in(service, tmp_path):
    packed = bundle.pack()
    folder = tmp_path / "kernel-metadata"
    written = build.write_pages("jane", folder)
    assert {path.parent.name for path in written} == {path.name for path in folder.iterdir()}
    service.answers["SaveKernel"] = [(200, {"ref": "x", "url": "http://localhost/x", "versionNumber": 1})]
    command = [Path(sys.executable).with_name("kaggle"), "kernels", "push", "-p", folder / PAGE]
    done = subprocess.run(command, env=service.environ, capture_output=True, text=True)
    assert "Kernel version 1 successfully pushed" in done.stdout, done.stdout + done.stderr
    assert "does not resolve" not in done.stdout  # title and name agree in the client's eyes, too
    ((_, body),) = service.requests
    assert body["slug"] == "jane/kaggle-kit-s1-single-task"
    opening = json.loads(body["text"])["cells"][0]["source"]
    assert len(opening) > len(packed)
    assert about.known_owner(folder) == "jane"


def test_init_without_an_owner_keeps_the_one_that_was_given_before(tmp_path, monkeypatch):
    folder = tmp_path / "kernel-metadata"
    write = build.write_pages
    monkeypatch.setattr(build, "write_pages", lambda owner: write(owner, folder))
    assert invoke("init").exit_code == 0 and about.known_owner(folder, about.NO_OWNER) == about.NO_OWNER
    assert invoke("init", "--owner", "jane").exit_code == 0
    assert invoke("init").exit_code == 0 and about.known_owner(folder) == "jane"
    assert about.stale_metadata(folder) == []


def test_build_push_and_status_say_what_they_did(service, tmp_path):
    built = invoke("build", PAGE, "--owner", "jane", "--seed", "1", "--seed", "2", "--out", tmp_path / "out")
    assert built.exit_code == 0, built.output
    folders = sorted((tmp_path / "out").iterdir())
    assert [str(folder) in built.stdout for folder in folders] == [True, True]
    service.answers["SaveKernel"] = [(200, {"ref": "x", "url": "http://localhost/x", "versionNumber": 4})]
    pushed = invoke("push", folders[0])
    assert pushed.stdout.strip() == f"jane/{folders[0].name}: version 4"
    service.answers["GetKernelSessionStatus"] = [(200, {"status": "QUEUED", "failureMessage": ""})]
    assert invoke("status", f"jane/{folders[0].name}").stdout.strip().endswith(": QUEUED")


def test_resume_attaches_the_kernels_own_output(service, tmp_path):
    described = about.describe("a-kernel", "a.ipynb", True, "jane")
    about.write(tmp_path / "a-kernel", described)
    (tmp_path / "a-kernel" / "a.ipynb").write_text('{"cells": []}')
    service.answers["SaveKernel"] = [(200, {"ref": "x", "url": "http://localhost/x", "versionNumber": 2})]
    assert invoke("resume", tmp_path / "a-kernel").exit_code == 0
    assert service.requests[0][1]["kernelDataSources"] == ["jane/a-kernel"]


def test_an_error_is_one_message_and_exit_code_2(tmp_path):
    done = invoke("build", "overview", "--owner", "jane", "--out", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: overview trains nothing")
    assert "Traceback" not in done.output


def test_pull_says_how_far_the_runs_have_come(service, tmp_path):
    listing = {"files": [], "log": "the end", "nextPageToken": ""}
    service.answers["ListKernelSessionOutput"] = [(200, listing)]
    done = invoke("pull", "jane/a-kernel", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "a-kernel" / "a-kernel.log").read_text() == "the end"


def test_chain_delivers_what_is_done_names_what_failed_and_ends_with_1(service, tmp_path, monkeypatch):
    links = []
    for name, phase in (("good", Phase.DONE), ("bad", Phase.FAILED)):
        about.write(tmp_path / name, {"id": f"jane/{name}"})
        link = Link.begin(
            tmp_path / "chains" / name, Built(tmp_path / name, f"jane/{name}", "runs/r", "0", 0)
        )
        link.phase = phase
        links.append(link)
    run = RunFolder.create(links[0].output, "a: 1\n", "0", {})
    run.finish(totals=Totals(), device="cpu", data_hashes={})
    monkeypatch.setattr("kaggle_kit.cli.kernels._links", lambda *given: links)
    done = invoke("chain", PAGE, "--runs-dir", tmp_path / "runs")
    assert done.exit_code == 1
    assert f"finished: {tmp_path / 'runs' / 'r'}" in done.stdout
    assert done.stderr.strip() == "failed: jane/bad; the same command tries again"
    assert RunFolder.open(tmp_path / "runs" / "r").finished


@pytest.fixture
def without_token(tmp_path, monkeypatch):
    """A user who has never logged in, and no way to any service."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_chain_without_a_token_ends_at_once_and_says_how_to_get_one(without_token, tmp_path):
    out = tmp_path / "out"
    done = invoke("chain", PAGE, "--owner", "jane", "--out", out, "--poll", "600")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: no Kaggle token was found")
    assert "kaggle.com/settings/api" in done.stderr and "access_token" in done.stderr
    assert not out.exists()


def test_a_token_that_is_gone_ends_a_chain_that_goes_on_where_it_stood(without_token, tmp_path):
    about.write(tmp_path / "kernel", about.describe("a-kernel", "a.ipynb", False, "jane"))
    (tmp_path / "kernel" / "a.ipynb").write_text('{"cells": [], "metadata": {}}')
    built = Built(tmp_path / "kernel", "jane/a-kernel", "runs/r", "0", 0)
    link = Link.begin(tmp_path / "chain", built)
    link.phase = Phase.RUNNING
    link.save()
    with pytest.raises(NoToken, match="settings/api"):
        Chain(KaggleClient(), [link], poll=600).run()
    assert Link.begin(tmp_path / "chain", built).phase is Phase.RUNNING
