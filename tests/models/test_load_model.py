"""load_model: any name, the specification's arguments and defaults, and what is refused."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Kind
from kaggle_kit.models import load_model as by_name
from kaggle_kit.models import loading, tiny
from kaggle_kit.models.load_model import entry_of, load_model

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
NF4 = {"enabled": True, "bits": 4, "quant_type": "nf4", "compute_dtype": "float32", "double_quant": True}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("KAGGLE_KIT_MODEL_TINY", raising=False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(LlamaConfig(vocab_size=96, num_key_value_heads=2, **SIZES)).save_pretrained(folder)
    return folder


def test_the_signature_is_the_specifications():
    parameters = inspect.signature(load_model).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults == {
        "model_name": inspect.Parameter.empty,
        "task_type": "ner",
        "quantization": None,
        "gradient_checkpointing": True,
    }


def test_a_local_folder_gives_a_frozen_backbone_without_a_language_model_head(llama):
    model, is_quantized = load_model(str(llama))
    assert not is_quantized and model.task_kind == Kind.TOKENS
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not hasattr(model, "lm_head") and not model.config.use_cache
    assert all(decision.reason for decision in model.decisions.values())


def test_the_model_reads_padded_rows_like_any_other_of_the_library(llama):
    model, _ = load_model(str(llama))
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    alone = model(input_ids=ids[1:, :2]).last_hidden_state
    torch.testing.assert_close(states[1, :2], alone[0], rtol=1e-4, atol=1e-5)


def test_an_entry_is_read_off_a_folders_own_config(llama, tmp_path):
    config = entry_of(str(llama))
    whole = LlamaForCausalLM.from_pretrained(llama).num_parameters()
    assert (config.family, config.architecture, config.parameters) == ("decoder", "llama", whole)
    assert config.lora.targets == ["q_proj", "k_proj", "v_proj", "o_proj"]
    BertModel(BertConfig(vocab_size=96, **SIZES)).save_pretrained(tmp_path)
    encoder = entry_of(str(tmp_path))
    assert (encoder.family, encoder.lora.targets) == ("encoder", ["query", "key", "value"])


@pytest.mark.parametrize(("billions", "expected"), [(3.9, False), (4.1, True)])
def test_a_model_of_unknown_name_is_quantised_by_its_size(llama, monkeypatch, billions, expected):
    entry = entry_of(str(llama))
    entry.parameters = int(billions * 1e9)
    monkeypatch.setattr(by_name, "entry_of", lambda name: entry)
    assert load_model(str(llama))[1] is expected


@pytest.mark.parametrize("double", [True, False])
def test_a_quantization_dict_with_the_specifications_keys_is_honoured(llama, double):
    model, is_quantized = load_model(str(llama), "re", NF4 | {"double_quant": double})
    assert is_quantized and model.task_kind == Kind.RELATIONS
    state = model.layers[0].mlp.down_proj.weight.quant_state
    assert (state.quant_type, state.nested) == ("nf4", double)
    assert model.layers[0].mlp.down_proj.compute_dtype == torch.float32


def test_quantization_that_is_not_enabled_overrules_the_size(llama, monkeypatch):
    entry = entry_of(str(llama))
    entry.parameters = 8_000_000_000
    monkeypatch.setattr(by_name, "entry_of", lambda name: entry)
    assert load_model(str(llama), quantization={"enabled": False})[1] is False


def test_the_tiny_model_is_built_where_it_is_asked_for_by_name(monkeypatch, tmp_path):
    build = tiny.build_tiny
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))
    monkeypatch.setattr(by_name, "build_tiny", lambda name, texts: build(name, texts[:50], steps=0))
    model, is_quantized = load_model("tiny", "qa")
    assert not is_quantized and model.config.model_type == "llama"


def test_an_environment_folder_stands_in_for_a_registry_name_and_for_its_hub_id(llama, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_MODEL_LLAMA3B", str(llama))
    for name in ("llama3b", "meta-llama/Llama-3.2-3B"):
        model, _ = load_model(name)
        assert model.config.hidden_size == 64


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("llama3",), "unknown model 'llama3'.*did you mean"),
        (("someone/no-such-model",), "'someone/no-such-model': .*the hub gives no config.json"),
        (("bert",), "model bert: google-bert/bert-base-cased could not be had .*KAGGLE_KIT_MODEL_BERT"),
        (("tiny", "tagging"), "task_type is 'tagging'; allowed: ner, re, qa, token_classification"),
        (("tiny", "ner", "nf4"), "quantization is 'nf4'; give a dict with enabled, bits"),
        (("tiny", "ner", {"bit": 4}), "unknown key 'quantization.bit'; .*did you mean 'bits'"),
        (("tiny", "ner", {"bits": 8}), "quantization.bits=8 is not offered; allowed: 4"),
        (("tiny", "ner", {"quant_type": "fp4"}), "quant_type='fp4' is not offered; allowed: 'nf4'"),
        (("tiny", "ner", {"enabled": 1}), "quantization.enabled=1 is not offered; allowed: True, False"),
    ],
)
def test_what_it_does_not_know_is_refused(arguments, told, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_KIT_MODEL_BERT", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=told):
        load_model(*arguments)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the folder holds no config.json"):
        load_model(str(tmp_path))


def test_a_folder_of_another_architecture_than_the_entrys_is_refused(llama):
    entry = compose(model="bert", overrides=[f"model.path={llama}"]).model
    with pytest.raises(ConfigError, match="is of architecture 'llama', and the entry says 'bert'"):
        loading.load_backbone(entry, device="cpu")
