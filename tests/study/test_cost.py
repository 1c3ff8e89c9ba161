"""Costs by hand: hours, sessions, weeks, and what leaving something out saves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.study import graph
from kaggle_kit.study.cost import Limits, RunCost, predict, run_costs, savings, total, without
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import load_selection
from kaggle_kit.study.throughput import CostTable, Figure, Known, count_tokens, read_table
from tests.signing import sign

LIMITS = Limits(weekly_gpu_hours=30, sessions_at_once=2, session_hours=11.5)


def cost(id: str, hours: float, needs=(), labels=(), overhead=0.5, on_gpu=True) -> RunCost:
    return RunCost(id, hours * 3600 * 100, 100, overhead, needs, labels, on_gpu)


@pytest.mark.parametrize(
    ("hours", "sessions", "whole"),
    [(1, 1, 1.5), (11, 1, 11.5), (11.01, 2, 12.01), (33, 3, 34.5), (0, 1, 0.5)],
)
def test_a_run_that_outlasts_a_session_pays_for_each_start(hours, sessions, whole):
    run = cost("a", hours)
    assert run.sessions(LIMITS) == sessions and run.hours(LIMITS) == pytest.approx(whole)


def test_weeks_follow_the_quota_or_the_sessions_at_once():
    runs = [cost("a", 9.5), cost("b", 19.0, overhead=1.0), cost("c", 100, on_gpu=False)]
    bill = total(runs, LIMITS)
    # a: 9.5 + 0.5; b: 2 sessions of at most 10.5 hours, 19 + 2; c needs no quota: 10 sessions, 100 + 5
    assert (bill.runs, bill.sessions) == (3, 1 + 2 + 10)
    assert bill.hours == pytest.approx(10 + 21 + 105) and bill.weeks == pytest.approx(31 / 30)
    generous = Limits(weekly_gpu_hours=1e6, sessions_at_once=1, session_hours=11.5)
    assert total(runs[:2], generous).weeks == pytest.approx(31 / 168)
    side_by_side = Limits(weekly_gpu_hours=30, runs_per_session=2)
    assert total(runs, side_by_side).weeks == pytest.approx(31 / 2 / 30)


def test_a_shared_run_is_paid_for_once():
    assert total([cost("a", 1), cost("a", 1)], LIMITS) == total([cost("a", 1)], LIMITS)


def test_leaving_something_out_takes_along_what_needs_it_and_nothing_else():
    runs = [
        cost("base", 2, labels=("strategy s1",)),
        cost("multi", 3, labels=("strategy s2",)),
        cost("twin", 4, needs=(("multi",),), labels=("control total",)),
        cost("twin of twin", 5, needs=(("twin",),)),
    ]
    assert [run.id for run in without(runs, "strategy s2")] == ["base"]
    assert [run.id for run in without(runs, "control total")] == ["base", "multi"]
    saved = savings(runs, LIMITS)
    assert {label: bill.hours for label, bill in saved.items()} == pytest.approx(
        {"strategy s1": 2.5, "strategy s2": 13.5, "control total": 10.0}
    )
    assert saved["control total"].weeks == pytest.approx(10 / 30)


def test_a_run_that_needs_one_of_several_goes_with_the_last_of_them():
    seeds = [cost("a", 1, labels=("seed 1", "strategy a")), cost("b", 1, labels=("seed 2", "strategy a"))]
    runs = [*seeds, cost("chosen", 2, needs=(("a", "b"),), labels=("seed 2",))]
    assert [run.id for run in without(runs, "seed 1")] == ["b", "chosen"]
    assert without(runs, "strategy a") == []


TABLE = CostTable(
    limits={"weekly_gpu_hours": Figure(30), "sessions_at_once": Figure(2), "session_hours": Figure(11.5)},
    overhead_hours={"gpu": Figure(0.25), "cpu": Figure(0.01)},
    tokens={"semeval2014t7": Figure(1000), "semeval2021t6": Figure(3000)},
    tokens_per_second={"tiny": Figure(100)},
    relative_cost={"single": Figure(1), "shared": Figure(1.25)},
)


@pytest.fixture
def declared_only(monkeypatch):
    monkeypatch.setattr("kaggle_kit.study.throughput.count_tokens", lambda config: None)


def test_a_twin_costs_its_runs_tokens_or_its_tasks_share_of_them(declared_only):
    changes = ["seeds=[1,2]", "tasks=[semeval2014t7,semeval2021t6]", "overrides=[training.epochs=2]"]
    study = Study(load_selection("rq5_practice", changes))
    costs = {run.id: run for run in run_costs(study, Known(TABLE))}
    found = {(r.kind, r.tasks, r.control): costs[id] for id, r in study.runs.items() if r.config.seed == 1}
    both = ("semeval2014t7", "semeval2021t6")
    assert found[graph.MULTI_TASK, both, None].tokens == 8000
    assert {tasks[0]: found[graph.TWIN, tasks, "total"].tokens for tasks in (both[:1], both[1:])} == {
        "semeval2014t7": 8000,
        "semeval2021t6": 8000,
    }
    assert found[graph.TWIN, both[:1], "share"].tokens == 2000
    assert found[graph.TWIN, both[1:], "share"].tokens == 6000
    assert found[graph.MULTI_TASK, both, None].tokens_per_second == pytest.approx(80)  # 100 over 1.25
    labels = found[graph.TWIN, both[:1], "share"].labels
    assert labels == ("model tiny", "seed 1", "strategy s2_shared", "control share")


def finished(
    folder: Path, strategy: str, tokens: int, seconds: float, spent: float = 0.0, worked: float | None = 10.0
) -> RunFolder:
    """A run that took `spent` seconds by the calendar and `worked` ones by the clocks of its sessions."""
    facts = {"page": strategy, "model": "tiny", "strategy": strategy, "profile": "smoke"}
    run = RunFolder.create(folder, "", "0" * 16, {}, **facts)
    kept = {} if worked is None else {"callbacks": [{"CheckpointCallback": {"session_seconds": worked}}]}
    run.finish(totals=Totals({"a": tokens}, 1, seconds), device="cpu", data_hashes={}, **kept)
    manifest = run.manifest()
    ended = datetime.fromisoformat(manifest["started"]) + timedelta(seconds=spent)
    sign(run, manifest | {"finished": ended.isoformat()})
    return RunFolder.open(folder)


def test_finished_runs_come_before_what_is_declared(tmp_path):
    config = compose(task="semeval2014t7", profile="smoke")
    runs = [
        finished(tmp_path / "a", "s2_shared", 3000, 10.0),
        finished(tmp_path / "b", "s2_shared", 1000, 10.0),
    ]
    known = Known(TABLE, runs)
    assert known.rate(config, "s2_shared") == pytest.approx(4000 / 20)
    assert known.rate(config, "s1_single") == pytest.approx(200 * 1.25)  # by the ratio of the two
    assert known.overhead_hours(config) == 0.0  # made in no time, beside its 10 seconds of training
    assert known.rate(compose(task="semeval2017t3", profile="open"), "s2_shared") == pytest.approx(80)
    assert (
        known.used["rates"]["tiny s2_shared (smoke)"].source
        == "measured: 2 finished run(s) of s2_shared here"
    )


def test_what_a_session_takes_is_read_off_runs_that_were_never_paused(tmp_path):
    config, day = compose(task="semeval2014t7", profile="smoke"), 86_400.0
    paused = finished(tmp_path / "paused", "s1_single", 1000, 10.0, spent=3 * day, worked=200.0)
    unknown = finished(tmp_path / "search", "s1_single", 1000, 10.0, spent=3 * day, worked=None)
    assert Known(TABLE, [paused, unknown]).overhead_hours(config) == 0.01  # as declared
    whole = finished(tmp_path / "whole", "s1_single", 1000, 10.0, spent=100.0, worked=105.0)
    known = Known(TABLE, [paused, unknown, whole])
    assert known.overhead_hours(config) == pytest.approx(90 / 3600)
    assert known.used["overheads"]["tiny (smoke)"].source == "measured: 1 unpaused run(s) here"


def test_a_session_too_short_for_its_own_start_is_refused_with_both_figures():
    with pytest.raises(ConfigError, match=r"a: a session takes 12.00 h beside training.* is 11.5; raise"):
        cost("a", 5, overhead=12.0).sessions(LIMITS)


def test_the_plan_of_a_study_shows_its_cost_and_what_can_be_saved(declared_only, tmp_path):
    changes = ["models=[gemma2b,llama8b]", "seeds=[1,2]", "tasks=[semeval2021t6,semeval2017t3]"]
    changes += ["strategies=[s1_single,s2_shared,s3a_flat,s3b_hierarchical,s5_qlora]"]
    changes += ["ablations=[{name: plain, strategy: s3a_flat, overrides: [strategy.pcgrad=false]}]"]
    changes += ["profile=t4", "experiment=token_controlled"]
    changes += ["primary={model: gemma2b, strategy: s2_shared}"]
    lines = predict("rq5_practice", changes, tmp_path).splitlines()
    rows = {line[:34].strip(): line[34:].split() for line in lines if line[34:44].strip().isdigit()}
    figures = {name: [float(value.replace(",", "")) for value in row] for name, row in rows.items() if name}
    runs, hours, weeks = ({name: row[n] for name, row in figures.items()} for n in (0, 2, 4))
    assert runs["all"] == 2 * runs["model llama8b"] == 2 * runs["seed 1"] > 0
    assert hours["seed 1"] == pytest.approx(hours["all"] / 2, rel=0.01)
    assert weeks["all"] == pytest.approx(hours["all"] / 30, abs=0.06)
    assert hours["model llama8b"] > hours["model gemma2b"] > hours["ablation plain"] > 0
    assert hours["strategy s3a_flat"] > hours["strategy s2_shared"]  # S5 goes with it, and S5's twins
    assert any("estimate" in line for line in lines)


@pytest.mark.parametrize(("name", "most_hours"), [("full", 16 * 30), ("public", 2 * 30), ("pilot", 4.5)])
def test_a_study_fits_into_the_hours_that_it_promises(name, most_hours, declared_only):
    table = read_table()
    study, known = Study(load_selection(name)), Known(table)
    bill = total(run_costs(study, known), Limits.of(table))
    assert 0.6 * most_hours < bill.hours <= most_hours
    assert all(run.on_gpu for run in study.runs.values())


def test_a_placebo_costs_what_its_multi_task_run_costs(declared_only):
    changes = ["seeds=[1,2]", "tasks=[semeval2014t7,semeval2021t6]", "controls=[total,share,placebo]"]
    study = Study(load_selection("rq5_practice", changes))
    costs = {run.id: run for run in run_costs(study, Known(TABLE))}
    for run in study.of_kind(graph.TWIN):
        if run.control == "placebo":
            theirs, own = costs[run.twin_of], costs[run.id]
            assert (own.tokens, own.tokens_per_second) == (theirs.tokens, theirs.tokens_per_second)


def test_scoring_is_paid_for_where_no_finished_run_holds_it(declared_only):
    table = replace(TABLE, evaluation_passes={"gpu": Figure(0.5)})
    config = compose(task="semeval2014t7", profile="t4")
    assert Known(table).evaluation_hours(config, "s2_shared") == pytest.approx(0.5 * 1000 / 80 / 3600)
    assert Known(TABLE).evaluation_hours(config, "s2_shared") == 0.0


def test_a_plan_counts_the_tiny_models_tokens_without_training_it(monkeypatch):
    monkeypatch.setattr("kaggle_kit.models.tiny._pretrain", None)
    config = compose(overrides=["practice.documents=6", "practice.seed=12345"])
    assert count_tokens(config) > 100
