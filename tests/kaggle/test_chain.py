"""The rules of a chain, tried against a service that exists in memory and a clock that is turned by hand."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.errors import ConfigError, KitError, RunFolderError
from kaggle_kit.core.records import alone
from kaggle_kit.kaggle import metadata as about
from kaggle_kit.kaggle.build import Built, session_of
from kaggle_kit.kaggle.chain import Chain, ChainBusy, Link, Phase, live_table
from kaggle_kit.kaggle.client import KaggleBusy, KaggleError, Quota, QuotaSpent, State, Status

HASH = "0123"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Service:
    """Plays the client. A session is (state, step it reached); "complete" as step finishes the run."""

    def __init__(self, *sessions: tuple[State, int | str], troubles: dict[str, list] | None = None) -> None:
        self.plan, self.troubles = list(sessions), troubles or {}
        self.pushed: dict[str, list[dict]] = {}
        self.hours = 30.0
        self.running: set[str] = set()
        self.most = 0

    def push(self, folder: Path) -> int:
        self._trouble("push")
        described = about.read_metadata(folder)
        text = (folder / described["code_file"]).read_text()
        ref = described["id"]
        self.pushed.setdefault(ref, []).append({"sources": described["kernel_sources"], "text": text})
        self.running.add(ref)
        self.most = max(self.most, len(self.running))
        self._trouble("answer")
        return len(self.pushed[ref])

    def status(self, ref: str) -> Status:
        self._trouble("status")
        self.running.discard(ref)
        return Status(self.plan[len(self.pushed[ref]) - 1][0])

    def output(self, ref: str, folder: Path) -> Path:
        self._trouble("output")
        step = self.plan[len(self.pushed[ref]) - 1][1]
        if step != "nothing":
            run = RunFolder.create(folder / "runs" / "r", "a: 1\n", HASH, {})
            (run.checkpoints / f"step-{step if isinstance(step, int) else 40:06d}").mkdir()
            if step == "complete":
                run.finish(totals=Totals(), device="cpu", data_hashes={})
            if isinstance(step, dict):
                for name, content in step.items():
                    (run.path / name).write_bytes(content)
        (folder / f"{ref.partition('/')[2]}.log").write_text("the last line of the log")
        return folder

    def pull(self, ref: str, folder: Path) -> Path:
        if ref not in self.pushed:
            raise KaggleError("Kernel not found")
        (folder / "x.ipynb").write_text(self.pushed[ref][-1]["text"])
        return folder

    def quota(self) -> Quota:
        return Quota(self.hours, datetime(2023, 11, 18, tzinfo=UTC))

    def _trouble(self, call: str) -> None:
        if waiting := self.troubles.get(call):
            raise waiting.pop(0)


def a_link(tmp_path: Path, name: str = "one", gpu: bool = True) -> Link:
    folder = tmp_path / "built" / name
    about.write(folder, about.describe(f"kernel-{name}", "x.ipynb", gpu, "jane"))
    (folder / "x.ipynb").write_text(json.dumps({"cells": [], "metadata": {}}))
    return Link.begin(tmp_path / "chains" / name, Built(folder, f"jane/kernel-{name}", "runs/r", HASH, 0))


def a_chain(service: Service, *links: Link) -> Chain:
    clock = Clock()
    return Chain(service, links, poll=60, clock=clock, sleep=clock.sleep)


def test_a_chain_ends_with_the_manifest_and_attaches_its_output_only_after_a_good_session(tmp_path):
    service = Service(
        (State.CANCEL_ACKNOWLEDGED, 10), (State.COMPLETE, 20), (State.ERROR, 30), (State.COMPLETE, "complete")
    )
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, link.step, link.session) == (Phase.DONE, 40, 4)
    own = "jane/kernel-one"
    assert [push["sources"] for push in service.pushed[own]] == [[], [], [own], [own]]
    assert [session_of(push["text"]) for push in service.pushed[own]] == [1, 2, 3, 4]
    assert [record["step"] for record in link.sessions] == [10, 20, 30, 40]
    assert RunFolder.open(link.output).finished


def test_three_sessions_without_a_further_step_end_the_chain_with_the_reason(tmp_path):
    service = Service((State.COMPLETE, 20), *[(State.ERROR, "nothing")] * 3)
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert link.phase is Phase.FAILED
    assert link.note == "no step further in 3 sessions; the last one: ERROR the last line of the log"
    assert RunFolder.open(link.output, finished=False).run_id == "r"  # what had come back is kept


HOSTILE = [
    {"config.yaml": b"\xff\xfe"},
    {"config.yaml": b"# run: [1]\n"},
    {"config.yaml": b"# run: " + b"[" * 100_000 + b"\n"},
    {"trials.jsonl": b"\xff\xfe\n"},
    {"trials.jsonl": b"7\n"},
    {"manifest.json": b'{"complete": true}'},
    {"manifest.json": b"\xff\xfe"},
    {"manifest.json": b"[" * 100_000},
]


@pytest.mark.parametrize("files", HOSTILE, ids=lambda files: str(files)[:40])
def test_a_malformed_output_ends_its_own_chain_and_no_other(tmp_path, files):
    class OneOfTwo(Service):
        def output(self, ref, folder):
            if ref.endswith("bad"):
                self.plan = ((State.COMPLETE, files),) * 3
            else:
                self.plan = ((State.COMPLETE, "complete"),) * 3
            return super().output(ref, folder)

    service = OneOfTwo(*[(State.COMPLETE, "complete")] * 3)
    bad, good = a_chain(service, a_link(tmp_path, "bad"), a_link(tmp_path, "good")).run()
    assert (bad.phase, good.phase) == (Phase.FAILED, Phase.DONE)
    assert not bad.output.exists() and next(iter(files)) in bad.note


def test_soft_refusals_are_waited_out_with_growing_pauses(tmp_path):
    full = KaggleBusy("Maximum batch GPU session count of 2 reached.")
    service = Service((State.COMPLETE, "complete"), troubles={"push": [full] * 6})
    chain = a_chain(service, a_link(tmp_path))
    assert chain.run()[0].phase is Phase.DONE
    assert chain.sleep.__self__.pauses[:6] == [60, 120, 240, 480, 900, 900]


def test_a_refusal_is_believed_after_three_times(tmp_path):
    service = Service(troubles={"push": [KaggleError("bad title")] * 3})
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, link.note) == (Phase.FAILED, "bad title")
    service = Service((State.COMPLETE, "complete"), troubles={"status": [KaggleError("odd")] * 2})
    assert a_chain(service, a_link(tmp_path, "two")).run()[0].phase is Phase.DONE


def test_a_push_whose_answer_was_lost_is_not_pushed_again(tmp_path):
    service = Service((State.COMPLETE, "complete"), troubles={"answer": [KaggleBusy("connection")]})
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, len(service.pushed[link.ref])) == (Phase.DONE, 1)


def test_a_push_that_never_arrived_is_pushed_again(tmp_path):
    service = Service((State.COMPLETE, "complete"), troubles={"push": [KaggleBusy("connection")]})
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, len(service.pushed[link.ref])) == (Phase.DONE, 1)


def test_a_lost_download_is_fetched_again_and_the_session_counts_once(tmp_path):
    service = Service(
        (State.COMPLETE, 20), (State.COMPLETE, "complete"), troubles={"output": [KaggleBusy("cut")] * 2}
    )
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert [record["step"] for record in link.sessions] == [20, 40]


def test_at_most_two_of_three_experiments_run_at_once(tmp_path):
    service = Service((State.COMPLETE, 20), (State.COMPLETE, "complete"))
    links = a_chain(service, *(a_link(tmp_path, name) for name in ("one", "two", "three"))).run()
    assert {link.phase for link in links} == {Phase.DONE}
    assert service.most == 2


def test_runs_on_the_cpu_wait_neither_for_gpu_hours_nor_for_one_of_the_two_gpu_sessions(tmp_path):
    service = Service((State.COMPLETE, 20), (State.COMPLETE, "complete"))
    service.hours = 0.0
    chain = a_chain(service, *(a_link(tmp_path, name, gpu=False) for name in ("one", "two", "three")))
    assert {link.phase for link in chain.run()} == {Phase.DONE}
    assert service.most == 3
    assert sum(chain.clock.pauses) < 3600


def test_a_spent_quota_is_waited_for_until_it_is_renewed(tmp_path):
    service = Service((State.COMPLETE, "complete"))
    service.hours = 0.2
    chain = a_chain(service, a_link(tmp_path))
    clock = chain.clock
    chain.advance(chain.links[0])
    renewed = 1_700_265_600.0  # 2023-11-18 00:00 UTC
    assert chain.links[0].wake == renewed
    assert chain.links[0].note == "0.2 GPU hours are left, renewed 2023-11-18T00:00+00:00"
    service.hours, clock.now = 30.0, renewed
    assert chain.run()[0].phase is Phase.DONE


def test_the_services_own_word_on_the_quota_is_waited_out(tmp_path):
    service = Service((State.COMPLETE, "complete"), troubles={"push": [QuotaSpent("weekly GPU quota")] * 2})
    assert a_chain(service, a_link(tmp_path)).run()[0].phase is Phase.DONE


@pytest.mark.parametrize("stopped_after", range(1, 8))
def test_a_chain_that_is_stopped_anywhere_goes_on_and_pushes_no_session_twice(tmp_path, stopped_after):
    class Stopped(Exception):
        pass

    service = Service((State.COMPLETE, 20), (State.ERROR, 30), (State.COMPLETE, "complete"))
    first = a_chain(service, a_link(tmp_path))
    for _ in range(stopped_after):
        if not first.links[0].ended:
            first.advance(first.links[0])
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, link.session) == (Phase.DONE, 3)
    assert [session_of(push["text"]) for push in service.pushed[link.ref]] == [1, 2, 3]


def test_a_chain_killed_within_a_push_finds_out_whether_it_arrived(tmp_path):
    service = Service((State.COMPLETE, "complete"), troubles={"answer": [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        a_chain(service, a_link(tmp_path)).run()
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, len(service.pushed[link.ref])) == (Phase.DONE, 1)


def test_a_chain_keeps_the_code_that_it_began_with(tmp_path):
    link = a_link(tmp_path)
    shutil.rmtree(tmp_path / "built")
    service = Service((State.COMPLETE, "complete"))
    assert a_chain(service, link).run()[0].phase is Phase.DONE


def test_a_second_process_on_one_chain_is_refused(tmp_path):
    link = a_link(tmp_path)
    with alone(link.folder / "lock", KitError()), pytest.raises(ChainBusy, match="another process"):
        a_chain(Service(), link).run()


def test_a_folder_of_another_experiment_is_refused_and_a_failed_chain_tries_again(tmp_path):
    link = a_link(tmp_path)
    link.phase, link.stalled, link.step = Phase.FAILED, 3, 20
    link.save()
    again = a_link(tmp_path)
    assert (again.phase, again.stalled, again.step) == (Phase.WAITING, 0, 20)
    with pytest.raises(ConfigError, match="is the chain of jane/kernel-one"):
        Link.begin(link.folder, Built(Path(link.kernel), "jane/other", "runs/r", HASH, 0))


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"phase": "lost"}', '{"phase": "done"}'])
def test_a_damaged_note_of_a_chain_is_named(tmp_path, text):
    path = a_link(tmp_path).folder / "chain.json"
    path.write_text(text)
    with pytest.raises(RunFolderError, match="chain.json"):
        a_link(tmp_path)


def test_outside_a_terminal_the_live_table_is_one_line_per_change(tmp_path, capsys):
    link = a_link(tmp_path)
    with live_table([link]) as show:
        show([link])
        show([link])
        link.phase, link.note = Phase.RUNNING, "[queued]"
        show([link])
    assert capsys.readouterr().out.splitlines() == [
        "kernel-one  waiting  1  0  0  ",
        "kernel-one  running  1  0  0  [queued]",
    ]
    assert link.row()[-1] == "[queued]"


def test_in_a_terminal_the_live_table_is_redrawn_with_every_experiment(tmp_path):
    links = [a_link(tmp_path, "one"), a_link(tmp_path, "two")]
    drawn = StringIO()
    console = Console(file=drawn, force_terminal=True, width=120)
    with live_table(links, console) as show:
        links[0].phase, links[0].step, links[0].note = Phase.RUNNING, 400, "pushed as version 2"
        show(links)
    last = drawn.getvalue().rpartition("experiment")[2].splitlines()
    assert [line.split()[:4] for line in last[1:3]] == [
        ["kernel-one", "running", "1", "400"],
        ["kernel-two", "waiting", "1", "0"],
    ]
    assert "pushed as version 2" in last[1]
