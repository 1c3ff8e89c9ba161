"""The real kaggle client against the stand-in: what it says is understood, whatever its exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaggle_kit.kaggle import client as client_module
from kaggle_kit.kaggle import metadata as about
from kaggle_kit.kaggle.chain import Chain, Phase
from kaggle_kit.kaggle.client import (
    KaggleBusy,
    KaggleClient,
    KaggleError,
    Quota,
    QuotaSpent,
    State,
    UnknownSource,
)
from tests.kaggle.test_chain import a_link
from tests.kaggle_service.service import KaggleService, Session

REF = "jane/a-kernel"
NOTEBOOK = {"cells": [], "metadata": {"kaggle_kit": {"session": 3}}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def service(tmp_path):
    with KaggleService(tmp_path / "service") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    about.write(tmp_path / "kernel", about.describe("a-kernel", "a.ipynb", True, "jane"))
    (tmp_path / "kernel" / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    return tmp_path / "kernel"


def ended_session(service: KaggleService, tmp_path: Path) -> None:
    session = Session(REF, 1, {"text": json.dumps(NOTEBOOK), "newTitle": "A kernel"}, tmp_path / "session")
    session.status, session.message = "ERROR", "it broke"
    (session.working / "runs" / "r").mkdir(parents=True)
    for number in range(3):
        (session.working / "runs" / "r" / f"{number}.txt").write_text("x" * 1000)
    service.kernels[REF] = [session]


def test_refusals_are_told_apart_by_what_they_say(service, folder):
    scripted = [
        (200, {"error": "Maximum batch GPU session count of 2 reached."}, KaggleBusy),  # exit code 0
        (200, {"error": "Maximum weekly GPU quota of 30.00 hours reached."}, QuotaSpent),  # exit code 0
        (503, {"code": 503, "message": "Service Unavailable"}, KaggleBusy),
        (409, {"code": 409, "message": "The requested title is already in use"}, KaggleError),
    ]
    service.answers["SaveKernel"] = [(code, answer) for code, answer, _ in scripted]
    client = KaggleClient(service.environ)
    for _, answer, kind in scripted:
        with pytest.raises(KaggleError) as caught:
            client.push(folder)
        assert type(caught.value) is kind
        assert str(caught.value) == answer.get("error", answer.get("message"))


def test_a_push_sends_what_the_metadata_says(service, folder):
    service.answers["SaveKernel"] = [(200, {"ref": REF, "url": "http://localhost/x", "versionNumber": 7})]
    assert KaggleClient(service.environ).push(folder) == 7
    ((_, body),) = service.requests
    sent = {name: body[name] for name in ("slug", "isPrivate", "enableGpu", "machineShape", "kernelType")}
    assert sent == {
        "slug": REF,
        "isPrivate": True,
        "enableGpu": True,
        "machineShape": "NvidiaTeslaT4",
        "kernelType": "notebook",
    }
    assert json.loads(body["text"]) == NOTEBOOK


def test_a_source_that_the_service_does_not_know_is_an_error(service, folder):
    answer = {"ref": REF, "url": "x", "versionNumber": 1, "invalidDatasetSources": ["jane/nothing"]}
    service.answers["SaveKernel"] = [(200, answer)]
    with pytest.raises(UnknownSource, match="knows no dataset sources: .*jane/nothing.*push again"):
        KaggleClient(service.environ).push(folder)


def test_a_chain_ends_at_once_where_its_push_named_an_unknown_source(service, tmp_path):
    wrong = {"ref": "x", "url": "x", "versionNumber": 1, "invalidDatasetSources": ["jane/nothing"]}
    service.answers["SaveKernel"] = [(200, wrong)]
    link = a_link(tmp_path)
    (ended,) = Chain(KaggleClient(service.environ), [link], poll=0.1).run()
    assert (ended.phase, ended.uncertain, ended.sessions) == (Phase.FAILED, False, [])
    assert "jane/nothing" in ended.note and f"remove {link.folder} to begin anew" in ended.note
    assert [method for method, _ in service.requests].count("SaveKernel") == 1


def test_without_a_client_the_message_says_what_a_checkout_installs(monkeypatch):
    monkeypatch.setattr(client_module.sys, "executable", "/nowhere/python")
    with pytest.raises(KaggleError, match=r"pip install -e '\.\[kaggle\]'"):
        KaggleClient({"PATH": "/nowhere"}).status(REF)


def test_an_unknown_status_is_told_with_those_that_are_known(monkeypatch):
    client = KaggleClient()
    monkeypatch.setattr(client, "_call", lambda *_: 'jane/a-kernel has status "PONDERING"')
    with pytest.raises(KaggleError, match="PONDERING.*allowed: QUEUED.*see `kaggle kernels status"):
        client.status(REF)


def test_a_public_kernel_or_one_without_owner_is_refused_before_anything_is_sent(service, folder):
    described = about.read_metadata(folder)
    client = KaggleClient(service.environ)
    about.write(folder, described | {"is_private": False})
    with pytest.raises(about.PublicKernel):
        client.push(folder)
    about.write(folder, described | {"id": f"{about.NO_OWNER}/a-kernel"})
    with pytest.raises(KaggleError, match="has no owner"):
        client.push(folder)
    assert service.requests == []


def test_status_output_and_pull_of_an_ended_session(service, tmp_path):
    ended_session(service, tmp_path)
    client = KaggleClient(service.environ)
    status = client.status(REF)
    assert (status.state, status.message) == (State.ERROR, "it broke")
    client.output(REF, tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs" / "r").iterdir())) == 3
    assert (tmp_path / "out" / "a-kernel.log").read_text() == "it broke"
    client.pull(REF, tmp_path / "pulled")
    assert json.loads((tmp_path / "pulled" / "a-kernel.ipynb").read_text()) == NOTEBOOK


def test_dropped_connections_and_cut_downloads_may_be_tried_again(service, tmp_path):
    ended_session(service, tmp_path)
    client = KaggleClient(service.environ)
    service.drops = {"GetKernelSessionStatus": ["before", "after"], "GET": ["half"]}
    for call in (client.status, client.status, lambda ref: client.output(ref, tmp_path / "out")):
        with pytest.raises(KaggleBusy):
            call(REF)
    assert client.status(REF).state is State.ERROR


def test_a_kernel_that_is_not_there_is_an_error_and_not_a_wait(service):
    with pytest.raises(KaggleError, match="not found") as caught:
        KaggleClient(service.environ).status(REF)
    assert not isinstance(caught.value, KaggleBusy)


def test_the_quota_is_read_in_hours_and_its_renewal_as_a_time_with_an_offset(service):
    service.quota_hours = 12.5
    quota = KaggleClient(service.environ).quota()
    assert quota == Quota(12.5, datetime(2026, 11, 28, tzinfo=UTC))


@pytest.mark.parametrize("renewed", ["2026-11-28T00:00:00", "2026-11-28T00:00:00+00:00"])
def test_a_renewal_without_an_offset_is_in_utc_and_one_that_is_no_time_tells_nothing(monkeypatch, renewed):
    client, table = KaggleClient(), "resource,remaining,refreshAt\nGPU,1.50h,{}\n"
    monkeypatch.setattr(client, "_call", lambda *_: table.format(renewed))
    assert client.quota() == Quota(1.5, datetime(2026, 11, 28, tzinfo=UTC))
    monkeypatch.setattr(client, "_call", lambda *_: table.format("soon"))
    assert client.quota() is None
