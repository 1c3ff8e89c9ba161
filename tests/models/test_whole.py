"""A backbone that trains as a whole: every gradient is the library's own, and nothing that trains is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModel

from benchmarks.backbones import DECODERS, ENCODERS, toy_backbone
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.models.adapter_files import load_adapters, save_adapters, saved_ranks
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Reader
from kaggle_kit.models.verify import Probe
from kaggle_kit.models.whole import WholeBackbone
from kaggle_kit.training.gradients import shared_groups


def gradients(backbone, states) -> dict[str, torch.Tensor]:
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
    backbone.zero_grad(set_to_none=True)
    (states * weights).sum().backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def alone(reader: Reader, probe: Probe) -> torch.Tensor:
    """The states of each sequence, read by itself by the library: (tokens, hidden)"""
    states = []
    types = probe.type_ids if reader.types > 1 else torch.zeros_like(probe.type_ids)
    for ids, kinds in zip(probe.input_ids.split(probe.lengths), types.split(probe.lengths), strict=True):
        more = {"token_type_ids": kinds[None]} if reader.types else {}
        states.append(reader.backbone(input_ids=ids[None], **more).last_hidden_state[0])
    return torch.cat(states)


@pytest.mark.parametrize("recomputed", [0, 3])
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_every_weight_gets_the_gradient_of_the_librarys_own_forward(name, recomputed):
    backbone, causal = toy_backbone(name).eval(), name in DECODERS
    whole, reader = WholeBackbone(backbone), Reader(backbone)
    whole.checkpoint_layers(recomputed)
    for module in backbone.modules():  # layers are recomputed in training mode alone
        module.training = bool(recomputed)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    backbone.config.attention_dropout = 0.0
    probe = Probe.of(backbone)
    found = gradients(backbone, reader(probe, PackedLayout.of(probe.lengths, causal=causal)))
    assert found.keys() == whole.whole.keys()
    backbone.eval()
    if reader.packs:
        backbone.set_attn_implementation("eager")
    for name, expected in gradients(backbone, alone(reader, probe)).items():
        assert (found[name] - expected).norm() < 1e-3 * expected.norm().clamp_min(1.0), name


def test_the_pooler_which_no_head_reads_stays_frozen():
    backbone = toy_backbone("BERT")
    trained = WholeBackbone(backbone).whole
    assert {name for name, p in backbone.named_parameters() if not p.requires_grad} == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    assert all(parameter.requires_grad for parameter in trained.values())


@pytest.fixture
def whole(toys):
    """A toy of several tasks that trains as a whole; every call gives the same first weights."""

    def make():
        return toys.model(loaded=replace(toys.loaded("llama"), whole=True), kind="shared")

    return make


def test_all_tasks_share_the_backbone_and_each_has_its_head(toys, whole):
    model = whole()
    groups = model.parameter_groups()
    assert list(groups) == ["backbone", *(f"heads:{spec.name}" for spec in toys.specs)]
    assert {id(p) for group in groups.values() for p in group.parameters} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    assert list(shared_groups(model)) == ["backbone"]
    toys.loss(model, "reading").backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in groups["backbone"].parameters)
    assert not any(p.grad is not None for p in groups["heads:questions"].parameters)


def test_no_part_of_it_can_be_switched_on_and_off(whole):
    with pytest.raises(ConfigError, match="no adapter shared"):
        whole().lora.activate("shared")


def test_a_reloaded_model_gives_the_same_logits_and_the_library_loads_its_backbone(toys, whole, tmp_path):
    model = whole().eval()
    generator = torch.Generator().manual_seed(5)
    for group in model.parameter_groups().values():
        for parameter in group.parameters:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_adapters(model, tmp_path)
    assert saved_ranks(tmp_path) == {}
    other = whole().eval()
    load_adapters(other, tmp_path)
    with torch.no_grad():
        for spec in toys.specs:
            expected, found = model(toys.batch(spec.name)), other(toys.batch(spec.name))
            assert all(torch.equal(found[name], logits) for name, logits in expected.items())
    stock = AutoModel.from_pretrained(tmp_path / "backbone")
    mine = dict(model.lora.base.named_parameters())
    assert all(torch.equal(mine[name], parameter) for name, parameter in stock.named_parameters())


def test_what_a_whole_backbone_was_saved_as_fits_no_model_with_adapters(toys, whole, tmp_path):
    save_adapters(whole(), tmp_path)
    with pytest.raises(RunFolderError, match="ranks is {}, but this model has"):
        load_adapters(toys.model(kind="shared"), tmp_path)
    (tmp_path / "backbone" / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="model.safetensors is missing"):
        load_adapters(whole(), tmp_path)
