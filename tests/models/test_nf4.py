"""The quantised base against its own files, and its memory by hand."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from kaggle_kit.models.four_bit import (
    base_bytes,
    quantisation_errors,
    quantised_layers,
    quantised_weights,
    restored_weight,
)

pytest.importorskip("bitsandbytes")


def test_what_is_restored_is_what_the_layer_multiplies_by(toys):
    layers = quantised_layers(toys.loaded("llama", quantization="nf4").backbone)
    layer = layers["layers.0.self_attn.q_proj"]
    torch.testing.assert_close(layer(torch.eye(64)).T, restored_weight(layer), atol=1e-5, rtol=1e-4)


def test_every_matrix_is_compared_with_the_one_in_the_models_file(toys):
    loaded = toys.loaded("llama", quantization="nf4")
    stored = load_file(toys.saved["llama"] / "model.safetensors")
    found = {path: (original, restored) for path, original, restored in quantised_weights(loaded)}
    assert found.keys() == quantised_layers(loaded.backbone).keys()
    for path, (original, restored) in found.items():
        assert torch.equal(original, stored[f"{path}.weight"].float())
        expected = float((restored - original).norm() / original.norm())
        assert quantisation_errors(loaded)[path] == pytest.approx(expected)
        assert 0.05 < expected < 0.15  # 16 levels for normal weights


def test_adapters_around_the_layers_change_neither_names_nor_bytes(toys):
    loaded = toys.loaded("llama", quantization="nf4")
    layers, memory = quantised_layers(loaded.backbone), base_bytes(loaded)
    toys.model("llama", loaded=loaded, kind="shared")
    assert quantised_layers(loaded.backbone).keys() == layers.keys()
    assert base_bytes(loaded) == memory


def test_the_memory_of_the_base_is_four_bits_a_weight_and_its_scales(toys):
    loaded = toys.loaded("llama", quantization="nf4")
    counts = [layer.weight.quant_state.shape.numel() for layer in quantised_layers(loaded.backbone).values()]
    blocks = [count // 64 for count in counts]  # one byte each, and four for each 256 of them
    kept = sum(count // 2 for count in counts) + sum(blocks) + sum(4 * -(-block // 256) for block in blocks)
    rest = sum(p.numel() for p in toys.loaded("llama").backbone.parameters()) - sum(counts)
    assert base_bytes(loaded) == {
        "matrices in NF4": (kept, 4 * sum(counts)),
        "the rest": (4 * rest, 4 * rest),
    }


def test_without_quantisation_there_is_no_layer_to_compare(toys):
    assert quantised_layers(toys.loaded("llama").backbone) == {}
    assert quantisation_errors(toys.loaded("llama")) == {}
