"""The LoRA layers of this project, registered with PEFT for dense and 4-bit linear layers.

    config._register_custom_module(custom_layers())

They hold PEFT's own parameters under PEFT's own names, so what they save is a stock adapter. The
forward differs: active adapters run as one of their summed rank, which costs what a single adapter
costs; a registered fusion reweights the two halves on the way; layers that read the same tensor (query,
key and value) share one dropout mask and one product with their A matrices; under autocast the input is
not cast up first, as stock PEFT does, which would save a float32 copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import layer as dense
from torch import Tensor, nn

from kaggle_kit.models.fusion import fuse
from kaggle_kit.models.segments import Segment, add_segment_linear, segment_linear

Segments = Sequence[Segment]

# Names of the layers of a module that read one tensor.
ONE_INPUT = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class SharedInput:
    """What was made of the tensor that was read last, for all layers that read this very tensor.

    So query, key and value of a layer draw one dropout mask instead of three, and multiply by their A
    matrices in one product. It remembers a single tensor; `forget` lets go of it. `segments` are those of
    the row that is read next; empty where all its tokens pass through the active adapters.
    """

    def __init__(self) -> None:
        self.segments: tuple[Segment, ...] = ()
        self.forget()

    def forget(self) -> None:
        """Release the tensor and all that was computed from it."""
        self._read: Tensor | None = None
        self._masked: Tensor | None = None
        self._down: dict[JointForward, Tensor] = {}

    def down(self, x: Tensor, reader: JointForward, segments: Segments) -> Tensor:
        """Multiply the masked input, (..., in), by A of each segment's adapters: (tokens, ranks)"""
        if self._read is not x:
            first = reader.held(segments[0])[0]
            self._read, self._masked, self._down = x, reader.masked(x, first).flatten(0, -2), {}
        if reader not in self._down:
            weights = [
                [
                    segment.leaf(layer.lora_A[name].weight)
                    for layer in reader.together
                    for name in layer.held(segment)
                ]
                for segment in segments
            ]
            product = segment_linear(self._masked, weights, [segment.tokens for segment in segments])
            self._down.update(zip(reader.together, product.chunk(len(reader.together), -1), strict=True))
        return self._down[reader]

    def __deepcopy__(self, memo: dict) -> SharedInput:
        return memo.setdefault(id(self), SharedInput())  # a tensor inside a graph cannot be copied


class JointForward(dense.LoraLayer):
    """Comes before a PEFT layer among a class's bases, and runs its active adapters as one.

    `fusion` holds a module per adapter that is fused with the shared one. Adapters active together have one
    scaling (alpha / rank) and one dropout: `SharedPrivateLoRA` gives every adapter those of the model, and
    all layers one `shared_input`. `together` are the layers, this one among them, that are expected to read
    one tensor; where they do not, each works for itself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fusion = nn.ModuleDict()
        self.shared_input = SharedInput()
        self.together: tuple[JointForward, ...] = (self,)

    def held(self, segment: Segment) -> list[str]:
        """List the adapters of a segment that this layer has."""
        return [name for name in segment.adapters if name in self.lora_A]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output with the active adapters' added: (..., in) -> (..., out)."""
        segments = self.shared_input.segments or (Segment(0, tuple(self.active_adapters)),)
        if self.disable_adapters or self.merged or "adapter_names" in kwargs or not self.held(segments[0]):
            return super().forward(x, *args, **kwargs)
        result = self.base_layer(x.flatten(0, -2), *args, **kwargs)  # (tokens, out)
        return self._add_adapters(result, x, segments).unflatten(0, x.shape[:-1])

    def _add_adapters(self, result: Tensor, x: Tensor, segments: Segments) -> Tensor:
        """Adds the sum of the adapters' outputs for x, (..., in), to the (tokens, out) result."""
        names, sizes = [self.held(segment) for segment in segments], [segment.tokens for segment in segments]
        rows = self.shared_input.down(x, self, segments)  # (tokens, ranks)
        if names[0][-1] in self.fusion:
            fusions = [self.fusion[several[-1]] for several in names]
            rows = fuse(fusions, rows, sizes) if len(fusions) > 1 else fusions[0](rows)
        up = [
            [segment.leaf(self.lora_B[name].weight) for name in several]  # (out, rank) each
            for segment, several in zip(segments, names, strict=True)
        ]
        scaling = self.scaling[names[0][0]]
        if rows.dtype == result.dtype:
            return add_segment_linear(result, rows, up, sizes, alpha=scaling)
        # float32 adapters on a half base
        return result + segment_linear(rows * scaling, up, sizes, dim=1).to(result.dtype)

    def masked(self, x: Tensor, adapter: str) -> Tensor:
        """Apply this adapter's dropout, after a cast to the adapter's type unless autocast does that."""
        if not torch.is_autocast_enabled(x.device.type):
            x = self._cast_input_dtype(x, self.lora_A[adapter].weight.dtype)
        return self.lora_dropout[adapter](x)


def read_together(model: nn.Module) -> None:
    """Tell the layers of each group of `ONE_INPUT` about each other."""
    for module in model.modules():
        for names in ONE_INPUT:
            layers = [getattr(module, name, None) for name in names]
            together = tuple(layer for layer in layers if isinstance(layer, JointForward))
            for layer in together:
                layer.together = together


class JointLinear(JointForward, dense.Linear):
    """On `nn.Linear`."""


def custom_layers() -> dict[type[nn.Module], type[nn.Module]]:
    """Return base layer -> our LoRA layer. Quantised layers come first: they are subclasses of nn.Linear."""
    return {**_quantised_layers(), nn.Linear: JointLinear}


def _quantised_layers() -> dict[type[nn.Module], type[nn.Module]]:
    try:
        import bitsandbytes
        from peft.tuners.lora import bnb
    except ImportError:  # an optional package: dense models need none of it
        return {}
    four_bit = type("JointLinear4bit", (JointForward, bnb.Linear4bit), {"__doc__": "On 4-bit layers."})
    return {bitsandbytes.nn.Linear4bit: four_bit}
