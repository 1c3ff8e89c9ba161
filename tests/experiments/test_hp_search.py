"""Trials of a search as trainings at toy size: what they leave, how they pause, what the result tells."""

from __future__ import annotations

import json

import pytest
import yaml

from kaggle_kit.analysis.trials import read_trials, trial_curves, trials_table
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.kaggle_outputs import last_step
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import training_session
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiments import hp_search
from kaggle_kit.experiments.hp_search_journal import Search, search_settings
from kaggle_kit.training.callbacks.alarms import TrainingAlarm
from kaggle_kit.training.resume import CheckpointCallback
from tests.experiment.test_rounds import small_models  # noqa: F401

NER, RANKING = "semeval2014t7", "semeval2017t3"
TOY = (
    "experiment=hp_search",
    "experiment.full_models=[tiny]",
    "experiment.trials=2",
    "experiment.random_trials=2",
    "practice.documents=6",
    "practice.terms=20",
    "training.max_steps=4",
)


@pytest.fixture(scope="module", autouse=True)
def no_gate():
    """Models this small would not pass the gate, which has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_session, "pass_gate", lambda *given: "gate passed")
        yield


def begun(folder, strategy="s1_single", tasks=(NER,), more=()):
    config = compose(task=list(tasks), strategy=strategy, overrides=[*TOY, *more], seed=3)
    run = start_run(config, page="hp_search", run_dir=folder)
    return Experiment(config, run), Search(search_settings(config), run.path, config.seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "tasks"),
    [("s1_single", (NER,)), ("s2_shared", (NER, RANKING)), ("s4_sequential", (NER, RANKING))],
)
def test_a_search_of_either_arm_leaves_its_trials_its_best_and_the_budget(tmp_path, strategy, tasks):
    exp, search = begun(tmp_path / "runs" / "search", strategy, tasks)
    hp_search.run_search(exp, search)
    words = hp_search.finish_search(exp, search)
    records = read_trials(exp.run)
    assert [record["state"] for record in records] == ["complete"] * 2
    assert yaml.safe_load((exp.run.path / "best.yaml").read_text()) == words
    told = compose(task=list(tasks), strategy=strategy, overrides=words)
    assert told.experiment["tuning"] == {"trials": 2, "split": "dev", "study": exp.run.run_id}
    best = max(records, key=lambda record: record["score"])
    assert told.strategy.rank == best["values"]["strategy.rank"]
    manifest = exp.run.manifest()
    tokens = {task: sum(record["tokens"][task] for record in records) for task in tasks}
    assert manifest["totals"]["tokens"] == tokens and all(tokens.values())
    assert manifest["totals"]["trainable_parameters"] == best["trainable_parameters"]
    assert manifest["search"]["trials"] == 2 and manifest["search"]["score"] == best["score"]
    assert [found.path for found in find_runs(tmp_path / "runs")] == [
        exp.run.path
    ]  # no trial is a run of the study
    assert not list(exp.run.path.glob("trials/*/checkpoints"))


def test_reports_are_made_at_equal_shares_of_an_epoch_and_drawn(tmp_path):
    exp, search = begun(tmp_path / "search", more=("training.max_steps=10",))
    hp_search.run_search(exp, search)
    for record in read_trials(exp.run):
        epochs = record["values"]["training.epochs"]
        assert [point for point, _ in record["reports"]] == list(range(1, epochs + 1))
    table = trials_table(exp.run)
    assert list(table["trial"]) == [0, 1] and {"learning_rate", "rank", "score"} <= set(table)
    (axes,) = trial_curves(exp.run).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [len(r["reports"]) for r in read_trials(exp.run)]


@pytest.mark.slow
def test_a_search_that_the_session_ends_in_is_paused_and_goes_on_with_the_same_trial(tmp_path, monkeypatch):
    whole = begun(tmp_path / "whole")
    hp_search.run_search(*whole)
    train = training_session.train

    def ended_in_the_second(trial, trainer, phase):
        if trial.run.run_id == "001":
            (keeper,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, CheckpointCallback))
            keeper.clock.limit_seconds = 0.0
        return train(trial, trainer, phase)

    exp, search = begun(tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(training_session, "train", ended_in_the_second)
        said = hp_search.run_search(exp, search)
    assert "paused at step" in said and not search.finished
    assert exp.run.paused()["trial"] == 1
    kept = last_step(exp.run.path)
    assert kept > len(RunFolder.open(hp_search.trial_folder(exp.run, 0), finished=False).events()) == 4

    exp, search = begun(tmp_path / "cut")
    hp_search.run_search(exp, search)
    assert search.finished and exp.run.paused() is None and last_step(exp.run.path) > kept
    values, scores = ([record[key] for record in read_trials(whole[0].run)] for key in ("values", "score"))
    again = read_trials(exp.run)
    assert [record["values"] for record in again] == values
    assert [record["score"] for record in again] == scores
    assert [record["tokens"] for record in again] == [
        record["tokens"] for record in read_trials(whole[0].run)
    ]


def test_a_trial_that_diverges_is_given_up_and_counts(tmp_path, monkeypatch):
    def diverge(*given, **named):
        raise TrainingAlarm("step 3: the loss is nan")

    exp, search = begun(tmp_path / "search", more=("experiment.trials=1",))
    monkeypatch.setattr(training_session, "train", diverge)
    hp_search.run_search(exp, search)
    (record,) = [json.loads(line) for line in (exp.run.path / "trials.jsonl").read_text().splitlines()]
    assert record["state"] == "pruned" and "diverged: step 3" in record["pruned"]
