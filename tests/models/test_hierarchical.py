"""The hierarchy: the backbone itself while neutral, the right gradients, and the order of its passes."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.hierarchical import (
    CROSS_LEVELS,
    CrossLevelAttention,
    HierarchicalMTLModel,
    cross_level_parameters,
)
from kaggle_kit.models.packing import PackedLayout

ARCHITECTURES = ("llama", "mistral", "phi3", "gemma2")


def bert() -> BertModel:
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config)
    model.set_attn_implementation(PACKED)
    return model.requires_grad_(False)


def hierarchy(toys, backbone, *, double: bool = False, **options) -> HierarchicalMTLModel:
    """A model of the three toy tasks, cut in the middle, its adapters and cross-level module not zero."""
    targets = ["query", "value"] if isinstance(backbone, BertModel) else ["o_proj", "down_proj"]
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=targets)
    upper = {"level1": (2, 3), "level2": (2, 3)}
    if double:
        backbone = backbone.double()
    lora = SharedPrivateLoRA(backbone, settings, {"shared": 4, "level1": 2, "level2": 2}, only_layers=upper)
    model = HierarchicalMTLModel(lora, toys.specs, causal=False, cut=2, cross_level_rank=4, **options)
    model = model.double() if double else model
    generator = torch.Generator().manual_seed(4)
    for name, group in model.parameter_groups().items():
        for parameter in group.parameters if not name.startswith("heads") else ():
            parameter.data.normal_(std=0.1, generator=generator)
    return model.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_levels_are_the_backbone_until_something_is_learnt(toys, architecture):
    model = toys.model(architecture, kind="hierarchical").eval()
    batch = toys.batch("reading")
    layout = model.layout(batch)
    with torch.no_grad():
        states = model.states(batch)
        stock = toys.loaded(architecture).backbone(
            input_ids=batch.input_ids[None], position_ids=layout.position_ids[None], packed=layout
        )
    for level in (1, 2):
        torch.testing.assert_close(states[level], stock.last_hidden_state[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cross_level", ["attention", "concatenation"])
@pytest.mark.parametrize("task", ["entities", "reading", "questions"])
def test_gradients_agree_with_finite_differences(toys, task, cross_level):
    model = hierarchy(toys, bert(), double=True, cross_level=cross_level)
    batch = toys.batch(task)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(sum(batch.lengths), 32, dtype=torch.float64, generator=generator)

    def loss() -> torch.Tensor:
        return sum((states * weights * level).sum() for level, states in model.states(batch).items())

    loss().backward()
    touched = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert touched
    for parameter in touched:
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        step = 1e-5
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        expected = float(above - below) / (2 * step)
        assert float((parameter.grad * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_level_two_reads_entity_features_and_level_one_never_reads_level_two(toys):
    model = hierarchy(toys, bert())
    batch = toys.batch("reading")
    with torch.no_grad():
        before = model.states(batch)
        for parameter in model.lora.parameters_of("level2"):
            parameter.mul_(3)
        after_level2 = model.states(batch)
        for parameter in model.lora.parameters_of("level1"):
            parameter.mul_(3)
        after_level1 = model.states(batch)
    assert torch.equal(before[1], after_level2[1])
    assert not torch.allclose(before[2], after_level2[2], atol=1e-4)
    assert not torch.allclose(after_level2[2], after_level1[2], atol=1e-4)


@pytest.mark.parametrize("detached", [True, False])
def test_the_gradient_of_level_two_reaches_level_one_unless_detached(toys, detached):
    model = hierarchy(toys, bert(), detach_l1_for_l2=detached)
    model.states(toys.batch("reading"))[2].square().sum().backward()
    reached = [parameter.grad is not None for parameter in model.lora.parameters_of("level1")]
    assert any(reached) != detached
    assert all(parameter.grad is not None for parameter in model.lora.parameters_of("level2"))


def test_detaching_changes_no_output(toys):
    batch = toys.batch("questions")
    with torch.no_grad():
        states = [hierarchy(toys, bert(), detach_l1_for_l2=on).states(batch)[2] for on in (True, False)]
    assert torch.equal(*states)


@pytest.mark.parametrize(("task", "passes"), [("entities", 1), ("reading", 2), ("questions", 2)])
def test_the_trunk_runs_once_and_the_top_once_per_level(toys, task, passes):
    model = hierarchy(toys, bert())
    calls = []
    for number, layer in enumerate(model.stages.layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    with torch.no_grad():
        model.states(toys.batch(task))
    assert [calls.count(number) for number in range(4)] == [1, 1, passes, passes]


def test_sequences_of_a_row_do_not_see_each_other(toys):
    model = hierarchy(toys, bert())
    batch = toys.batch("reading")
    with torch.no_grad():
        before = model.states(batch)[2].clone()
        batch.input_ids[:9] = 5
        after = model.states(batch)[2]
    assert torch.equal(before[9:], after[9:])
    assert not torch.allclose(before[:9], after[:9], atol=1e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_cross_level_attention_is_a_softmax_over_the_sequence(causal):
    width, rank, lengths = 6, 3, (4, 2)
    cross = CrossLevelAttention(width, rank)
    torch.nn.init.normal_(cross.output.weight)
    hidden, entities = torch.randn(6, width), torch.randn(6, width)
    mine = cross(hidden, entities, PackedLayout.of(lengths, causal=causal))
    normal = [states / states.square().mean(-1, keepdim=True).sqrt() for states in (hidden, entities)]
    expected = []
    for start, stop in ((0, 4), (4, 6)):
        query = normal[0][start:stop] @ cross.query.weight.T
        key, value = (normal[1][start:stop] @ part.weight.T for part in (cross.key, cross.value))
        scores = query @ key.T / rank**0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        expected.append(scores.softmax(-1) @ value @ cross.output.weight.T)
    torch.testing.assert_close(mine, torch.cat(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["attention", "concatenation"])
def test_cross_level_parameters_in_closed_form(kind):
    module = CROSS_LEVELS[kind](64, 16)
    assert cross_level_parameters(kind, 64, 16) == sum(p.numel() for p in module.parameters())


def test_a_cut_outside_the_backbone_is_refused(toys):
    lora = SharedPrivateLoRA(
        bert(), LoraSettings(rank=4, alpha=8, targets=["query"]), {"shared": 4, "level1": 2, "level2": 2}
    )
    with pytest.raises(ConfigError, match="cut is 4; a backbone of 4 layers is cut at 1 to 3"):
        HierarchicalMTLModel(lora, toys.specs, causal=False, cut=4)


def test_level_adapters_exist_above_the_cut_only(toys):
    model = toys.model(kind="hierarchical", cut=0.75)
    for adapter, layers in {"shared": {0, 1, 2, 3}, "level1": {3}, "level2": {3}}.items():
        names = [name for name, _ in model.lora.peft.named_parameters() if f".{adapter}." in name]
        assert {int(name.split("layers.")[1][0]) for name in names} == layers


@pytest.mark.parametrize("causal", [True, False])
def test_the_weights_across_levels_are_those_that_the_forward_pass_mixes_by(causal):
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng():
        cross = CrossLevelAttention(8, 4)
    for parameter in cross.parameters():
        parameter.data.normal_(generator=generator)
    layout = PackedLayout.of([5, 4, 2], causal=causal)
    hidden, entities = torch.randn(2, 11, 8, generator=generator)
    values = cross.value(torch.nn.functional.rms_norm(entities, (8,)))
    mixed = torch.empty(11, 4)
    for group, grid in zip(layout.groups, cross.weights(hidden, entities, layout), strict=True):
        torch.testing.assert_close(grid.sum(-1), torch.ones(grid.shape[:2]))
        for row, own in enumerate(group.own.tolist()):
            mixed[group.queries[row, :own]] = (grid @ values[group.keys])[row, :own]
    torch.testing.assert_close(cross.output(mixed), cross(hidden, entities, layout))
