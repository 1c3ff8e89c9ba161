"""A backbone cut between two layers: the layers below the cut, then those above it, as often as wanted.

    stages = Stages(reader, cut=14)
    hidden = stages.lower(batch, layout)             # behind layer 13: (tokens, hidden)
    hidden = stages.upper(hidden, batch, layout)     # the backbone's last hidden states

Both run the library's own forward, in which the layers outside the stage pass their input on. So whatever
an architecture does before, between and after its layers stays its own business: embeddings and their
norm, masks, rotary positions of each kind of layer, the final norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Readable, Reader

HIDDEN = "hidden_states"  # the library's name for the first argument of a layer


class Stages:
    """Raises ConfigError for a backbone that cannot be cut, or not there."""

    def __init__(self, reader: Reader, cut: int) -> None:
        self.reader, self.cut = reader, cut
        self.layers = layers_of(reader.backbone)
        self._further: int | None = None  # values beside the hidden states where a layer returns a tuple
        if not 0 < cut < len(self.layers):
            depth = len(self.layers)
            raise ConfigError(f"cut is {cut}; a backbone of {depth} layers is cut at 1 to {depth - 1}")

    def lower(self, batch: Readable, layout: PackedLayout) -> Tensor:
        """The states that the first layer above the cut reads: (tokens, hidden)"""
        found: list[Tensor] = []

        def last(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
            output = layer(*args, **kwargs)
            self._further = len(output) - 1 if isinstance(output, tuple) else None
            return output

        def keep(_: nn.Module, *args: Any, **kwargs: Any) -> Any:
            found.append(_hidden(args, kwargs))
            return self._output(found[-1])

        depth = len(self.layers)
        calls = {self.cut - 1: last, self.cut: keep}
        calls |= dict.fromkeys(range(self.cut + 1, depth), self._pass_on)
        parts = []
        for one in self.reader.passes(batch, layout):
            with _in_place(self.layers, calls):
                self.reader.backbone(**one.inputs)
            parts.append(one.row(found[-1]))
        return torch.cat(parts)

    def upper(self, hidden: Tensor, batch: Readable, layout: PackedLayout) -> Tensor:
        """(tokens, hidden) -> the backbone's last hidden states, (tokens, hidden)"""
        parts, start = [], 0
        for one in self.reader.passes(batch, layout):
            count = one.shape[0] * one.shape[1] if one.cells is None else len(one.cells)
            grid = one.grid(hidden[start : start + count])
            start += count

            def feed(layer: nn.Module, *args: Any, given: Tensor = grid, **kwargs: Any) -> Any:
                if args:
                    return layer(given, *args[1:], **kwargs)
                return layer(**kwargs | {HIDDEN: given})

            calls = dict.fromkeys(range(self.cut), self._pass_on) | {self.cut: feed}
            with _in_place(self.layers, calls):
                parts.append(one.row(self.reader.backbone(**one.inputs).last_hidden_state))
        return torch.cat(parts)

    def _pass_on(self, _: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._output(_hidden(args, kwargs))

    def _output(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """As a layer of this backbone returns it."""
        return hidden if self._further is None else (hidden, *[None] * self._further)


def layers_of(backbone: PreTrainedModel) -> nn.ModuleList:
    """The list of the backbone's layers. Raises ConfigError where it has no such list."""
    depth = backbone.config.num_hidden_layers
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ConfigError(
        f"{type(backbone).__name__} holds no list of its {depth} layers, so it cannot be cut between two; "
        "choose another strategy than the hierarchical one"
    )


class _StandIn(nn.Module):
    """In a layer's place: is called instead of it, and has all of its attributes."""

    def __init__(self, layer: nn.Module, call: Callable) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.layer, *args, **kwargs)


@contextmanager
def _in_place(layers: nn.ModuleList, calls: Mapping[int, Callable]) -> Iterator[None]:
    """Layers by number are replaced inside the block. Their own hooks and recomputes are left alone."""
    own = {number: layers[number] for number in calls}
    for number, call in calls.items():
        layers[number] = _StandIn(own[number], call)
    try:
        yield
    finally:
        for number, layer in own.items():
            layers[number] = layer


def _hidden(args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs[HIDDEN]
