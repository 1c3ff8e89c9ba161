"""A model named by its folder or hub id: read off its config.json, known by its contents."""

from __future__ import annotations

import json
import shutil

import pytest

from kaggle_kit.core.config import compose, config_hash, from_yaml, to_yaml
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.request import Request, value_sources
from kaggle_kit.core.schema import plain_values

QWEN = {
    "model_type": "qwen2",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
# 100·64 embeddings; a layer: 4096+2·2048+4096 attention, 128 biases of 64+32+32, 24576 MLP, 128 norms; 64
PARAMETERS = 100 * 64 + 2 * (12_288 + 128 + 24_576 + 128) + 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def folder_at(place, config=QWEN, weights=b"one"):
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    (place / "model.safetensors").write_bytes(weights)
    return place


@pytest.mark.parametrize("by", ["option", "override"])
def test_a_folder_needs_nothing_that_its_config_json_says(tmp_path, by):
    place = str(folder_at(tmp_path / "my model=v1" / "qwen small"))
    config = compose(model=place) if by == "option" else compose(overrides=[f"model={place}"])
    model = config.model
    assert (model.name, model.path) == ("qwen small", place)
    assert (model.family, model.architecture, model.max_positions) == ("decoder", "qwen2", 4096)
    assert model.parameters == PARAMETERS
    assert (model.lora.rank, model.lora.alpha) == (16, 32)
    assert model.lora.targets == ["q_proj", "k_proj", "v_proj", "o_proj"]


def test_the_hash_depends_on_the_contents_and_not_on_the_place(tmp_path):
    one = folder_at(tmp_path / "a" / "model")
    same = shutil.copytree(one, tmp_path / "b" / "model")
    other = folder_at(tmp_path / "c" / "model", weights=b"two")
    first, moved, changed = (config_hash(compose(model=str(place))) for place in (one, same, other))
    assert first == moved != changed
    (one / "tokenizer.json").write_text("{}")
    assert config_hash(compose(model=str(one))) != first
    (same / "README.md").write_text("a note")
    assert config_hash(compose(model=str(same))) == first


def test_a_stored_configuration_needs_the_folder_no_more(tmp_path):
    place = folder_at(tmp_path / "model")
    config = compose(model=str(place))
    shutil.rmtree(place)
    assert from_yaml(to_yaml(config)) == config


def test_a_folder_that_is_named_like_a_file_of_params_is_told_apart(tmp_path):
    name = compose(model=str(folder_at(tmp_path / "bert"))).model.name
    assert name.startswith("bert-") and len(name) == len("bert-") + 8


def test_overrides_and_experiments_still_change_what_was_read(tmp_path):
    place = str(folder_at(tmp_path / "model"))
    config = compose(model=place, overrides=["model.lora.rank=4", "training.epochs=2"])
    assert (config.model.lora.rank, config.model.lora.alpha) == (4, 32)
    assert compose(task="ncbi_disease", model=place, experiment="ncbi_minilm").model.architecture == "qwen2"


def test_the_source_of_what_was_read_is_told(tmp_path):
    place = str(folder_at(tmp_path / "model"))
    names = {"model": place, "task": "semeval2014t7", "strategy": None, "profile": None, "experiment": None}
    found = value_sources(plain_values(compose(model=place)), Request.of(names, []))
    assert found["model.max_positions"] == found["model.lora.targets"] == f"config.json of {place}"


def test_a_repository_in_the_hubs_cache_is_read_there_and_its_commit_counts(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--small-qwen"
    folder_at(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = compose(model="someone/small-qwen").model
    assert (model.name, model.hub_id, model.revision) == ("small-qwen", "someone/small-qwen", commit)
    assert model.path is None and model.parameters == PARAMETERS
    snapshot = compose(model=str(repository / "snapshots" / commit)).model
    assert snapshot.name == "small-qwen"


def test_a_hub_id_that_params_knows_is_that_entry():
    assert compose(model="google/gemma-2-2b").model == compose(model="gemma2b").model


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("someone/no-such-model", "no folder here, and the hub gives no config.json"),
        ("/no/such/folder", "there is no such folder"),
        ("minilmm", "unknown model 'minilmm'.*or a hub id — did you mean 'minilm'"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused(name, told, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=told):
        compose(model=name)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (QWEN | {"model_type": "qwen22"}, "'qwen22', which is not supported; supported: bert.*did you mean"),
        ({"model_type": "t5"}, "'t5', which is not supported; supported: bert, roberta"),
        ({"model_type": "llama"}, "does not say 'hidden_size'"),
        ({"architectures": []}, "is no model's config.json"),
        ([], "is no model's config.json"),
    ],
)
def test_a_config_json_of_no_supported_model_is_refused(tmp_path, config, told):
    with pytest.raises(ConfigError, match=told):
        compose(model=str(folder_at(tmp_path / "model", config)))
