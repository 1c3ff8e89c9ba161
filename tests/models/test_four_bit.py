"""4-bit layers compute with the matrix that their codes stand for, on a CPU too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.four_bit import keep_exact, restored_weight

bitsandbytes = pytest.importorskip("bitsandbytes")
BLOCK = 64


def quantised(out: int, width: int) -> tuple[nn.Module, torch.Tensor]:
    """A 4-bit layer, and NF4 by hand: the nearest of 16 levels times each block's largest weight."""
    torch.manual_seed(0)
    weight = torch.randn(out, width)
    layer = bitsandbytes.nn.Linear4bit(width, out, quant_type="nf4", compress_statistics=False)
    layer.weight = bitsandbytes.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=False, module=layer
    )
    layer.to("cpu")
    levels = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    blocks = weight.reshape(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True)
    nearest = torch.bucketize(blocks / scales, (levels[1:] + levels[:-1]) / 2)
    return layer, (levels[nearest] * scales).view_as(weight)


@pytest.mark.parametrize("width", [160, 96, 128])  # two that are no whole number of blocks, and one that is
def test_a_layer_multiplies_by_its_quantised_matrix_whatever_its_width(width):
    layer, by_hand = quantised(32, width)
    keep_exact(nn.Sequential(layer))
    torch.testing.assert_close(restored_weight(layer).float(), by_hand, atol=1e-5, rtol=1e-5)
    x = torch.randn(5, width, requires_grad=True)
    out = layer(x)
    expected = x @ by_hand.T + layer.bias.float()
    torch.testing.assert_close(out.float(), expected, atol=2e-3, rtol=2e-3)
    out.sum().backward()
    torch.testing.assert_close(x.grad, by_hand.sum(0).expand(5, -1), atol=2e-3, rtol=2e-3)


def test_a_matrix_of_no_whole_number_of_blocks_is_refused_on_a_cpu():
    layer, _ = quantised(32, 160)
    layer.weight.quant_state.shape = torch.Size((31, 161))
    with pytest.raises(ConfigError, match="no whole number of NF4 blocks of 64"):
        keep_exact(nn.Sequential(layer))
