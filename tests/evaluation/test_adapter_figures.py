"""How far each adapter moves its layers, in matrices that can be worked by hand."""

from __future__ import annotations

import math

import pytest
from peft.tuners.lora import LoraLayer
from transformers import BertConfig, BertModel

from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.evaluation.adapter_figures import adapter_shares, adapter_sizes
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.multitask import MultiTaskModel
from tests.experiment.test_experiment import opened  # noqa: F401
from tests.experiment.test_rounds import NER, RANKING, small_models  # noqa: F401
from tests.models.conftest import toys  # noqa: F401
from tests.models.test_adapters import BERT


def test_an_update_counts_with_its_scaling_over_all_projections_of_a_layer(opened):  # noqa: F811
    lora = opened("s4_sequential", "s4_sequential").model.lora
    squares: dict[int, float] = {}
    for path, module in lora.peft.named_modules():
        if isinstance(module, LoraLayer):
            down, up = module.lora_A["shared"].weight, module.lora_B["shared"].weight
            down.data.fill_(0.5), up.data.fill_(0.2)
            entry = len(down) * 0.5 * 0.2 * lora.scaling  # of every cell of B A, after scaling
            layer = next(int(part) for part in path.split(".") if part.isdigit())
            squares[layer] = squares.get(layer, 0.0) + entry**2 * down.shape[1] * len(up)
    found = adapter_sizes(lora)
    assert found["shared"] == pytest.approx({layer: math.sqrt(total) for layer, total in squares.items()})
    for task in (NER, RANKING):
        assert set(found[f"private_{task}"].values()) == {0.0}  # B is zero before training


def test_layers_of_one_name_within_a_block_are_told_apart(toys):  # noqa: F811
    backbone = BertModel(BertConfig(**BERT))
    backbone.set_attn_implementation(PACKED)
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["query", "dense"])
    model = MultiTaskModel(SharedPrivateLoRA(backbone, settings, {"shared": 4}), toys.specs[:1], causal=False)
    found = adapter_shares(model, {"entities": [toys.batch("entities")]})
    names = ["attention.output.dense", "intermediate.dense", "output.dense", "query"]
    assert {name: list(by_layer) for name, by_layer in found.items()} == dict.fromkeys(names, [0, 1])
