"""Arms beside each other: whose tokens they read, what they train, how far they were optimised."""

from __future__ import annotations

import pytest

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import strategy_entry
from kaggle_kit.experiment import show
from kaggle_kit.experiment.show.counts import ledger_totals, optimisation_table
from kaggle_kit.models.parity import Variant

BOTH = {"pair": [{"a": 3, "b": 4}, {"b": 5}], "alone": [{"a": 7}, {"a": 5}]}


def manifest_of(tmp_path, development):
    """A run's folder with the fields that are read of its manifest and configuration."""
    (tmp_path / "run").mkdir()
    asked = {"tasks": ["a"], "model": "m", "profile": "smoke", "strategy": "s1_single", "seed": 1}
    run = RunFolder(tmp_path / "run", asked)
    run.config_yaml.write_text("training: {quick_samples: 20}")
    run.append_event({"step": 1, "losses": {"a": 0.5}})
    facts = {"epochs_over_own_data": {"a": 1.5}, "totals": {"tokens": {"a": 30}}, "optimiser_steps": 4}
    return run, facts | {"final_training_loss": {"a": 0.25}, "development": development}


@pytest.fixture
def run(tmp_path, monkeypatch):
    curve = [(0.5, 0.75), (0.7, 0.75), (1.0, 0.5)]
    development = [{"share": share, "scores": {"a": score}} for share, score in curve]
    run, facts = manifest_of(tmp_path, development)
    monkeypatch.setattr(RunFolder, "manifest", lambda self: facts)
    return run


def test_a_ledger_adds_up_by_source_and_an_arm_without_a_source_has_none_of_it():
    assert ledger_totals(BOTH) == [
        {"arm": "pair", "steps": 2, "a": 3, "b": 9, "all": 12},
        {"arm": "alone", "steps": 2, "a": 12, "b": 0, "all": 12},
    ]


def test_ledgers_are_shown_as_a_figure_and_a_table(capsys):
    show.ledgers(BOTH, "Tokens of both")
    shown = capsys.readouterr().out
    assert "Image" in shown and "Tokens of both, in total" in shown
    assert [line.split() for line in shown.splitlines() if line.strip().startswith("alone")] == [
        ["alone", "2", "12", "0", "12"]
    ]


def test_parity_is_shown_task_by_task_with_the_widest_difference(capsys):
    variants = [
        Variant(strategy_entry(name), {"a": count, "b": 2_000}, total)
        for name, count, total in (("a1", 1_000, 5_000), ("a2", 1_050, 6_000))
    ]
    show.parity(variants)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["active,", "a", "1,000", "1,050", "5.0%"] in lines
    assert ["active,", "b", "2,000", "2,000", "0.0%"] in lines
    assert ["total", "5,000", "6,000", "20.0%"] in lines


def test_the_best_point_of_a_curve_is_the_first_of_the_highest(run):
    (row,) = optimisation_table({"control": run})
    assert row == {
        "run": "control",
        "task": "a",
        "tokens": 30,
        "steps": 4,
        "epochs over its data": 1.5,
        "final training loss": 0.25,
        "dev, last point": 0.5,
        "dev, best point": 0.75,
        "at": 0.5,
    }


def test_how_far_runs_were_optimised_is_shown_as_losses_a_curve_and_a_table(run, capsys):
    show.optimisation({"control": run}, "a")
    shown = capsys.readouterr().out
    assert shown.count("Image") == 2
    row = ["control", "a", "30", "4", "1.50", "0.2500", "0.5000", "0.7500", "50%"]
    assert row in [line.split() for line in shown.splitlines()]


def test_a_run_without_a_development_curve_says_so_and_has_no_best_point(tmp_path, monkeypatch, capsys):
    run, facts = manifest_of(tmp_path, development=[])
    monkeypatch.setattr(RunFolder, "manifest", lambda self: facts)
    show.optimisation({"control": run}, "a")
    row = ["control", "a", "30", "4", "1.50", "0.2500", "–", "–", "–"]
    assert row in [line.split() for line in capsys.readouterr().out.splitlines()]
