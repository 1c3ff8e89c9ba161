"""Every architecture of docs/models.md gives the library's own states, packed and cut, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BloomConfig, BloomModel, Phi3Config, Phi3Model

from benchmarks.backbones import BEGIN, DECODERS, ENCODERS, END, PAGE, toy_backbone
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.experiment import preparation
from kaggle_kit.models import attention, reading
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.loading import load_backbone
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Reader, Stages, position_offset, usable_positions
from kaggle_kit.models.tiny import train_tokenizer
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
        for parameter in reading.layers_of(backbone).parameters():
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


def test_no_sequence_is_longer_than_the_one_that_turns_all_others_of_its_batch_otherwise():
    """LongRoPE: with 30 tokens beside them, the states of 7 were others than alone."""
    rope = {"rope_type": "longrope", "long_factor": [1.0, 2.0, 3.0, 4.0], "short_factor": [1.0] * 4}
    config = Phi3Config(
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        **{"max_position_embeddings": 128, "original_max_position_embeddings": 16, "rope_scaling": rope},
    )
    assert usable_positions(Phi3Model(config)) == 16


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


def test_a_decoder_without_an_attention_interface_reads_padded_rows_and_shares_nothing():
    config = BloomConfig(vocab_size=60, hidden_size=32, n_layer=3, n_head=4, use_cache=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = BloomModel(config).requires_grad_(False)
    assert not Reader(backbone).packs
    assert verify_reading(backbone, causal=True) < 1e-4
    assert verify_stages(Stages(Reader(backbone), 1), causal=True) < 1e-4


def test_layers_that_share_their_weights_cannot_be_cut():
    config = AlbertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    with pytest.raises(ConfigError, match="AlbertModel holds no list of its 3 layers"):
        reading.layers_of(AlbertModel(config))


@pytest.mark.parametrize("name", ["roberta", "deberta"])
def test_a_folder_loads_and_trains_with_every_strategy(tmp_path, toys, name):
    """From the folder to a gradient in every adapter, whatever way the rows are read."""
    backbone = toy_backbone({"roberta": "RoBERTa", "deberta": "DeBERTa-v3"}[name], vocab_size=2048)
    backbone.save_pretrained(tmp_path)
    train_tokenizer(["an invented note about nothing"]).save_pretrained(tmp_path)
    targets = {"roberta": ["query", "value"], "deberta": ["query_proj", "value_proj"]}[name]
    composed = compose(model=str(tmp_path), overrides=["training.max_length=32", "training.stride=8"])
    entry = replace(composed.model, lora=LoraSettings(4, 8, 0.0, targets))
    for kind in ("shared", "shared_private", "hierarchical"):
        loaded = load_backbone(entry, device="cpu")
        model = toys.model(loaded=loaded, kind=kind).train()
        assert model.reader.packs == (name == "roberta")
        for task in ("entities", "questions"):
            toys.loss(model, task).backward()
        for layer in model.lora.layers:
            for adapter, part in layer.lora_B.items():
                used = not adapter.startswith("private") or adapter in (
                    "private_entities",
                    "private_questions",
                )
                assert not used or part.weight.grad.abs().sum() > 0, (kind, adapter)


def test_a_load_that_would_train_on_wrong_states_stops(tmp_path, toys, monkeypatch):
    monkeypatch.setattr(reading, "position_offset", lambda _: 3)
    toy_backbone("BERT", vocab_size=2048).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about nothing"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="model minilm, BertModel"):
        load_backbone(replace(compose(model="minilm").model, path=str(tmp_path)), device="cpu")


def test_more_tokens_than_the_backbone_has_positions_for_are_refused(tmp_path):
    toy_backbone("RoBERTa", vocab_size=2048).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about nothing"]).save_pretrained(tmp_path)
    changes = ("profile.device=cpu", "training.max_length=39")
    with pytest.raises(ConfigError, match="39 is more than the 38 positions"):
        preparation.open_backbone(compose(model=str(tmp_path), overrides=changes))


def test_the_table_of_the_docs_lists_every_architecture():
    lines = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()
    listed = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert list(listed)[1:] == ALL
    assert not any("refused" in line for line in listed.values())
