"""Merged adapters: the same model in fewer products, and the frozen weights as they were afterwards."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.merging import merged, model_bytes, why_unmergeable


def trained(toys, **strategy):
    """A toy whose adapters do something: B is not zero any more."""
    model = toys.model(**strategy).eval()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 10
    return model


@pytest.mark.parametrize("strategy", [{"kind": "shared"}, {"kind": "private"}, {"kind": "shared_private"}])
def test_a_merged_model_predicts_the_same_and_is_left_as_it_was(toys, strategy):
    model = trained(toys, **strategy)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for task in model.specs:
        batch = toys.batch(task)
        with torch.no_grad():
            apart = model(batch)
            with merged(model, task):
                together = model(batch)
                moved = [layer.base_layer.weight.clone() for layer in model.lora.layers]
        for name, logits in apart.items():
            assert torch.allclose(logits, together[name], atol=1e-4)
        assert all(name == other for name, other in zip(apart, together, strict=True))
        assert not moved[0].equal(model.lora.layers[0].base_layer.weight)
        assert all(parameter.equal(before[name]) for name, parameter in model.named_parameters())
        with torch.no_grad():
            assert all(model(batch)[name].equal(logits) for name, logits in apart.items())


def test_what_is_merged_is_the_tasks_own_adapters_and_no_others(toys):
    model = trained(toys, kind="private")
    layer = model.lora.layers[0]
    weight, first = layer.base_layer.weight.detach().clone(), next(iter(model.specs))
    (name,) = model.adapters_of(first)
    with merged(model, first), torch.no_grad():
        added = layer.scaling[name] * layer.lora_B[name].weight @ layer.lora_A[name].weight
        assert torch.allclose(layer.base_layer.weight, weight + added, atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ({"kind": "shared_private", "fusion": "attention"}, r"a fusion \(attention\)"),
        ({"kind": "hierarchical"}, "levels"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_its_reason(toys, strategy, reason):
    model = trained(toys, **strategy)
    with pytest.raises(ConfigError, match=reason), merged(model, next(iter(model.specs))):
        pass
    assert why_unmergeable(model) is not None and why_unmergeable(trained(toys, kind="shared")) is None


def test_bytes_are_those_of_every_weight_once():
    layer = torch.nn.Linear(3, 4)
    assert model_bytes(torch.nn.Sequential(layer, layer)) == 4 * (3 * 4 + 4)
    half = torch.nn.Linear(2, 2, bias=False).half()
    half.register_buffer("mean", torch.zeros(5, dtype=torch.int8))
    assert model_bytes(half) == 2 * 4 + 5
