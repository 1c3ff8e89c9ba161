"""What a running study says: beginnings, ends, what is left, and where a long run is."""

from __future__ import annotations

import json

from kaggle_kit.core.artifacts import HEADER
from kaggle_kit.core.integrity import FACTS, signed
from kaggle_kit.study import status
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import load_selection
from kaggle_kit.study.status import Narrator, named

SMALL = ["seeds=[1,2]", "controls=[]", "verdict=false"]


def finish(folder) -> None:
    """As if the run had ended, with no figure of its own."""
    (folder / "config.yaml").write_text(HEADER + "{}\n")
    facts = {name: kind() for name, kind in FACTS.items()} | {"complete": True}
    (folder / "manifest.json").write_text(json.dumps(signed(folder, facts)))


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(status.time, "monotonic", lambda: self.now)


def test_each_end_is_told_with_what_is_left_and_about_how_long(tmp_path, monkeypatch):
    clock, said = Clock(monkeypatch), []
    study = Study(load_selection("rq5_practice", SMALL))
    first, second = (tmp_path / id for id in study.runs)
    narrator = Narrator(study, tmp_path, said.append)
    assert said.pop().startswith("2 runs, 0 of them done before")
    first.mkdir()
    clock.now = 10.0
    narrator.look()
    assert said == []
    finish(first)
    clock.now = 180.0
    narrator.look()
    name = named(study.runs[first.name])
    assert said.pop() == f"3:00  done: {name} — 1 of 2 done, about 3 min left"
    assert name == "s2_shared on semeval2014t7+semeval2015t14, seed 1"
    second.mkdir()
    finish(second)
    narrator.look()
    assert said.pop().endswith("seed 2 — 2 of 2 done")
    clock.now = 201.0
    narrator.look()
    assert said.pop() == "3:21  all runs are done; verdict, pages and report — 2 of 2 done"


def test_a_long_run_is_told_with_the_heading_that_it_is_at(tmp_path, monkeypatch):
    clock, said = Clock(monkeypatch), []
    study = Study(load_selection("rq5_practice", SMALL))
    run = tmp_path / next(iter(study.runs))
    run.mkdir()
    monkeypatch.setattr(status, "state_of", lambda folder: "running" if folder == run else "missing")
    narrator = Narrator(study, tmp_path, said.append)
    (run / "page.log").write_text("10:00:00 INFO Data\n10:00:09 INFO Training\n")
    clock.now = 21.0
    narrator.look()
    assert said[-1].startswith("0:21  s2_shared on") and "seed 1 at Training" in said[-1]
