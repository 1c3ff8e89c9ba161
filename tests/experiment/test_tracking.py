"""Figures go to wandb: online with a token, else into the run folder; nothing but figures, and no crash."""

from __future__ import annotations

import logging
import os

import pytest
import wandb

from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.secrets import SecretLeak
from kaggle_kit.experiment.tracking import close_tracking, open_tracking, send

PLANTED = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def config(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_LOG_MODEL", "HF_TOKEN", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield compose(overrides=["training.report_to=wandb"])
    close_tracking()
    wandb.teardown()  # it keeps the settings of its first run for the whole process


@pytest.fixture
def run(config, tmp_path):
    return start_run(config, page="toy", run_dir=tmp_path / "run")


class Service:
    """Stands for `wandb.init`; `fails` are the modes in which it does not answer."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.asked = fails, []

    def init(self, **options) -> None:
        self.asked.append(options)
        if options["mode"] in self.fails:
            raise wandb.errors.CommError(f"no answer, asked with {PLANTED}")


def test_by_default_nothing_is_reported(tmp_path):
    config = compose()
    assert open_tracking(config, start_run(config, page="toy", run_dir=tmp_path / "run")) is False


def test_who_sees_the_figures_is_no_part_of_a_configurations_hash(config):
    assert config_hash(config) == config_hash(compose())


def test_without_a_token_the_figures_are_kept_in_the_run_folder_and_one_note_says_so(
    config, run, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("kaggle_kit"), "propagate", True)
    with caplog.at_level("INFO", logger="kaggle_kit"):
        assert open_tracking(config, run)
    (note,) = (record.getMessage() for record in caplog.records if record.name == "kaggle_kit")
    assert note.startswith("WANDB_API_KEY: not found, so wandb logs offline")
    assert (wandb.run.settings.mode, wandb.run.settings.console, wandb.run.name) == ("offline", "off", "run")
    opened = wandb.run
    assert open_tracking(config, run) and wandb.run is opened  # the next phase goes on in it
    wandb.log({"train/loss": 1.0})
    close_tracking()
    assert wandb.run is None
    assert len(list((run.path / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_with_a_token_a_run_is_online_and_goes_on_under_its_name(config, run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", PLANTED)
    service = Service()
    monkeypatch.setattr(wandb, "init", service.init)
    assert open_tracking(config, run) and open_tracking(config, run)
    first, again = service.asked
    assert (first["mode"], first["resume"], first["dir"]) == ("online", "allow", str(run.path))
    assert first["id"] == again["id"] is not None
    assert (first["settings"].console, first["settings"].disable_code) == ("off", True)


def test_a_service_that_does_not_answer_stops_no_run(config, run, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", PLANTED)
    for fails, expected in ((("online",), True), (("online", "offline"), False)):
        service = Service(*fails)
        monkeypatch.setattr(wandb, "init", service.init)
        assert open_tracking(config, run) == expected
        assert [options["mode"] for options in service.asked] == ["online", "offline"]
    assert PLANTED not in caplog.text


def test_weights_are_not_uploaded(config, run, monkeypatch):
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    with pytest.raises(ConfigError, match="WANDB_LOG_MODEL=end: weights are not sent to a service"):
        open_tracking(config, run)


def test_another_place_to_report_to_is_refused():
    with pytest.raises(ConfigError, match="training.report_to=mlflow is not legal; allowed: none, wandb"):
        compose(overrides=["training.report_to=mlflow"])


def test_a_token_among_the_settings_never_reaches_a_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    config = compose(overrides=[f"model.path={PLANTED}"])
    with pytest.raises(SecretLeak, match="the configuration holds the value of HF_TOKEN"):
        start_run(config, page="toy", run_dir=tmp_path / "run")
    assert not os.path.exists(tmp_path / "run" / "config.yaml")


class Followed:
    """Stands for the open run of the library; `breaks` makes it raise at every figure."""

    def __init__(self, breaks: bool = False) -> None:
        self.breaks, self.logged, self.name = breaks, [], "run"

    def log(self, numbers) -> None:
        if self.breaks:
            raise ConnectionError("no answer")
        self.logged.append(numbers)


def test_a_step_is_sent_as_numbers_alone_each_under_the_name_of_its_kind(monkeypatch):
    followed = Followed()
    monkeypatch.setattr(wandb, "run", followed)
    send(
        {
            "step": 50,
            "losses": {"ner": 0.5, "qa": None},
            "conflicts": {"shared": {"cosines": {"ner × qa": -0.25}, "null": {}}},
            "nonfinite": ["ner"],
            "memory_gib": {"allocated": 2.0},
            "leaking": False,
            "tokens": {"ner": 30, "qa": 12},
            "note": "a patient with fever",
        }
    )
    assert followed.logged == [
        {
            "step": 50,
            "losses/ner": 0.5,
            "conflicts/shared/cosines/ner × qa": -0.25,
            "memory_gib/allocated": 2.0,
            "leaking": False,
            "tokens/ner": 30,
            "tokens/qa": 12,
            "tokens/all": 42,
        }
    ]


def test_a_service_that_breaks_in_mid_run_stops_no_run(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("kaggle_kit"), "propagate", True)
    monkeypatch.setattr(wandb, "run", Followed(breaks=True))
    send({"step": 1, "losses": {"ner": 0.5}})
    assert "wandb log failed, the run goes on: ConnectionError" in caplog.text


def test_the_whole_configuration_goes_there_with_every_rank_and_without_paths(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", PLANTED)
    service = Service()
    monkeypatch.setattr(wandb, "init", service.init)
    open_tracking(compose(overrides=["training.report_to=wandb", "model.path=somewhere"]), run)
    sent = service.asked[0]["config"]
    assert (sent["strategy"]["rank"], sent["training"]["epochs"], sent["seed"]) == (16, 4.0, 42)
    assert "path" not in sent["model"] and "somewhere" not in str(sent)
