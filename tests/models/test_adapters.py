"""Shared and private LoRA: the same numbers as stock PEFT, without its two ways to lose a gradient."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.models.adapters import SharedPrivateLoRA, check_targets, enable_checkpointing
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.multitask import MultiTaskModel

RANKS = {"shared": 8, "private_entities": 4, "private_reading": 4, "private_questions": 4}

BERT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture
def model(toys):
    built = toys.model(kind="shared_private", fusion="none")
    randomise(built)
    return built


def randomise(model) -> None:
    """Trained-looking adapters: B of a fresh adapter is zero."""
    generator = torch.Generator().manual_seed(3)
    for adapter in model.lora.ranks:
        for parameter in (*model.lora.parameters_of(adapter), *model.lora.fusion_of(adapter)):
            parameter.data.normal_(std=0.2, generator=generator)


@torch.no_grad()
def states(toys, model, task: str) -> torch.Tensor:
    return model.encode(toys.batch(task))


@torch.no_grad()
def stock_states(toys, model, task: str) -> torch.Tensor:
    """The hidden states of PEFT's own layers with the same weights and the same adapters active."""
    loaded = toys.loaded("llama")
    configs = {
        name: LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=loaded.config.lora.targets)
        for name, rank in RANKS.items()
    }
    built = get_peft_model(loaded.backbone, configs["shared"], adapter_name="shared")
    for name in list(configs)[1:]:
        built.add_adapter(name, configs[name])
    weights = {name: p.data for name, p in model.lora.peft.named_parameters() if "lora_" in name}
    assert built.load_state_dict(weights, strict=False).unexpected_keys == []
    built.base_model.set_adapter(model.adapters_of(task))
    batch = toys.batch(task)
    layout = model.layout(batch)
    inputs = {"input_ids": batch.input_ids[None], "position_ids": layout.position_ids[None], "packed": layout}
    return built.eval().get_base_model()(**inputs, use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("task", ["entities", "reading"])
def test_two_adapters_without_fusion_are_what_stock_peft_adds_up(toys, model, task, stock_peft):
    torch.testing.assert_close(states(toys, model, task), stock_states(toys, model, task), rtol=0, atol=5e-5)


def test_adapters_are_placed_without_a_warning_of_what_will_be_removed(toys, recwarn):
    assert toys.model(kind="shared_private").lora.ranks
    assert [str(one.message) for one in recwarn if one.category is FutureWarning] == []


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_are_placed_and_learn_beside_a_torchao_that_peft_refuses(toys, monkeypatch, quantization):
    def refuse() -> bool:
        raise ImportError("Found an incompatible version of torchao. Found version 0.10.0")

    monkeypatch.setattr("peft.tuners.lora.torchao.is_torchao_available", refuse)
    with pytest.raises(ImportError, match="torchao"):
        get_peft_model(toys.loaded("llama").backbone, LoraConfig(target_modules=["q_proj"]))
    model = toys.model(loaded=toys.loaded("llama", quantization), kind="shared_private", fusion="attention")
    toys.loss(model, "reading").backward()
    adapted = model.lora.parameters_of("shared")
    assert adapted and any(parameter.grad.abs().sum() > 0 for parameter in adapted)


@pytest.mark.parametrize("fusion", ["none", "attention", "gated"])
def test_fused_gradients_agree_with_finite_differences(toys, fusion):
    """In float64 on a BERT, whose norms keep that precision; Llama's go through float32."""
    backbone = BertModel(BertConfig(**BERT)).double()
    backbone.set_attn_implementation(PACKED)
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["query", "value"])
    lora = SharedPrivateLoRA(
        backbone, settings, {"shared": 4, "private_entities": 2}, fusion=fusion, fusion_rank=2
    )
    model = MultiTaskModel(lora, [toys.specs[0]], causal=False).double().eval()
    randomise(model)
    batch = toys.batch("entities")
    weights = torch.randn(sum(batch.lengths), 32, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (model.encode(batch) * weights).sum()

    loss().backward()
    groups = model.parameter_groups()
    for name in groups.keys() - {"heads:entities"}:
        for parameter in groups[name].parameters:
            direction, step = torch.randn_like(parameter), 1e-5
            with torch.no_grad():
                parameter += step * direction
                above = loss()
                parameter -= 2 * step * direction
                slope = float(above - loss()) / (2 * step)
                parameter += step * direction
            assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_tasks_differ_by_their_private_adapter_only(toys, model):
    assert model.adapters_of("reading") == ["shared", "private_reading"]
    difference = (states(toys, model, "entities") - states(toys, model, "reading")).abs().max()
    assert difference > 1e-2
    for parameter in model.lora.parameters_of("private_entities") + model.lora.parameters_of(
        "private_reading"
    ):
        parameter.data.zero_()
    assert torch.equal(states(toys, model, "entities"), states(toys, model, "reading"))


def test_no_adapter_active_is_the_base_model(toys, model):
    batch, layout = toys.batch("entities"), model.layout(toys.batch("entities"))
    inputs = {"input_ids": batch.input_ids[None], "position_ids": layout.position_ids[None], "packed": layout}
    with torch.no_grad(), model.lora.using():
        mine = model.backbone.get_base_model()(**inputs).last_hidden_state
        theirs = toys.loaded("llama").backbone(**inputs).last_hidden_state
    assert torch.equal(mine, theirs)


def test_switching_freezes_nothing_and_comes_back(model):
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.activate("entities")
    with model.lora.using("private_reading"):
        assert model.lora.active == ("private_reading",)
        assert all(layer.active_adapters == ["private_reading"] for layer in model.lora.layers)
    assert model.lora.active == ("shared", "private_entities")
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_a_switch_costs_microseconds(model):
    started = time.perf_counter()
    for _ in range(1000):
        model.activate("entities")
        model.activate("reading")
    assert (time.perf_counter() - started) / 2000 < 1e-4


def test_an_unknown_adapter_is_refused(model):
    with pytest.raises(ConfigError, match="no adapter private_other; there are shared, private_entities"):
        model.lora.activate("shared", "private_other")


@pytest.mark.parametrize("strategy", ["shared_private", "hierarchical"])
def test_a_checkpointed_layer_is_recomputed_with_the_adapters_of_its_forward_pass(toys, strategy):
    plain, checkpointed = (_gradients_after_a_switch(toys, strategy, on) for on in (False, True))
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def _gradients_after_a_switch(toys, strategy: str, checkpointing: bool) -> dict[str, torch.Tensor]:
    loaded = toys.loaded("llama", dropout=0.3)
    if checkpointing:
        enable_checkpointing(loaded.backbone)
    model = toys.model(loaded=loaded, kind=strategy)
    randomise(model)
    model.train()
    torch.manual_seed(0)  # dropout of the adapters and the heads
    loss = toys.loss(model, "reading")
    model.activate("entities")  # the adapters of another task are active when the backward pass begins
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_layers_that_read_the_same_tensor_draw_one_mask_and_checkpointing_repeats_it(toys):
    """In BERT, query, key and value read the very tensor that a checkpoint keeps for the recompute."""
    (plain, masks), (checkpointed, repeated) = (_bert_with_dropout(toys, on) for on in (False, True))
    assert masks == 2 * 4  # a layer's query, key and value together; the output; the two of the MLP
    assert repeated == 2 * masks
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


@pytest.mark.parametrize("grouped", ["apart", "wrongly"])
def test_one_product_for_query_key_and_value_changes_no_gradient(toys, monkeypatch, grouped):
    """Beside every layer by itself, and beside groups of layers that do not read one tensor."""

    def regroup(layers):
        wide = tuple(layer for layer in layers if layer.in_features == layers[0].in_features)
        for layer in layers:
            layer.together = (layer,) if grouped == "apart" else wide if layer in wide else (layer,)

    products: list[int] = []
    linear = F.linear
    monkeypatch.setattr("kaggle_kit.models.segments.F.linear", lambda *a: products.append(1) or linear(*a))
    joint, _ = _bert_with_dropout(toys, False)
    counted = len(products)
    other, _ = _bert_with_dropout(toys, False, regroup)
    assert len(products) - counted == counted + 2 * 2 * (grouped == "apart")
    for name, gradient in joint.items():
        torch.testing.assert_close(other[name], gradient, msg=name)


def _bert_with_dropout(
    toys, checkpointing: bool, regroup: Callable[[list], None] = lambda layers: None
) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of two layers with every linear layer adapted, and the dropout masks drawn."""
    torch.manual_seed(0)
    backbone = BertModel(BertConfig(**BERT), add_pooling_layer=False)
    backbone.set_attn_implementation(PACKED)
    if checkpointing:
        enable_checkpointing(backbone)
    settings = LoraSettings(rank=4, alpha=8, dropout=0.5, targets=["query", "key", "value", "dense"])
    model = MultiTaskModel(SharedPrivateLoRA(backbone, settings, {"shared": 4}), toys.specs[:1], causal=False)
    randomise(model)
    regroup(model.lora.layers)
    drawn: list[int] = []
    for layer in model.lora.layers:
        layer.lora_dropout["shared"].register_forward_hook(lambda *_: drawn.append(1))
    model.train()
    torch.manual_seed(1)
    toys.loss(model, "entities").backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, len(drawn)


def test_gradients_accumulate_over_tasks_as_if_each_ran_alone(toys, model):
    model.eval()
    alone = {}
    for task in ("entities", "reading"):
        model.zero_grad(set_to_none=True)
        toys.loss(model, task).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                alone[name] = alone.get(name, 0) + parameter.grad
    model.zero_grad(set_to_none=True)
    for task in ("entities", "reading"):
        toys.loss(model, task).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, alone[name], msg=name)


def test_adapters_stay_float32_on_a_half_precision_base(toys):
    backbone = toys.loaded("llama").backbone.half()
    settings = LoraSettings(rank=8, alpha=16, dropout=0.0, targets=["q_proj", "down_proj"])
    lora = SharedPrivateLoRA(backbone, settings, RANKS, fusion="attention", fusion_rank=2)
    trained = [p for p in lora.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in lora.parameters() if not p.requires_grad} == {torch.float16}
    assert len(trained) == 8 * (4 * 2 + 3 * 2)  # per layer: A and B of four adapters, query and key of three


def test_every_adapter_has_the_scaling_of_the_model(model):
    assert {layer.scaling[name] for layer in model.lora.layers for name in RANKS} == {2.0}


def test_a_copy_of_the_model_switches_on_its_own(toys, model):
    model.train().encode(toys.batch("entities"))  # a copy may be made at any time
    other = copy.deepcopy(model)
    other.activate("reading")
    model.activate("entities")
    assert other.lora.active == ("shared", "private_reading")
    assert other.lora.layers[0].active_adapters == ["shared", "private_reading"]


def test_phi3_refuses_the_targets_of_an_unfused_model(toys):
    backbone = toys.loaded("phi3").backbone
    with pytest.raises(ConfigError, match="q_proj, k_proj, v_proj: no such linear layer in Phi3Model"):
        check_targets(backbone, ["q_proj", "k_proj", "v_proj", "o_proj"])


def test_an_empty_target_list_is_refused(toys):
    with pytest.raises(ConfigError, match="lora.targets is empty; this backbone has down_proj"):
        check_targets(toys.loaded("llama").backbone, [])


def test_a_target_that_also_names_the_pooler_adapts_the_layers_only(toys, tmp_path, stock_peft):
    """`dense` names three layers of each block of BERT, and the pooler behind them, which no state reads."""
    backbone = BertModel(BertConfig(**BERT))
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["query", "dense"])
    lora = SharedPrivateLoRA(backbone, settings, {"shared": 4})
    assert len(lora.layers) == 4 * 2
    assert not any("pooler" in name for name, p in lora.named_parameters() if p.requires_grad)
    with pytest.raises(ConfigError, match="pooler"):
        check_targets(backbone, ["query", "pooler"])
    lora.peft.save_pretrained(tmp_path)
    stock = PeftModel.from_pretrained(BertModel(BertConfig(**BERT)), tmp_path / "shared")
    mine = {name.replace(".shared.", ".default.") for name in lora.peft.state_dict() if "lora_" in name}
    assert {name for name in stock.state_dict() if "lora_" in name} == mine
