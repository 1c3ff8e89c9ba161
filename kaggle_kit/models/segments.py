"""Stretches of a packed row that pass through different adapters, in one product forward and one backward.

    segments = (Segment(31, ("shared", "private_ner")), Segment(40, ("shared", "private_qa")))
    segment_linear(rows, [[shared_a, ner_a], [shared_a, qa_a]], [31, 40])       # (71, in) -> (71, ranks)

The gradient of a linear map is a sum over tokens: dL/dW = gᵀ x = Σ_k g_kᵀ x_k, where k runs over the
segments. So the backward pass of a row that several tasks share holds each task's gradient of a shared
weight, as its part of the sum. A segment with `leaves` gets it apart: it multiplies by a stand-in for the
weight, which has the same memory and a `.grad` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

Leaves = Mapping[Parameter, Tensor]  # of shared parameters: stand-ins with a gradient of their own
Weights = Sequence[Sequence[Tensor]]  # by segment, the parts that are joined to its weight


@dataclass(frozen=True, eq=False)
class Segment:
    """Neighbouring tokens of a row, the adapters that they pass through, and their stand-ins."""

    tokens: int
    adapters: tuple[str, ...]
    leaves: Leaves = field(default_factory=dict)

    def leaf(self, parameter: Parameter) -> Tensor:
        """Return what this segment multiplies by in the parameter's place."""
        return self.leaves.get(parameter, parameter)


def segment_linear(rows: Tensor, weights: Weights, sizes: Sequence[int], *, dim: int = 0) -> Tensor:
    """Multiply each segment of the rows by its own weight: (tokens, in) -> (tokens, out).

    A segment's weight, (out, in), is its parts joined along `dim`. Parts that have the same memory in all
    segments make one product for the whole row. `sizes` are not read where there is one segment.
    """
    rows = _as_autocast(rows)
    if len(weights) == 1:
        return F.linear(rows, joined(weights[0], dim))
    return _SegmentLinear.apply(rows, None, 1.0, _Joints.of(weights, sizes, dim), *_flat(weights))


def add_segment_linear(
    result: Tensor, rows: Tensor, weights: Weights, sizes: Sequence[int], *, alpha: float
) -> Tensor:
    """Add alpha times the product to the result, (tokens, out), in place; parts are joined along dim 1."""
    if len(weights) == 1:
        return result.addmm_(rows, joined(weights[0], 1).t().to(rows.dtype), alpha=alpha)
    return _SegmentLinear.apply(rows, result, alpha, _Joints.of(weights, sizes, 1), *_flat(weights))


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate the parts; a single one is returned as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


@dataclass(frozen=True)
class _Joints:
    """How a flat list of parts makes the segments' weights, and which tokens each of these multiplies."""

    sizes: tuple[int, ...]  # tokens of each segment
    bounds: tuple[int, ...]  # segment k's parts are bounds[k] to bounds[k + 1] of the list
    dim: int
    alike: bool  # whether all segments multiply by the same memory

    @classmethod
    def of(cls, weights: Weights, sizes: Sequence[int], dim: int) -> _Joints:
        places = [[part.data_ptr() for part in parts] for parts in weights]
        alike = all(place == places[0] for place in places)
        return cls(tuple(sizes), (0, *accumulate(map(len, weights))), dim, alike)

    def weights(self, parts: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return a weight per segment, or one where all are alike."""
        spans = list(pairwise(self.bounds))[: 1 if self.alike else None]
        return [joined(parts[start:stop], self.dim).to(dtype) for start, stop in spans]


class _SegmentLinear(torch.autograd.Function):
    """rows · Wᵀ by segment, or result + alpha · rows · Wᵀ in the result's memory."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, result: Tensor | None, alpha: float, joints: _Joints, *parts: Tensor
    ) -> Tensor:
        weights = joints.weights(parts, rows.dtype)
        ctx.joints, ctx.alpha, ctx.adds = joints, alpha, result is not None
        ctx.widths = [(part.shape[joints.dim], part.dtype) for part in parts]
        ctx.save_for_backward(rows, *weights)
        if result is None:
            out = rows.new_empty(len(rows), len(weights[0]))
            for target, some, weight in _by_segment(joints, out, rows, weights):
                torch.mm(some, weight.t(), out=target)
            return out
        ctx.mark_dirty(result)
        for target, some, weight in _by_segment(joints, result, rows, weights):
            target.addmm_(some, weight.t(), alpha=alpha)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, *weights = ctx.saved_tensors
        joints, alpha = ctx.joints, ctx.alpha
        of_rows = None
        if ctx.needs_input_grad[0]:
            of_rows = torch.empty_like(rows)
            for target, some, weight in _by_segment(joints, of_rows, grad, weights):
                torch.addmm(target, some, weight, beta=0, alpha=alpha, out=target)
        of_parts: list[Tensor | None] = []
        spans = zip(grad.split(joints.sizes), rows.split(joints.sizes), pairwise(joints.bounds), strict=True)
        for some, read, (start, stop) in spans:
            widths, kinds = zip(*ctx.widths[start:stop], strict=True)
            whole = _products_of(some, read, alpha)  # (out, in): this segment's part of the sum over tokens
            pieces = whole.split(widths, joints.dim) if len(widths) > 1 else (whole,)
            of_parts += [piece.to(kind) for piece, kind in zip(pieces, kinds, strict=True)]
        return of_rows, grad if ctx.adds else None, None, None, *of_parts


def _products_of(grad: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """alpha · gradᵀ · rows, (out, in); the smaller matrix comes first, which takes up to a third less."""
    wide = grad.shape[1] > rows.shape[1]
    left, right = (rows, grad) if wide else (grad, rows)
    found = grad.new_empty(left.shape[1], right.shape[1])
    torch.addmm(found, left.t(), right, beta=0, alpha=alpha, out=found)
    return found.t() if wide else found


def _by_segment(joints: _Joints, target: Tensor, rows: Tensor, weights: list[Tensor]) -> Any:
    """Pairs of target and source rows with their weight; one where all segments are alike."""
    if joints.alike:
        return [(target, rows, weights[0])]
    return zip(target.split(joints.sizes), rows.split(joints.sizes), weights, strict=True)


def _flat(weights: Weights) -> list[Tensor]:
    return [part for parts in weights for part in parts]


def _as_autocast(rows: Tensor) -> Tensor:
    """Cast to what autocast would multiply in: a function of our own is not cast for."""
    kind = rows.device.type
    return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows
