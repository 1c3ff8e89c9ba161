"""What 4-bit layers multiply by, also where bitsandbytes restores their weights wrongly.

    keep_exact(backbone)             # after loading, before adapters are attached
    restored_weight(layer)           # (out, in)

bitsandbytes 0.50.2 restores a matrix on a CPU row by row, and takes a neighbour's scale wherever a row is no
whole number of blocks. Blocks run on over the ends of rows, so here such a matrix is restored as rows of one
block each.
"""

from __future__ import annotations

from copy import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError


def keep_exact(backbone: nn.Module) -> None:
    """Let every 4-bit layer of the backbone compute with the matrix that its codes stand for, with gradients.

    On CPUs with bfloat16 instructions bitsandbytes repacks 4-bit weights at the first evaluation, into a form
    whose product has no gradient: training after a quick evaluation would silently learn nothing. Raises
    ConfigError for a matrix on a CPU that is no whole number of blocks.
    """
    for name, module in backbone.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if not _has_broken_rows(module):
            continue
        state = module.weight.quant_state
        if state.shape.numel() % state.blocksize:
            raise ConfigError(
                f"{name} has {state.shape.numel():,} weights, no whole number of NF4 blocks of "
                f"{state.blocksize}: bitsandbytes restores it wrongly on a CPU; use a GPU, or "
                "strategy.quantization=none"
            )
        module.forward = partial(_forward, module)


def restored_weight(layer: nn.Module) -> Tensor:
    """The (out, in) matrix of a 4-bit layer, in the dtype from which it was quantised."""
    from bitsandbytes.functional import dequantize_4bit

    state = layer.weight.quant_state
    if not _has_broken_rows(layer):
        return dequantize_4bit(layer.weight.data, state)
    blocks = copy(state)
    blocks.shape = torch.Size((state.shape.numel() // state.blocksize, state.blocksize))
    return dequantize_4bit(layer.weight.data, blocks).view(state.shape)


def _has_broken_rows(module: nn.Module) -> bool:
    """Whether a 4-bit layer on a CPU has rows of no whole number of blocks."""
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    return state is not None and module.weight.device.type == "cpu" and state.shape[-1] % state.blocksize != 0


def _forward(layer: nn.Module, x: Tensor) -> Tensor:
    """(…, in) -> (…, out)"""
    if not _has_broken_rows(layer):  # it has moved to a GPU
        return type(layer).forward(layer, x)
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, restored_weight(layer).to(x.dtype), bias)
