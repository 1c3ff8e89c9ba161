"""Fusion of the shared and the private adapter: worked values, neutral start, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.fusion import AttentionFusion, GatedResidual, build_fusion, fusion_parameters


@pytest.mark.parametrize(("kind", "rank"), [("attention", 1), ("attention", 4), ("gated", 4)])
def test_every_fusion_starts_as_the_plain_sum(kind, rank):
    fusion = build_fusion(kind, 16, 8, rank)
    bottleneck = torch.randn(2, 5, 24)
    assert torch.equal(fusion(bottleneck), bottleneck)


@pytest.mark.parametrize(("kind", "rank"), [("none", 4), ("attention", 4), ("gated", 4)])
def test_parameters_in_closed_form(kind, rank):
    fusion = build_fusion(kind, 16, 8, rank)
    actual = sum(p.numel() for p in fusion.parameters()) if fusion else 0
    assert fusion_parameters(kind, 16, 8, rank) == actual


def test_attention_weighs_the_two_adapters_by_a_softmax_of_their_scores():
    fusion = AttentionFusion(shared_rank=2, private_rank=1, rank=1)
    fusion.query.data = torch.tensor([[1.0, 0.0, 1.0]])  # reads the first shared and the private direction
    fusion.key.data = torch.tensor([[0.5, 0.0, -1.0]])  # shared key (0.5, 0), private key 1, negated
    bottleneck = torch.tensor([[2.0, 4.0, 1.0]])
    query, shared_score, private_score = 3.0, 1.0, 1.0
    weights = torch.softmax(torch.tensor([query * shared_score, query * private_score]), 0)
    assert weights.tolist() == [0.5, 0.5]
    torch.testing.assert_close(fusion(bottleneck), bottleneck)
    fusion.key.data[0, 2] = 0.0  # the private key is 0: the scores are 3 and 0
    shared = 1 / (1 + math.exp(-3))
    expected = torch.tensor([[4 * shared, 8 * shared, 2 * (1 - shared)]])
    torch.testing.assert_close(fusion(bottleneck), expected)


def test_a_gate_is_convex_over_the_shared_and_the_private_part():
    fusion = GatedResidual(shared_rank=2, private_rank=2)
    fusion.gate.data = torch.tensor([[math.log(3), 0.0, 0.0, 0.0]])  # the gate is σ(ln 3) = 3/4
    result = fusion(torch.tensor([[1.0, 5.0, 2.0, 4.0]]))
    expected = torch.tensor([[2 * 0.75 * 1.0, 2 * 0.75 * 5.0, 2 * 0.25 * 2.0, 2 * 0.25 * 4.0]])
    torch.testing.assert_close(result, expected)


def test_a_gate_reads_the_shared_and_the_private_part_and_may_shut_off_either():
    fusion = GatedResidual(2, 1)
    fusion.gate.data = torch.tensor([[0.0, 0.0, 100.0]])
    both = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, -3.0]])
    torch.testing.assert_close(fusion(both), torch.tensor([[2.0, 4.0, 0.0], [0.0, 0.0, -6.0]]))


@pytest.mark.parametrize("kind", ["attention", "gated"])
def test_gradients_agree_with_finite_differences(kind):
    fusion = build_fusion(kind, 3, 2, 2).double()
    for parameter in fusion.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    names, values = zip(*fusion.named_parameters(), strict=True)

    def run(bottleneck, *parameters):
        return torch.func.functional_call(fusion, dict(zip(names, parameters, strict=True)), (bottleneck,))

    assert torch.autograd.gradcheck(run, (inputs, *values))


@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float16, False), (torch.bfloat16, True)])
@pytest.mark.parametrize("kind", ["attention", "gated"])
def test_half_precision_bottlenecks_keep_their_dtype_and_are_scored_in_float32(kind, dtype, autocast):
    fusion = build_fusion(kind, 16, 8, 4)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=10.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = fusion(torch.full((3, 24), 300.0, dtype=dtype))  # 300² is more than float16 holds
    assert result.dtype == dtype
    assert result.isfinite().all()


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ConfigError, match="fusion is 'sum'; allowed: none, attention, gated"):
        build_fusion("sum", 16, 8, 4)
