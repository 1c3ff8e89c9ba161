"""Attention inside each sequence of a packed row, for backbones that take an attention function.

The backbone must be loaded with `attn_implementation=PACKED`, and every forward needs the layout:

    backbone(input_ids[None], position_ids=layout.position_ids[None], packed=layout)

Key and value heads are always repeated: `enable_gqa` without a mask falls back to the quadratic math
kernel on a T4 (compute capability 7.5) with torch before 2.14.

`FLASH` is FlashAttention-2 by torch's own kernel, for devices on which a probe shows that it works. The
library checks packages, not hardware, and on a T4 the kernel raises at the first forward only. So the probe
runs forward and backward on a small row and compares both with `packed_attention`.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from kaggle_kit.heads.arrays import repeated
from kaggle_kit.models.packing import GatherIndex, PackedLayout

PACKED = "packed"
SHORT = 128  # tokens; on a CPU the fused kernel gains nothing up to here, and takes half as long again at 40
FLASH = "packed_fa2"  # with "flash" in it the library would look for a package of that name
TOLERANCE = 2e-2  # float16: eleven bits of mantissa, values of about 1
PROBE_LENGTHS = (33, 20, 7)
WIDTHS = (64, 96, 128)  # of the heads of the study's models
Case = tuple[int, bool, int | None]  # width of a head, whether the mask is causal, sliding window
PROBED: tuple[Case, ...] = tuple(product(WIDTHS, (True, False), (None, 16)))


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
    """Compute attention within each sequence: the states, (1, tokens, heads, head_dim), and no weights."""
    if packed is None:
        raise ValueError("packed attention was called without `packed=`; pass a PackedLayout to the backbone")
    heads, tokens, width = query.shape[1:]
    own, all_cells = packed.cells("queries", heads, heads), packed.cells("keys", heads, key.shape[1])
    grids = zip(_grids(query, own), _grids(key, all_cells), _grids(value, all_cells), strict=True)
    outputs = []
    for number, (group, parts) in enumerate(zip(packed.groups, grids, strict=True)):
        q, k, v = (part.view(len(group.own), heads, -1, width) for part in parts)
        if softcap is not None or (query.device.type == "cpu" and group.keys.shape[1] <= SHORT):
            bias = packed.bias(number, sliding_window, query.dtype)
            mixed = _written_out(q, k, v, bias, scaling, softcap, dropout)
        else:
            causal = packed.causal and group.plain(sliding_window)
            bias = None if causal else packed.bias(number, sliding_window, query.dtype)
            bias = None if bias is None or bias.numel() == 1 else bias  # kernels are faster without one
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, is_causal=causal, dropout_p=dropout, scale=scaling
            )
        outputs.append(mixed.reshape(-1, width))
    return _Row.apply(torch.cat(outputs), own).view(1, tokens, heads, width), None


def _grids(row: Tensor, cells: GatherIndex) -> tuple[Tensor, ...]:
    """(1, own heads, tokens, width) -> (cells, width) of each group"""
    entries = row.squeeze(0).transpose(0, 1).reshape(-1, row.shape[-1])  # row[0] has a gradient full of zeros
    grids = repeated(entries, cells.entries) if cells.inverse is None else _Grids.apply(entries, cells)
    # Split at once: the gradient of a split is one concatenation, that of a slice a whole grid of zeros.
    return grids.split(cells.sizes)


class _Grids(torch.autograd.Function):
    """Row -> grids. Cells are known by entry, so the gradient is a selection too; that of padding is zero."""

    @staticmethod
    def forward(ctx: Any, entries: Tensor, cells: GatherIndex) -> Tensor:
        ctx.inverse, ctx.entries = cells.inverse, len(entries)
        return entries.index_select(0, cells.entries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        cells = grad.index_select(0, ctx.inverse)
        repeats = len(cells) // ctx.entries
        return cells if repeats == 1 else cells.view(ctx.entries, repeats, -1).sum(1), None


class _Row(torch.autograd.Function):
    """Grids -> row; the inverse."""

    @staticmethod
    def forward(ctx: Any, grids: Tensor, cells: GatherIndex) -> Tensor:
        ctx.inverse, ctx.size = cells.inverse, len(grids)
        return grids.index_select(0, cells.inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.size, grad.shape[1]).index_copy_(0, ctx.inverse, grad), None


def _written_out(
    query: Tensor,  # (sequences, heads, queries, head_dim)
    key: Tensor,  # (sequences, heads, keys, head_dim)
    value: Tensor,
    bias: Tensor,  # (sequences or 1, 1, queries or 1, keys or 1)
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """Compute attention by its formula, for Gemma-2's soft cap and for short text on a CPU.

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


def flash_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Compute the same by FlashAttention-2; `packed_attention` takes over for float32, dropout and soft caps.

    It takes over as well where sequences share tokens, because each shared token is then read several times.
    """
    packed, window = kwargs.get("packed"), kwargs.get("sliding_window")
    lacking = kwargs.get("dropout") or kwargs.get("softcap") is not None or query.dtype == torch.float32
    if packed is None or packed.shares or lacking:
        return packed_attention(module, query, key, value, attention_mask, **kwargs)
    from torch.nn.attention.varlen import varlen_attn  # torch 2.10 and later

    near = -1 if window is None else window - 1
    rows = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))  # (tokens, heads, head_dim)
    bounds = (packed.offsets, packed.offsets, max(packed.lengths), max(packed.lengths))
    look = {"window_size": (near, 0 if packed.causal else near), "scale": kwargs.get("scaling")}
    return varlen_attn(*rows, *bounds, **look, enable_gqa=query.shape[1] != key.shape[1])[None], None


def why_no_flash(capability: tuple[int, int] | None) -> str | None:
    """Return the reason not to use FlashAttention-2, None where its probe passes."""
    if capability is None:
        return "no GPU"
    if capability < (8, 0):
        return f"compute capability {capability[0]}.{capability[1]}: FlashAttention-2 needs 8.0"
    try:
        reasons = (probe(flash_attention, "cuda", torch.float16, case) for case in PROBED)
        return next(filter(None, reasons), None)
    except Exception as error:  # whatever an untested build may raise means the same: do not use it
        return f"the probe failed: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def probe(attention: Callable, device: str, dtype: torch.dtype, case: Case = PROBED[0]) -> str | None:
    """Compare forward and backward on a small row with grouped heads with `packed_attention`.

    Returns the difference in words, or None.
    """
    width, causal, window = case
    layout = PackedLayout.of(PROBE_LENGTHS, causal=causal, device=device)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, n, sum(PROBE_LENGTHS), width, generator=generator) for n in (4, 2, 2)]
    results = []
    for function in (attention, packed_attention):
        query, key, value = inputs = [tensor.to(device, dtype).requires_grad_() for tensor in drawn]
        mixed, _ = function(None, query, key, value, None, packed=layout, sliding_window=window)
        gradients = torch.autograd.grad(mixed.float().square().sum(), inputs)
        results.append([mixed.detach(), *gradients])
    for mine, reference in zip(*results, strict=True):
        far = (mine.float() - reference.float()).abs().max() / reference.float().abs().max()
        if not far <= TOLERANCE:  # NaN is far
            kind = f"heads of {width}, {'causal' if causal else 'bidirectional'}, window {window}"
            return f"the probe failed: off by {float(far):.1%} from the reference ({kind})"
    return None


AttentionInterface.register(PACKED, packed_attention)
AttentionInterface.register(FLASH, flash_attention)
