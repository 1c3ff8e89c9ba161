"""A frozen layer in oneDNN's layout is the linear layer that it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kaggle_kit.models.frozen import FrozenLinear, pack_frozen


def layer(bias: bool = True, size: tuple[int, int] = (256, 320)) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(*size, bias=bias).requires_grad_(False)


def packed(bias: bool = True) -> FrozenLinear:
    made = nn.Sequential(layer(bias))
    pack_frozen(made)
    return made[0]


def rows(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 37, 256, dtype=dtype, generator=generator).requires_grad_()


def outcome(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What comes out, and the gradient of a weighted sum of it."""
    y = module(x)
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    return y.detach(), gradient


@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradient_are_those_of_the_linear_layer(bias):
    assert type(packed(bias)) is FrozenLinear
    for ours, usual in zip(outcome(packed(bias), rows()), outcome(layer(bias), rows()), strict=True):
        torch.testing.assert_close(ours, usual, rtol=0, atol=2e-5)


def test_an_input_without_a_gradient_needs_none():
    y = packed()(rows().detach())
    assert not y.requires_grad
    torch.testing.assert_close(y, layer()(rows().detach()), rtol=0, atol=2e-5)


@pytest.mark.parametrize("change", ["in place", "a new tensor"])
def test_the_layout_follows_the_weight(change):
    ours, usual = packed(), layer()
    outcome(ours, rows())
    for module in (ours, usual):
        if change == "in place":
            module.weight.mul_(-2.0)
        else:
            module.weight.data = module.weight.data * -2.0
    for mine, theirs in zip(outcome(ours, rows()), outcome(usual, rows()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=4e-5)


def test_another_dtype_is_left_to_torch():
    ours, usual = packed().double(), layer().double()
    x = rows(torch.float64)
    assert torch.equal(ours(x), usual(x))


def test_a_copy_has_a_layout_of_its_own():
    ours = packed()
    outcome(ours, rows())
    other = copy.deepcopy(ours)
    other.weight.zero_()
    assert torch.equal(other(rows()), other.bias.expand(1, 37, 320))
    assert list(ours.state_dict()) == ["weight", "bias"]


def test_what_trains_and_what_is_small_stays_as_it_is():
    model = nn.Sequential(layer().requires_grad_(True), layer(size=(16, 16)), layer())
    pack_frozen(model)
    assert [type(module) for module in model] == [nn.Linear, nn.Linear, FrozenLinear]
