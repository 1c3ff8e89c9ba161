"""Every architecture of docs/models.md gives the library's own states, packed and cut, or is refused."""

from __future__ import annotations

import pytest
import torch

from benchmarks.backbones import DECODERS, ENCODERS, toy_backbone
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models import attention, reading, stages
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Reader, position_offset, usable_positions
from kaggle_kit.models.stages import Stages
from kaggle_kit.models.verify import Probe, verify_reading, verify_stages

ALL = [*ENCODERS, *DECODERS]


@pytest.mark.parametrize("name", ALL)
def test_sequences_read_together_get_the_states_of_each_alone(name):
    assert verify_reading(toy_backbone(name), causal=name in DECODERS) < 1e-4


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_a_backbone_cut_in_two_is_the_whole(name, cut):
    assert verify_stages(Stages(Reader(toy_backbone(name)), cut), causal=name in DECODERS) < 1e-4


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_of_a_cut_backbone_is_that_of_the_whole_with_layers_recomputed_or_not(name):
    found = []
    for cut, recomputed in ((None, False), (2, False), (2, True)):
        backbone = toy_backbone(name).eval()
        for parameter in stages.layers_of(backbone).parameters():
            parameter.requires_grad_(True)
        if recomputed:
            enable_checkpointing(backbone)
            backbone.train()
            for module in backbone.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        reader, probe = Reader(backbone), Probe.of(backbone)
        layout = PackedLayout.of(probe.lengths, causal=name in DECODERS)
        if cut is None:
            hidden = reader(probe, layout)
        else:
            parts = Stages(reader, cut)
            hidden = parts.upper(parts.lower(probe, layout), probe, layout)
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
        (hidden * weights).sum().backward()
        found.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    whole, *others = found
    for other in others:
        assert other.keys() == whole.keys()
        for parameter, gradient in whole.items():
            error = (other[parameter] - gradient).norm() / gradient.norm().clamp_min(1.0)
            assert error < 1e-4, parameter


@pytest.mark.parametrize(("name", "offset"), [("BERT", 0), ("RoBERTa", 2), ("XLM-R", 2), ("Llama", 0)])
def test_positions_are_counted_from_behind_that_of_the_padding(name, offset):
    backbone = toy_backbone(name)
    assert position_offset(backbone) == offset
    assert usable_positions(backbone) == 40 - offset


@pytest.mark.parametrize("name", ["DeBERTa-v2", "DeBERTa-v3"])
def test_tokens_of_another_sequence_change_nothing_where_rows_are_padded(name):
    reader = Reader(toy_backbone(name).eval())
    probe = Probe.of(reader.backbone)
    layout = PackedLayout.of(probe.lengths, causal=False)
    before = reader(probe, layout)
    probe.input_ids[-probe.lengths[-1] :] = 5
    after = reader(probe, layout)
    assert not reader.packs and torch.equal(before[: -probe.lengths[-1]], after[: -probe.lengths[-1]])


def test_wrong_positions_are_refused_with_architecture_versions_and_difference(monkeypatch):
    monkeypatch.setattr(reading, "position_offset", lambda _: 0)
    with pytest.raises(ConfigError, match=r"RobertaModel \(roberta\) under transformers .* differ by up to"):
        verify_reading(toy_backbone("RoBERTa"), causal=False)


def test_attention_across_sequences_is_refused(monkeypatch):
    backbone = toy_backbone("BERT")
    plain = PackedLayout.bias
    monkeypatch.setattr(attention, "SHORT", 10_000)
    monkeypatch.setattr(PackedLayout, "bias", lambda *given: torch.zeros_like(plain(*given)))
    with pytest.raises(ConfigError, match="packed sequences against each alone"):
        verify_reading(backbone, causal=False)


def test_a_cut_that_loses_a_factor_is_refused(monkeypatch):
    parts = Stages(Reader(toy_backbone("Gemma-2")), 2)
    lower = parts.lower
    monkeypatch.setattr(parts, "lower", lambda *given: lower(*given) / 48)
    with pytest.raises(ConfigError, match="the layers cut at 2 against the whole"):
        verify_stages(parts, causal=True)


def test_a_backbone_that_overflows_is_refused():
    backbone = toy_backbone("Llama")
    backbone.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(ConfigError, match="not finite in float32"):
        verify_reading(backbone, causal=True)


def test_verifying_leaves_generators_modes_and_attention_as_they_were():
    backbone = toy_backbone("Llama").train()
    backbone.layers[1].eval()
    modes = [module.training for module in backbone.modules()]
    state = torch.get_rng_state()
    verify_reading(backbone, causal=True)
    verify_stages(Stages(Reader(backbone), 2), causal=True)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in backbone.modules()]
    assert backbone.config._attn_implementation == attention.PACKED
