"""What `export --quantise` refuses, before any work and without the libraries that quantise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn
from transformers import PretrainedConfig

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.export import quantise
from kaggle_kit.export.quantise import check_quantisable, group_size
from kaggle_kit.models import decisions
from kaggle_kit.models.decisions import QUANTISERS, stored_quantization


def model_of(architecture: str) -> SimpleNamespace:
    return SimpleNamespace(name="mine", architecture=architecture)


def backbone_of(outputs: int, inputs: int) -> nn.Module:
    backbone = nn.Module()
    backbone.layers = nn.ModuleList([nn.Linear(inputs, outputs)])
    return backbone


@pytest.fixture(params=[True, False], ids=["with the libraries", "without them"])
def installed(request, monkeypatch):
    monkeypatch.setattr(decisions, "find_spec", lambda name: object() if request.param else None)
    return request.param


def test_an_unknown_method_is_refused_with_those_there_are(installed):
    with pytest.raises(ConfigError, match="gguf.*gptq"):
        check_quantisable(model_of("llama"), "gguf")


@pytest.mark.parametrize(
    ("method", "architecture"),
    [("gptq", "bert"), ("gptq", "phi3"), ("awq", "modernbert"), ("awq", "gemma3_text")],
)
def test_an_architecture_that_a_method_lacks_is_refused_by_name(installed, method, architecture):
    with pytest.raises(ConfigError, match=f"{method} takes no '{architecture}'.*llama.*without --quantise"):
        check_quantisable(model_of(architecture), method)


def test_missing_libraries_are_refused_with_the_command_that_installs_them(installed):
    if installed:
        assert check_quantisable(model_of("llama"), "awq") is None
        return
    with pytest.raises(ConfigError, match="gptqmodel and optimum.*make setup-export"):
        check_quantisable(model_of("llama"), "awq")


def test_a_folder_in_four_bits_is_read_as_such_or_refused(installed):
    plain, stored = PretrainedConfig(), PretrainedConfig(quantization_config={"quant_method": "gptq"})
    other = PretrainedConfig(quantization_config={"quant_method": "bitsandbytes"})
    assert stored_quantization(plain) is None and stored_quantization(other) is None
    if installed:
        assert stored_quantization(stored).value == "gptq"
        return
    with pytest.raises(ConfigError, match=f"weights by gptq takes {' and '.join(QUANTISERS)}"):
        stored_quantization(stored)


@pytest.mark.parametrize(("inputs", "group"), [(256, 128), (192, 64), (96, 32)])
def test_the_largest_group_that_divides_the_inputs_is_taken(monkeypatch, inputs, group):
    monkeypatch.setattr(quantise, "layers_of", lambda backbone: backbone.layers)
    assert group_size(backbone_of(64, inputs), "awq") == group


@pytest.mark.parametrize(
    ("outputs", "inputs", "method"), [(64, 40, "gptq"), (96, 64, "awq"), (40, 64, "gptq")]
)
def test_a_matrix_of_a_shape_that_a_method_lacks_is_refused_by_name(monkeypatch, outputs, inputs, method):
    monkeypatch.setattr(quantise, "layers_of", lambda backbone: backbone.layers)
    with pytest.raises(ConfigError, match=f"layers.0 is {outputs} x {inputs}; {method} takes outputs"):
        group_size(backbone_of(outputs, inputs), method)
