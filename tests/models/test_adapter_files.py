"""Adapters on disk: stock PEFT loads them, and nothing that was trained is dropped without a word."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.models.adapter_files import load_adapters, save_adapters

STRATEGIES = {
    "s2": {"kind": "shared"},
    "a2": {"kind": "private", "private_rank": 5},
    "s3a": {"kind": "shared_private", "fusion": "attention"},
    "s3b": {"kind": "hierarchical", "cross_level_rank": 4, "level1_rank": 2, "level2_rank": 5},
}


def trained(toys, **strategy):
    """A model whose every trainable parameter has left its initial value."""
    model = toys.model(**strategy).eval()
    generator = torch.Generator().manual_seed(5)
    for group in model.parameter_groups().values():
        for parameter in group.parameters:
            parameter.data.normal_(std=0.2, generator=generator)
    return model


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_reloaded_model_gives_the_same_logits(toys, tmp_path, name):
    model = trained(toys, **STRATEGIES[name])
    save_adapters(model, tmp_path / "adapters")
    other = toys.model(**STRATEGIES[name]).eval()
    load_adapters(other, tmp_path / "adapters")
    with torch.no_grad():
        for spec in toys.specs:
            expected, found = model(toys.batch(spec.name)), other(toys.batch(spec.name))
            for component, logits in expected.items():
                assert torch.equal(found[component], logits)


def test_stock_peft_loads_each_adapter_with_equal_outputs(toys, tmp_path, stock_peft):
    model = trained(toys, kind="shared_private", fusion="none")
    save_adapters(model, tmp_path)
    stock = PeftModel.from_pretrained(
        toys.loaded("llama").backbone, str(tmp_path / "shared"), adapter_name="shared"
    )
    stock.load_adapter(str(tmp_path / "private_reading"), adapter_name="private_reading")
    stock.base_model.set_adapter(["shared", "private_reading"])
    batch = toys.batch("reading")
    layout = model.layout(batch)
    with torch.no_grad():
        mine = model.encode(batch)
        theirs = stock.eval().get_base_model()(
            input_ids=batch.input_ids[None], position_ids=layout.position_ids[None], packed=layout
        )
    torch.testing.assert_close(mine, theirs.last_hidden_state[0], rtol=0, atol=1e-4)


def test_stock_peft_loads_a_level_adapter_into_the_layers_above_the_cut(toys, tmp_path, stock_peft):
    save_adapters(trained(toys, kind="hierarchical"), tmp_path)
    stock = PeftModel.from_pretrained(toys.loaded("llama").backbone, str(tmp_path / "level2"))
    layers = {int(name.split("layers.")[1][0]) for name, _ in stock.named_parameters() if "lora_A" in name}
    assert layers == {2, 3}


def test_a_stock_folder_holds_no_fusion(toys, tmp_path):
    save_adapters(trained(toys, kind="shared_private", fusion="attention"), tmp_path)
    names = load_file(tmp_path / "private_reading" / "adapter_model.safetensors")
    assert names
    assert all("lora_A" in name or "lora_B" in name for name in names)
    assert json.loads((tmp_path / "private_reading" / "adapter_config.json").read_text())["r"] == 4


def test_a_missing_fusion_file_is_an_error(toys, tmp_path):
    strategy = STRATEGIES["s3a"]
    save_adapters(trained(toys, **strategy), tmp_path)
    (tmp_path / "fusion.safetensors").unlink()
    with pytest.raises(RunFolderError, match="fusion.safetensors is missing"):
        load_adapters(toys.model(**strategy), tmp_path)


@pytest.mark.parametrize("name", ["s3a", "s3b"])
def test_fusion_and_cross_level_tensors_that_are_missing_are_named(toys, tmp_path, name):
    strategy = STRATEGIES[name]
    save_adapters(trained(toys, **strategy), tmp_path)
    state = load_file(tmp_path / "fusion.safetensors")
    dropped = sorted(state)[0]
    save_file(
        {key: tensor for key, tensor in state.items() if key != dropped}, tmp_path / "fusion.safetensors"
    )
    with pytest.raises(RunFolderError, match=f"1 missing, such as {dropped}"):
        load_adapters(toys.model(**strategy), tmp_path)


def test_fusion_that_the_model_does_not_have_is_an_error(toys, tmp_path):
    save_adapters(trained(toys, kind="shared_private", fusion="none"), tmp_path)
    save_file({"layers.0.fusion.extra": torch.zeros(1)}, tmp_path / "fusion.safetensors")
    with pytest.raises(RunFolderError, match="1 left over, such as layers.0.fusion.extra"):
        load_adapters(toys.model(kind="shared_private", fusion="none"), tmp_path)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"kind": "shared_private", "fusion": "gated"}, "fusion is attention, but this model has gated"),
        ({"kind": "shared_private", "fusion": "attention", "rank": 4}, "ranks is"),
        ({"kind": "hierarchical"}, "model is MultiTaskModel, but this model has HierarchicalMTLModel"),
    ],
)
def test_another_strategy_is_refused_by_what_differs(toys, tmp_path, other, told):
    save_adapters(trained(toys, **STRATEGIES["s3a"]), tmp_path)
    with pytest.raises(RunFolderError, match=told):
        load_adapters(toys.model(**other), tmp_path)


def test_a_tensor_of_another_shape_is_an_error(toys, tmp_path):
    save_adapters(trained(toys, **STRATEGIES["s2"]), tmp_path)
    path = tmp_path / "shared" / "adapter_model.safetensors"
    state = load_file(path)
    first = next(iter(state))
    save_file(state | {first: torch.zeros(3, 3)}, path)
    with pytest.raises(RunFolderError, match=r"is \(3, 3\), but this model has"):
        load_adapters(toys.model(**STRATEGIES["s2"]), tmp_path)


def test_another_backbone_of_the_same_shape_is_refused(toys, tmp_path):
    model = trained(toys, kind="shared")
    save_adapters(model, tmp_path)
    embeddings = model.backbone.get_input_embeddings().weight.data
    embeddings.copy_(embeddings.half())  # as a GPU holds them
    load_adapters(model, tmp_path)
    embeddings.mul_(1.01)
    with pytest.raises(RunFolderError, match="belong to another backbone"):
        load_adapters(model, tmp_path)
