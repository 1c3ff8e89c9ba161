"""The tables of a verdict say what its document says, number by number."""

from __future__ import annotations

import pytest

from kaggle_kit.analysis.difference_figures import development_curves
from kaggle_kit.analysis.figures import png
from kaggle_kit.analysis.verdict import no_verdict, verdict
from kaggle_kit.analysis.verdict_tables import (
    declared_table,
    gain_table,
    input_table,
    rule_table,
    training_table,
)
from kaggle_kit.analysis.verdict_words import undecided_in_words
from kaggle_kit.core.artifacts import find_runs
from tests.analysis.judged_runs import TASKS, Factory

NOTES, QUESTIONS = TASKS


@pytest.fixture(scope="module")
def document(study):
    return verdict(find_runs(study))


def test_the_rule_names_the_controls_that_are_beaten_not_beaten_and_not_there(document):
    found = rule_table(document).set_index(["task", "control"])["what it shows"]
    assert set(found[NOTES]) == {"beaten"}
    assert found[QUESTIONS, "total"] == "not shown to be beaten"
    missing = {"failed": ["total"], "missing": ["share"]}
    contrasts = {"total": document["tasks"][NOTES]["contrasts"]["total"]}
    one = {NOTES: document["tasks"][NOTES] | missing | {"contrasts": contrasts}}
    words = rule_table(document | {"tasks": one}).set_index(["task", "control"])["what it shows"][NOTES]
    assert (words["total"], words["share"]) == ("not shown to be beaten", "never trained")


def test_the_two_parts_of_a_gain_add_up_in_the_table(document):
    row = gain_table(document).set_index("task").loc[NOTES]
    share, tokens, tasks = row
    assert share == document["tasks"][NOTES]["contrasts"]["share"]["difference"]
    assert tokens + tasks == pytest.approx(share) and tasks == document["tasks"][NOTES]["difference"]


def test_training_is_the_mean_over_seeds_of_each_arm(document):
    arm = {"optimiser_steps": [10, 20], "epochs_over_own_data": [1.0, 2.0], "final_training_loss": [0.2, 0.4]}
    arm |= {"development": [[[0.5, 0.9], [1.0, 0.6]], [[0.5, 0.3], [1.0, None]]]}
    (row,) = training_table({"training": {NOTES: {"total": arm}}}).itertuples(index=False, name=None)
    assert row == pytest.approx((NOTES, "total", 15, 1.5, 0.3, 0.6, 0.6, 0.45), nan_ok=True)
    lines = development_curves({"training": {NOTES: {"total": arm}}}).axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[50, 100], [50]]


def test_an_arm_whose_development_was_never_scored_has_steps_and_no_curve():
    arm = {"optimiser_steps": [10], "epochs_over_own_data": [1.0], "final_training_loss": [0.2]}
    none = {"training": {NOTES: {"total": arm | {"development": [[]]}}}}
    assert training_table(none)["best dev"].isna().all() and png(development_curves(none))


def test_inputs_and_declarations_are_those_of_the_document(document):
    inputs = input_table(document)
    assert list(inputs["run"]) == [run["run_id"] for run in document["inputs"]]
    controls = inputs[inputs["control"] == "total"]
    assert set(controls["tokens asked for"]) == {10_000}
    declared = declared_table(document).set_index("declared")["value"]
    assert (declared["seeds"], declared[f"margin, {NOTES}"]) == ("1, 2, 3", "0.02")


def test_a_task_that_is_undecided_says_what_would_decide_it(tmp_path):
    study = Factory(tmp_path, seed_sd=0.03).study(seeds=(1, 2, 3), effect={NOTES: 0.03}, controls=("total",))
    lines = list(undecided_in_words(verdict(find_runs(study))))
    assert [line.partition(":")[0] for line in lines] == [*TASKS, "all tasks"]
    assert f"--task {NOTES} experiment=token_controlled experiment.control=share" in lines[0]
    assert "more seed(s)" in lines[0]


def test_without_a_verdict_every_table_is_empty_and_the_figure_says_why():
    nothing = no_verdict("no run is there")
    for make in (rule_table, gain_table, training_table, input_table, declared_table):
        assert make(nothing).empty
    assert list(undecided_in_words(nothing)) == []
    assert development_curves(nothing).texts
