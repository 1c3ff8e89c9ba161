"""Sequences without padding: one flat row of real tokens, attention kept inside each sequence.

Linear layers, where nearly all the work of short clinical text is, see real tokens only. Attention
works on small groups of sequences of similar length, padded inside the group. The backbone must be
loaded with `attn_implementation=PACKED`, and every forward is told the layout:

    layout = PackedLayout.of([31, 30, 12], causal=True)     # lengths, longest first
    hidden = backbone(input_ids[None], position_ids=layout.position_ids[None], packed=layout)

This one function serves BERT, Llama, Mistral, Phi-3 and Gemma-2 (with its soft cap and sliding
window). Key and value heads are always expanded: `enable_gqa` without a mask falls back to the
quadratic math kernel on a T4 (compute capability 7.5) with torch before 2.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED = "packed"
SHORT = 128  # tokens; on a CPU the fused kernel gains nothing up to here, and takes half as long again at 40
SHORTEST_IN_GROUP = 0.65  # of the group's longest; below, a new group costs less than its padding


@dataclass(frozen=True)
class Group:
    """Sequences `[first, last)` of similar length; their tokens are `[start, stop)` of the row."""

    start: int
    stop: int
    count: int
    longest: int
    slots: (
        Tensor | None
    )  # (tokens,) place of each token in the padded (count * longest) grid; None: no padding
    real: Tensor | None  # (count, 1, 1, longest) True where a key is a real token; None: all are


@dataclass(frozen=True)
class PackedLayout:
    """How a flat row of tokens splits into sequences."""

    lengths: tuple[int, ...]
    position_ids: Tensor  # (tokens,)
    groups: tuple[Group, ...]
    causal: bool

    @classmethod
    def of(cls, lengths: Sequence[int], *, causal: bool, device: torch.device | str = "cpu") -> PackedLayout:
        """The layout of sequences in the given order; descending lengths give the fewest groups."""
        positions = torch.cat([torch.arange(length) for length in lengths])
        parts = grouped(lengths)
        starts = accumulate(map(sum, parts), initial=0)
        groups = tuple(_group(part, start) for part, start in zip(parts, starts, strict=False))
        return cls(tuple(lengths), positions, groups, causal).to(device)

    def to(self, device: torch.device | str) -> PackedLayout:
        groups = tuple(
            replace(group, slots=_to(group.slots, device), real=_to(group.real, device))
            for group in self.groups
        )
        return replace(self, position_ids=self.position_ids.to(device), groups=groups)

    @cached_property
    def offsets(self) -> Tensor:
        """(sequences + 1,) int32: where each sequence begins, then the number of tokens"""
        starts = torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32)
        return starts.to(self.position_ids.device)


def grouped(lengths: Sequence[int]) -> list[Sequence[int]]:
    """Neighbours of like length, the longest of each group first."""
    parts, first = [], 0
    for last in range(1, len(lengths) + 1):
        longest = lengths[first]
        if last == len(lengths) or not SHORTEST_IN_GROUP * longest <= lengths[last] <= longest:
            parts.append(lengths[first:last])
            first = last
    return parts


def attention_padding(lengths: Sequence[int]) -> int:
    """Places without a token that attention computes on: each group is padded to its longest sequence."""
    return sum(len(part) * max(part) - sum(part) for part in grouped(lengths))


def _to(tensor: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _group(lengths: Sequence[int], start: int) -> Group:
    count, longest, tokens = len(lengths), max(lengths), sum(lengths)
    if tokens == count * longest:
        return Group(start, start + tokens, count, longest, None, None)
    size = torch.tensor(lengths)
    real = torch.arange(longest)[None, :] < size[:, None]  # (count, longest)
    slots = real.flatten().nonzero().squeeze(1)
    return Group(start, start + tokens, count, longest, slots, real[:, None, None, :])


class _Pad(torch.autograd.Function):
    """Row of tokens -> padded grid. The slots are unique, so the gradient is a plain selection."""

    @staticmethod
    def forward(ctx, row: Tensor, slots: Tensor, cells: int) -> Tensor:
        ctx.save_for_backward(slots)
        return row.new_zeros((cells, *row.shape[1:])).index_copy_(0, slots, row)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """Padded grid -> row of tokens; the inverse of `_Pad`."""

    @staticmethod
    def forward(ctx, grid: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.cells = grid.shape[0]
        return grid.index_select(0, slots)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (slots,) = ctx.saved_tensors
        return grad.new_zeros((ctx.cells, *grad.shape[1:])).index_copy_(0, slots, grad), None


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
    """Attention inside each sequence of a packed row; returns (1, tokens, heads, head_dim)."""
    if packed is None:
        raise ValueError("packed attention was called without `packed=`; pass a PackedLayout to the backbone")
    repeats = query.shape[1] // key.shape[1]
    # Split at once, because the gradient of a split is one concatenation; that of a slice is a whole
    # row of zeros, and there would be one for each group.
    sizes = [group.stop - group.start for group in packed.groups]
    rows = [tensor[0].transpose(0, 1).split(sizes) for tensor in (query, key, value)]
    outputs = []
    for group, *parts in zip(packed.groups, *rows, strict=True):  # (tokens, heads, head_dim) each
        grid = [_padded(part, group) for part in parts]
        if repeats > 1:
            grid[1:] = [tensor.repeat_interleave(repeats, dim=1) for tensor in grid[1:]]
        mask = _mask(group, packed.causal, sliding_window, query.device)
        plain_causal = packed.causal and mask is None and group.longest > 1
        options = {"scaling": scaling, "dropout": dropout}
        if softcap is not None or (query.device.type == "cpu" and group.longest <= SHORT):
            mask = _lower_triangle(group.longest, query.device) if plain_causal else mask
            mixed = _written_out(*grid, mask=mask, softcap=softcap, **options)
        else:
            mixed = F.scaled_dot_product_attention(
                *grid, attn_mask=mask, dropout_p=dropout, is_causal=plain_causal, scale=scaling
            )
        flat = mixed.transpose(1, 2).reshape(group.count * group.longest, *mixed.shape[1::2])
        outputs.append(flat if group.slots is None else _Unpad.apply(flat, group.slots))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


def _padded(row: Tensor, group: Group) -> Tensor:
    """(tokens, heads, head_dim) -> (count, heads, longest, head_dim)"""
    grid = row if group.slots is None else _Pad.apply(row, group.slots, group.count * group.longest)
    return grid.reshape(group.count, group.longest, *row.shape[1:]).transpose(1, 2)


def _mask(group: Group, causal: bool, window: int | None, device: torch.device) -> Tensor | None:
    """True where a query may look. Right padding lies in the future, so a causal group needs no key mask."""
    windowed = window is not None and group.longest > window
    if not windowed:
        return None if causal else group.real
    distance = torch.arange(group.longest, device=device)[:, None] - torch.arange(
        group.longest, device=device
    )
    near = (distance.abs() < window) & ((distance >= 0) | (not causal))
    return near if causal or group.real is None else near & group.real


def _lower_triangle(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """Attention as its formula: what Gemma-2's soft cap needs, and what is fastest on a CPU for short text.

    With a soft cap, scores pass through softcap * tanh(score / softcap) before the softmax.
    """
    count, heads, length, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    query, key, value = (tensor.reshape(count * heads, length, width) for tensor in (query, key, value))
    bias = query.new_zeros(1, 1, 1)
    if mask is not None:  # half of the smallest number: a score added to it still does not overflow
        bias = query.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(query.dtype).min / 2)
        bias = bias.expand(count, heads, *mask.shape[-2:]).flatten(0, 1) if mask.dim() == 4 else bias
    if softcap is None:
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scale)
    else:
        scores = softcap * torch.tanh(torch.bmm(query, key.transpose(1, 2)) * (scale / softcap)) + bias
    weights = F.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return (F.dropout(weights.to(value.dtype), dropout) @ value).unflatten(0, (count, heads))


AttentionInterface.register(PACKED, packed_attention)
