"""Frozen linear layers of a float32 model on a CPU: oneDNN's products, weights laid out once.

    pack_frozen(backbone)

For float32, torch asks MKL, which lays the weights out anew in every product. Weights that never change
can stay in oneDNN's own layout, once for the forward product and once for that of the gradient: two more
copies of them in memory, a sixth less time per step on the CPUs it was measured on. Everywhere else
(another device, another dtype, autocast, a small layer) such a layer is `nn.Linear` as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALLEST = 1 << 16  # elements of a weight; below, a call costs more than the layout


class FrozenLinear(nn.Linear):
    """An `nn.Linear` whose weight does not train. Change the weight in place, or give it a new one: the
    layouts follow."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        usual = x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if usual or self.weight.dtype != torch.float32 or self.weight.requires_grad:
            return super().forward(x)
        return _Product.apply(x, *self._layouts(), self.bias)

    def _layouts(self) -> tuple[Tensor, Tensor]:
        """The weight for the forward product, and its transpose for that of the gradient."""
        state = (self.weight.data_ptr(), self.weight._version)
        if self.__dict__.get("_laid_out") != state:
            with torch.no_grad():
                self._kept = tuple(
                    torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
                    for weight in (self.weight.detach(), self.weight.detach().T)
                )
            self._laid_out = state
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_laid_out")}


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradient.contiguous()
        product = torch.ops.mkldnn._linear_pointwise(gradient, ctx.transposed, None, "none", [], "")
        return product, None, None, None


def pack_frozen(model: nn.Module) -> None:
    """Turns the frozen `nn.Linear` layers of a model into `FrozenLinear`, in place and under their names.

    Does nothing where torch comes without oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        frozen = type(module) is nn.Linear and not module.weight.requires_grad
        if frozen and module.weight.numel() >= SMALLEST:
            module.__class__ = FrozenLinear
