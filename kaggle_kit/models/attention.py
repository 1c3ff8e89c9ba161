"""Attention inside each sequence of a packed row, for backbones that take an attention function.

The backbone must be loaded with `attn_implementation=PACKED`, and every forward told the layout:

    backbone(input_ids[None], position_ids=layout.position_ids[None], packed=layout)

Key and value heads are always repeated: `enable_gqa` without a mask falls back to the quadratic math
kernel on a T4 (compute capability 7.5) with torch before 2.14.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from kaggle_kit.heads.arrays import repeated
from kaggle_kit.models.grids import Cells
from kaggle_kit.models.packing import PackedLayout

PACKED = "packed"
SHORT = 128  # tokens; on a CPU the fused kernel gains nothing up to here, and takes half as long again at 40


def packed_attention(
    module: nn.Module,
    query: Tensor,  # (1, heads, tokens, head_dim)
    key: Tensor,  # (1, key_heads, tokens, head_dim)
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    packed: PackedLayout | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """As a backbone of the library calls it; returns (1, tokens, heads, head_dim)."""
    if packed is None:
        raise ValueError("packed attention was called without `packed=`; pass a PackedLayout to the backbone")
    heads, tokens, width = query.shape[1:]
    queries = packed.cells("queries", heads, heads)
    keys = packed.cells("keys", heads, key.shape[1])
    grids = zip(_grids(query, queries), _grids(key, keys), _grids(value, keys), strict=True)
    outputs = []
    for number, (group, parts) in enumerate(zip(packed.groups, grids, strict=True)):
        shaped = [part.view(len(group.own), heads, -1, width) for part in parts]
        if softcap is not None or (query.device.type == "cpu" and group.keys.shape[1] <= SHORT):
            bias = packed.bias(number, sliding_window, query.dtype)
            mixed = _written_out(*shaped, bias, scaling=scaling, softcap=softcap, dropout=dropout)
        else:
            causal = packed.causal and group.plain(sliding_window)
            bias = None if causal else packed.bias(number, sliding_window, query.dtype)
            bias = None if causal or bias.numel() == 1 else bias  # kernels are faster without one
            options = {"attn_mask": bias, "is_causal": causal, "dropout_p": dropout}
            mixed = F.scaled_dot_product_attention(*shaped, scale=scaling, **options)
        outputs.append(mixed.reshape(-1, width))
    return _Row.apply(torch.cat(outputs), queries).view(1, tokens, heads, width), None


def _grids(row: Tensor, cells: Cells) -> tuple[Tensor, ...]:
    """(1, own heads, tokens, width) -> (cells, width) of each group"""
    entries = row.squeeze(0).transpose(0, 1).reshape(-1, row.shape[-1])  # row[0] has a gradient full of zeros
    grids = repeated(entries, cells.entries) if cells.inverse is None else _Grids.apply(entries, cells)
    # Split at once: the gradient of a split is one concatenation, that of a slice a whole grid of zeros.
    return grids.split(cells.sizes)


class _Grids(torch.autograd.Function):
    """Row -> grids. Cells are known by entry, so the gradient is a selection too; that of padding is zero."""

    @staticmethod
    def forward(ctx, entries: Tensor, cells: Cells) -> Tensor:
        ctx.inverse, ctx.entries = cells.inverse, len(entries)
        return entries.index_select(0, cells.entries)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        found = grad.index_select(0, ctx.inverse)
        repeats = len(found) // ctx.entries
        return found if repeats == 1 else found.view(ctx.entries, repeats, -1).sum(1), None


class _Row(torch.autograd.Function):
    """Grids -> row; the inverse."""

    @staticmethod
    def forward(ctx, grids: Tensor, cells: Cells) -> Tensor:
        ctx.inverse, ctx.size = cells.inverse, len(grids)
        return grids.index_select(0, cells.inverse)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.size, grad.shape[1]).index_copy_(0, ctx.inverse, grad), None


def _written_out(
    query: Tensor,  # (sequences, heads, queries, head_dim)
    key: Tensor,  # (sequences, heads, keys, head_dim)
    value: Tensor,
    bias: Tensor,  # (sequences or 1, 1, queries or 1, keys or 1)
    *,
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """Attention as its formula: what Gemma-2's soft cap needs, and what is fastest on a CPU for short text.

    With a soft cap, scores pass through softcap * tanh(score / softcap) before the softmax.
    """
    sequences, heads, _, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
    if softcap is not None:
        scores = torch.bmm(query, key.transpose(1, 2)).unflatten(0, (sequences, heads))
        scores = (softcap * torch.tanh(scores * (scale / softcap)) + bias).flatten(0, 1)
    else:
        raised = bias[0] if len(bias) == 1 else bias.expand(-1, heads, -1, -1).flatten(0, 1)
        scores = torch.baddbmm(raised, query, key.transpose(1, 2), alpha=scale)
    weights = F.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return (F.dropout(weights.to(value.dtype), dropout) @ value).unflatten(0, (sequences, heads))


AttentionInterface.register(PACKED, packed_attention)
