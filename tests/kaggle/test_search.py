"""A search over several sessions: its trials keep their own checkpoints, and lose them when they end."""

from __future__ import annotations

from pathlib import Path

from kaggle_kit.core import kaggle_image
from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.config import compose
from kaggle_kit.core.kaggle_outputs import Progress, inspect, last_step
from kaggle_kit.core.records import append_record
from kaggle_kit.experiment import startup
from kaggle_kit.kaggle.chain import Phase
from kaggle_kit.kaggle.client import State
from tests.kaggle.test_chain import HASH, Service, a_chain, a_link


def a_search(path: Path, over: tuple[int, ...] = (), checkpoint: int = 0) -> RunFolder:
    """What a session of a search leaves: the steps of its trials, and the checkpoint of the one under way.

    The last line of its events stands beyond the checkpoint; Kaggle brings back no empty folders.
    """
    run = RunFolder.create(path, "a: 1\n", HASH, {})
    for number, steps in enumerate((*over, checkpoint + 1)):
        trial = path / "trials" / f"{number:03d}"
        trial.mkdir(parents=True)
        for step in range(steps):
            append_record(trial / "events.jsonl", {"step": step + 1})
    for number in range(len(over)):
        append_record(path / "trials.jsonl", {"trial": number})
    if checkpoint:
        (trial / "checkpoints" / "training" / f"step-{checkpoint:06d}").mkdir(parents=True)
    return run


class Searching(Service):
    """Sessions of a search; what they left is said by `a_search`'s arguments."""

    def output(self, ref: str, folder: Path) -> Path:
        left = self.plan[len(self.pushed[ref]) - 1][1]
        run = a_search(folder / "runs" / "r", *left)
        if len(left[0]) == 3:
            run.finish(totals=Totals(), device="cpu", data_hashes={})
        return folder


def test_a_search_is_chained_through_as_many_sessions_as_its_trials_need(tmp_path):
    left = [((), 4), ((), 8), ((9,), 2), ((9, 5), 0), ((9, 5), 3), ((9, 5, 9), 0)]
    service = Searching(*[(State.COMPLETE, one) for one in left])
    (link,) = a_chain(service, a_link(tmp_path)).run()
    assert (link.phase, link.session) == (Phase.DONE, 6)
    assert [record["step"] for record in link.sessions] == [4, 8, 11, 14, 17, 23]
    own = "jane/kernel-one"
    assert [push["sources"] for push in service.pushed[own]] == [[], *[[own]] * 5]


def test_a_search_that_is_killed_in_a_trial_counts_what_its_checkpoint_holds(tmp_path):
    a_search(tmp_path / "r", over=(9,), checkpoint=4)
    assert inspect(tmp_path / "r") == Progress(13, False)


def test_the_mounted_search_that_came_furthest_is_gone_on_with_and_said_to_be(tmp_path):
    a_search(tmp_path / "input" / "a" / "runs" / "r", (), 8)
    a_search(tmp_path / "input" / "b" / "runs" / "r", (9,), 2)
    (note,) = kaggle_image.restore("runs/r", tmp_path / "input", tmp_path / "working")
    assert note == "run: runs/r goes on from step 11"
    run = RunFolder.open(tmp_path / "working" / "runs" / "r", finished=False)
    assert last_step(run.path) == 11
    run.pause(trial=1, trials=3, message="paused at step 2 of 8")
    findings = startup.check_startup(compose(task="semeval2017t3"), run)
    assert findings[-1].found == "goes on with its trials, 11 steps of which are kept"
