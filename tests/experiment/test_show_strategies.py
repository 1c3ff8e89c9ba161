"""What the pages of S3b, S4 and S5 show of their own method."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.experiment import preparation, show
from kaggle_kit.experiment.training_session import Phase
from tests.experiment.test_experiment import opened  # noqa: F401
from tests.experiment.test_rounds import NER, RANKING, small_models  # noqa: F401


def test_the_way_of_a_batch_names_what_runs_twice_and_how_far_states_move(capsys):
    trunk, first, second = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0]])
    passes = [(0, ("shared",)), *((1, ("shared", level)) for level in ("level1", "level2"))]
    show.level_passes(passes, [trunk, first, second])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split() for row in rows] == [
        ["1", "0", "to", "0", "once", "shared", "5.00", "–"],
        ["2", "1", "to", "1", "twice", "shared", "+", "level1", "5.00", "0.000"],
        ["3", "1", "to", "1", "twice", "shared", "+", "level2", "10.00", "1.000"],
    ]


def test_relations_within_reach_need_a_task_with_relations(opened, capsys):  # noqa: F811
    show.relations_within_reach(opened("s3b_hierarchical", "s3b_hierarchical"))
    assert capsys.readouterr().out.strip() == "No task of this run has relations between mentions."


@pytest.fixture
def sequential(opened):  # noqa: F811
    exp = opened("s4_sequential", "s4_sequential")
    halves = [preparation.plan_training(exp.config, exp.encoded, part) for part in preparation.HALVES]
    prepares = (exp.model.pretrain_shared, exp.model.adapt)
    exp.phases = [
        Phase(plan, exp.quick, name=name, prepare=prepare)
        for plan, name, prepare in zip(halves, ("shared", "own"), prepares, strict=True)
    ]
    return exp


def test_a_group_that_learns_in_no_phase_is_shown_as_frozen(sequential, capsys):
    show.phase_gradients(sequential, {"shared": {"shared": 1.25}, "own": {f"private:{NER}": 0.5}})
    rows = {row.split()[0]: row.split()[-2:] for row in capsys.readouterr().out.splitlines()[2:]}
    assert rows["shared"] == ["1.250", "frozen"]
    assert rows[f"private:{NER}"] == ["frozen", "0.500"]
    assert rows[f"heads:{RANKING}"] == ["frozen", "frozen"]


def test_each_phase_of_a_run_is_shown_with_its_score_and_the_change(sequential, capsys):
    sequential.train()
    capsys.readouterr()
    show.scores_by_phase(sequential)
    show.own_updates(sequential)
    first, second = (
        event["quick_evaluation"] for event in sequential.run.events() if "quick_evaluation" in event
    )
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if row.split()[:1] == [RANKING]]
    change = second[f"{RANKING}.map"] - first[f"{RANKING}.map"]
    expected = [f"{first[f'{RANKING}.map']:.4f}", f"{second[f'{RANKING}.map']:.4f}", f"{change:+.4f}"]
    assert rows == [[RANKING, "map", *expected]]


def test_the_memory_of_the_base_and_its_errors_are_shown(opened, capsys):  # noqa: F811
    exp = opened("s5_qlora", "s5_qlora")
    show.candidate(exp, "shared_private as declared")
    errors = show.nf4_errors(exp)
    show.base_memory(exp)
    shown = capsys.readouterr().out
    assert "shared_private as declared" in shown and "matrices in NF4" in shown and "together" in shown
    assert errors and all(0.05 < error < 0.2 for error in errors.values())
