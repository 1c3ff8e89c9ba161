"""FlashAttention-2 on unpadded rows, by torch's own kernel, where a probe shows that it works.

    reason = why_no_flash(capability)         # None: register_flash() and load with FLASH

The library checks packages, not hardware, and on a T4 the kernel raises at the first forward only. So
the probe runs forward and backward on a small row and compares both with `packed_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from kaggle_kit.models.attention import packed_attention
from kaggle_kit.models.packing import PackedLayout

FLASH = "packed_fa2"  # with "flash" in it the library would look for a package of that name
TOLERANCE = 2e-2  # float16: eleven bits of mantissa, values of about 1
PROBE_LENGTHS = (33, 20, 7)
WIDTHS = (64, 96, 128)  # of the heads of the study's models
PROBED = tuple(product(WIDTHS, (True, False), (None, 16)))  # with and without a causal mask and a window


def flash_attention(
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
    """As `packed_attention`, which takes over for what the kernel lacks: float32, dropout, soft caps.

    It takes over as well where sequences share tokens, which must then be asked for more than once.
    """
    if packed is None or packed.shares or dropout or softcap is not None or query.dtype == torch.float32:
        options = {"dropout": dropout, "scaling": scaling, "softcap": softcap, "packed": packed}
        return packed_attention(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **options
        )
    from torch.nn.attention.varlen import varlen_attn  # torch 2.10 and later

    near = -1 if sliding_window is None else sliding_window - 1
    rows = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))  # (tokens, heads, head_dim)
    mixed = varlen_attn(
        *rows,
        *(packed.offsets, packed.offsets),
        *(max(packed.lengths), max(packed.lengths)),
        scale=scaling,
        window_size=(near, 0 if packed.causal else near),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed[None], None


def why_no_flash(capability: tuple[int, int] | None, attention: Callable = flash_attention) -> str | None:
    """The reason not to use it, None where the probe passes. Never tried below compute capability 8."""
    if capability is None:
        return "no GPU"
    if capability < (8, 0):
        return f"compute capability {capability[0]}.{capability[1]}: FlashAttention-2 needs 8.0"
    try:
        reasons = (probe(attention, "cuda", torch.float16, *case) for case in PROBED)
        return next(filter(None, reasons), None)
    except Exception as error:  # whatever an untested build may raise means the same: do not use it
        return f"the probe failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def probe(
    attention: Callable,
    device: str,
    dtype: torch.dtype,
    width: int = 64,
    causal: bool = True,
    window: int | None = None,
) -> str | None:
    """Forward and backward on a small row with grouped heads, compared with `packed_attention`.

    `width` is that of a head. Returns what is wrong, or None.
    """
    layout = PackedLayout.of(PROBE_LENGTHS, causal=causal, device=device)
    generator = torch.Generator().manual_seed(0)
    heads = (4, 2, 2)
    drawn = [torch.randn(1, n, sum(PROBE_LENGTHS), width, generator=generator) for n in heads]
    results = []
    for function in (attention, packed_attention):
        inputs = [tensor.to(device, dtype).requires_grad_() for tensor in drawn]
        mixed, _ = function(None, *inputs, None, packed=layout, sliding_window=window)
        gradients = torch.autograd.grad(mixed.float().square().sum(), inputs)
        results.append([mixed.detach(), *gradients])
    for mine, reference in zip(*results, strict=True):
        far = (mine.float() - reference.float()).abs().max() / reference.float().abs().max()
        if not far <= TOLERANCE:  # NaN is far
            case = f"heads of {width}, {'causal' if causal else 'bidirectional'}, window {window}"
            return f"the probe failed: off by {float(far):.1%} from the reference ({case})"
    return None


def register_flash() -> None:
    AttentionInterface.register(FLASH, flash_attention)
