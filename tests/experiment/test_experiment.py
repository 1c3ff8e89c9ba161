"""The object a page talks to: parts in the order in which they are asked for, and a run at its end."""

from __future__ import annotations

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.experiment import preparation
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.models.build import build_model
from tests.experiment.test_rounds import NER, RANKING, small_models  # noqa: F401

QUICK = ["training.max_steps=3", "profile.max_train_samples=8", "profile.max_dev_samples=4"]


@pytest.fixture
def opened(tmp_path, small_models):  # noqa: F811
    def make(strategy: str = "s3a_flat", page: str = "s3a_flat", **more) -> Experiment:
        asked = {"task": f"{NER},{RANKING}", "strategy": strategy, "overrides": QUICK, "runs_dir": tmp_path}
        return Experiment.open(page, **asked | more)

    return make


def test_a_run_is_trained_scored_and_recorded_by_four_calls(opened):
    exp = opened()
    session = exp.train()
    assert exp.finished and session.tokens == exp.plan.tokens
    assert {metric.task for metric in exp.evaluate()} == {NER, RANKING}
    assert exp.finish().is_file() and exp.run.finished
    assert exp.run.metrics() == exp.metrics


def test_what_is_not_trained_is_neither_scored_nor_recorded(opened):
    exp = opened()
    for call in (exp.evaluate, exp.finish):
        with pytest.raises(KitError, match="is not finished: it has not been trained"):
            call()
    assert not exp.run.finished


def test_the_parts_are_those_of_the_functions_below_and_are_made_once(opened):
    exp = opened()
    assert exp.plan is exp.plan and exp.samples("dev") is exp.samples("dev")
    assert exp.plan.sha256 == preparation.plan_training(exp.config, exp.encoded).sha256
    weights = exp.model.state_dict()
    torch.manual_seed(exp.config.seed)
    again = build_model(preparation.open_backbone(exp.config), exp.specs.values(), exp.config.strategy)
    assert weights.keys() == again.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())


def test_a_model_of_the_pages_own_takes_the_place_of_the_strategys(opened):
    exp = opened()
    mine = build_model(exp.backbone, exp.specs.values(), exp.config.strategy)
    exp.model = mine
    exp.train()
    assert exp.session.trainers[-1].model is mine


def test_the_step_that_is_looked_at_holds_as_many_tasks_as_any(opened):
    exp = opened()
    most = max(len(step.tokens) for step in exp.plan.steps)
    assert len(list(exp.step().by_task())) == most
    assert exp.step(1).number == 1


def test_settings_are_settled_before_the_folder_is_opened(opened):
    def refuse(config):
        raise ConfigError("settled")

    with pytest.raises(ConfigError, match="settled"):
        opened(settle=refuse)


@pytest.mark.parametrize(("overrides", "shown"), [(["profile.corpora=any"], False), ([], True)])
def test_the_values_of_a_restricted_run_are_in_no_traceback_of_the_users_own_notebook(
    opened, capsys, overrides, shown
):
    shell = InteractiveShell(colors="NoColor")
    shell.InteractiveTB.set_mode("Verbose")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("IPython.get_ipython", lambda: shell)
        opened("s1_single", "s1_single_task", task=NER, overrides=overrides)
    shell.run_cell("note = 'Mr. Planted'\ndef read(note):\n    raise KeyError(3)\nread(note)")
    printed = capsys.readouterr().out
    assert "KeyError" in printed and ("Planted" in printed) is shown
