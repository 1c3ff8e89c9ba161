"""A user's own files of the configuration: added to the shipped ones, in front of them, and never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.config import compose, config_hash, members, params_dir, strategy_entry
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.params import own_files, params_file
from kaggle_kit.data import registry
from kaggle_kit.study.spec import load_selection
from kaggle_kit.study.throughput import read_table


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    (tmp_path / "we're, here=there" / "params").mkdir(parents=True)
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path / "we're, here=there" / "params"))
    return tmp_path / "we're, here=there" / "params"


def put(own: Path, place: str, **changes) -> Path:
    """An own file: the shipped one named first in `like`, with other values."""
    said = OmegaConf.load(params_dir() / changes.pop("like"))
    file = own / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(OmegaConf.to_yaml(OmegaConf.merge(said, changes)))
    return file


def config(*arguments: str):
    return CliRunner().invoke(app, ["config", *arguments])


def test_a_folder_with_one_model_adds_it_to_the_shipped_ones(own):
    shipped = sorted(path.stem for path in (params_dir() / "model").glob("*.yaml"))
    put(own, "model/mine.yaml", like="model/minilm.yaml", name="mine", parameters=9)
    assert members("model") == sorted([*shipped, "mine"])
    composed = compose("mine", "ncbi_disease", profile="open")
    assert (composed.model.name, composed.model.parameters) == ("mine", 9)
    assert compose("minilm").model.parameters == 22713216


def test_an_own_file_takes_the_place_of_the_shipped_one_everywhere(own):
    put(own, "model/bert.yaml", like="model/bert.yaml", parameters=9)
    put(own, "strategy/s1_single.yaml", like="strategy/s1_single.yaml", title="my own")
    put(own, "task/semeval2017t3.yaml", like="task/semeval2017t3.yaml", title="my task")
    put(own, "study/first_look.yaml", like="study/first_look.yaml", seeds=[7, 8])
    put(own, "cost/kaggle_t4.yaml", like="cost/kaggle_t4.yaml")
    base = "experiment/token_controlled.yaml"
    text = (params_dir() / base).read_text().replace("training:", "training:\n  stride: 77")
    (own / "experiment").mkdir()
    (own / base).write_text(text)
    after = compose("bert", "semeval2017t3", experiment="planted")  # which builds on token_controlled
    assert (after.model.parameters, after.strategy.title) == (9, "my own")
    assert after.training.stride == 77
    assert registry.task("semeval2017t3").title == after.tasks["semeval2017t3"].title == "my task"
    assert strategy_entry("s1_single").title == "my own"
    assert load_selection("first_look").seeds == [7, 8]
    assert params_file("cost/kaggle_t4.yaml") == own / "cost" / "kaggle_t4.yaml" and read_table()


def test_the_source_of_a_value_is_the_file_that_says_it(own):
    mine = put(own, "model/mine.yaml", like="model/minilm.yaml", name="mine")
    shown = config("--model", "mine", "--sources", "--json")
    assert shown.exit_code == 0, shown.output
    sources = json.loads(shown.stdout)["sources"]
    assert sources["model.parameters"] == str(mine)
    assert sources["strategy.sampling"].startswith(("params/strategy/", "default of"))
    assert sources["tasks.semeval2014t7.title"] == "params/task/semeval2014t7.yaml"


def test_a_near_miss_of_an_own_name_is_suggested(own):
    put(own, "task/our_notes.yaml", like="task/ncbi_disease.yaml", name="our_notes")
    told = config("--task", "our_note")
    assert told.exit_code == 2
    assert "did you mean 'our_notes'" in told.stderr


def test_without_own_files_nothing_changes(own):
    put(own, "model/mine.yaml", like="model/minilm.yaml", name="mine")
    with_own = config_hash(compose("minilm"))
    own.joinpath("model", "mine.yaml").unlink()
    put(own, "model/minilm.yaml", like="model/minilm.yaml")
    assert config_hash(compose("minilm")) == with_own


def test_a_copy_whose_name_was_not_changed_is_refused(own):
    """Pages that load a run by its model's name would have taken the shipped one."""
    mine = put(own, "model/mine.yaml", like="model/minilm.yaml")
    with pytest.raises(ConfigError) as error:
        compose("mine")
    assert str(error.value) == f"{mine} says name: minilm; write `name: mine` there"
    put(own, "task/ours.yaml", like="task/ncbi_disease.yaml")
    with pytest.raises(ConfigError, match="write `name: ours` there"):
        compose("minilm", "ours")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "the folder holds no file such as model/mine.yaml"),
        ((".DS_Store", "model/._mine.yaml", "model/.ipynb_checkpoints/mine.yaml"), "holds no file such as"),
        (("models/mine.yaml",), "models/mine.yaml lies in no group; .*did you mean 'model'"),
        (("mine.yaml",), "mine.yaml lies in no group; allowed: api/, cost/, experiment/, model/"),
        (("model/good.yaml", "model/mine.yml"), "mine.yml is not read; call it model/mine.yaml"),
        (("model/good.yaml", "params/model/mine.yaml"), None),  # three folders deep: nobody's business
        (("cost/kaggle_t5.yaml",), "allowed: kaggle_t4, spread — did you mean 'kaggle_t4'"),
    ],
)
def test_a_folder_that_would_be_read_in_part_or_not_at_all_is_refused(own, files, said):
    for name in files:
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("name: x\n")
    if said is None:
        assert [file.stem for file in own_files()] == ["good"]
        return
    with pytest.raises(ConfigError, match=said):
        members("model")
    assert config().exit_code == 2


@pytest.mark.parametrize("name", ["nowhere", "a.yaml"])
def test_a_folder_that_does_not_exist_is_named(name, tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("name: a\n")
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path / name))
    with pytest.raises(ConfigError, match=f"{name}: there is no such folder"):
        compose()


def test_the_shipped_folder_itself_is_no_own_one(monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(params_dir()))
    assert own_files() == []


def test_an_own_file_in_another_encoding_is_refused_by_its_name(own):
    (own / "task").mkdir()
    (own / "task/mine.yaml").write_bytes("name: mine".encode("utf-16"))
    with pytest.raises(ConfigError, match="mine.yaml is not UTF-8"):
        compose()
