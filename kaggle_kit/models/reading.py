"""Hidden states of a micro-batch from a backbone, by the library's own forward.

    reader = Reader(backbone)
    hidden = reader(batch, layout)          # (the layout's tokens, hidden)

A backbone whose attention goes through the library's interface reads one packed row. Any other reads
padded rows, one pass for each of the layout's groups of sequences of like length, with its own attention
and mask; such a layout shares no beginnings.

A backbone can be cut between two layers: the layers below the cut, then those above it, as often as wanted.

    stages = Stages(reader, cut=14)
    hidden = stages.lower(batch, layout)             # behind layer 13: (tokens, hidden)
    hidden = stages.upper(hidden, batch, layout)     # the backbone's last hidden states

Both run the library's own forward, in which the layers outside the stage pass their input on. So whatever
an architecture does before, between and after its layers stays its own business: embeddings and their
norm, masks, rotary positions of each kind of layer, the final norm.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.attention import FLASH, PACKED
from kaggle_kit.models.packing import PackedLayout

HIDDEN = "hidden_states"  # the library's name for the first argument of a layer


class Readable(Protocol):
    """The part of a micro-batch that a backbone reads."""

    @property
    def input_ids(self) -> Tensor:
        """Return the token ids, (tokens,)."""

    @property
    def type_ids(self) -> Tensor:
        """Return 1 for the tokens of a pair's second half, else 0, (tokens,)."""


@dataclass(frozen=True)
class Pass:
    """The arguments of one call of a backbone, and where its sequences' tokens stand in its grid."""

    inputs: dict[str, Any]
    shape: tuple[int, int]  # (rows, columns) of the grid
    cells: Tensor | None  # (tokens,) cells of the flattened grid; None where every cell holds a token

    @property
    def tokens(self) -> int:
        """Count the cells that hold a token."""
        return self.shape[0] * self.shape[1] if self.cells is None else len(self.cells)

    def row(self, grid: Tensor) -> Tensor:
        """Gather the cells that hold tokens: (rows, columns, width) -> (tokens, width)"""
        cells = grid.flatten(0, 1)
        return cells if self.cells is None else cells.index_select(0, self.cells)

    def grid(self, row: Tensor) -> Tensor:
        """Put tokens into their cells: (tokens, ...) -> (rows, columns, ...), zero where there is no token"""
        if self.cells is not None:
            empty = row.new_zeros(self.shape[0] * self.shape[1], *row.shape[1:])
            row = empty.index_copy(0, self.cells, row)
        return row.unflatten(0, self.shape)


class Reader:
    """The way of one backbone, packed or padded, which its attention implementation decides."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        self.backbone = backbone
        self.packs = packable(type(backbone)) and backbone.config._attn_implementation in (PACKED, FLASH)
        self.offset = position_offset(backbone)
        self.types = getattr(backbone.config, "type_vocab_size", 0)

    def __call__(self, batch: Readable, layout: PackedLayout) -> Tensor:
        """The last hidden states: (the layout's tokens, hidden)"""
        passes = self.passes(batch, layout)
        return torch.cat([one.row(self.backbone(**one.inputs).last_hidden_state) for one in passes])

    def layers(self, batch: Readable, layout: PackedLayout) -> Tensor:
        """Read the states of the embeddings and behind every layer: (layers + 1, the layout's tokens, hidden)

        The last are those of a call: what the library's final norm makes of them.
        """
        parts = []
        for one in self.passes(batch, layout):
            states = self.backbone(**one.inputs, output_hidden_states=True).hidden_states
            parts.append(torch.stack([one.row(state) for state in states]))
        return torch.cat(parts, dim=1)

    def batch_states(self, batch: Readable, layout: PackedLayout) -> Tensor:
        """Read the last hidden states of every token of the batch, (the batch's tokens, hidden)."""
        return layout.unfold(self(batch, layout))

    def passes(self, batch: Readable, layout: PackedLayout) -> Iterator[Pass]:
        """Yield the calls that read the batch, in the order of the layout's tokens."""
        tokens = {"input_ids": layout.fold(batch.input_ids)}
        if self.types:
            types = layout.fold(batch.type_ids)
            tokens["token_type_ids"] = types if self.types > 1 else torch.zeros_like(types)
        if self.packs:
            tokens["position_ids"] = layout.position_ids + self.offset
            row = {name: tensor[None] for name, tensor in tokens.items()}
            yield Pass(row | {"packed": layout}, (1, len(layout.position_ids)), None)
        else:
            yield from self._padded(tokens, layout)

    def _padded(self, tokens: dict[str, Tensor], layout: PackedLayout) -> Iterator[Pass]:
        start, device = 0, layout.position_ids.device
        padding = getattr(self.backbone.config, "pad_token_id", None) or 0
        for group in layout.groups:
            count, shape = int(group.own.sum()), tuple(group.queries.shape)
            real = torch.arange(shape[1]) < group.own[:, None]
            cells = real.flatten().nonzero().squeeze(1).to(device)
            one = Pass({"attention_mask": real.long().to(device)}, shape, cells)
            for name, row in tokens.items():
                one.inputs[name] = one.grid(row[start : start + count])
            one.inputs["input_ids"].masked_fill_(one.inputs["attention_mask"] == 0, padding)
            start += count
            yield one


def packable(kind: type[PreTrainedModel]) -> bool:
    """Return whether all attention of this class goes through the library's interface."""
    return bool(kind._supports_attention_backend)


def class_of(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that `AutoModel` loads for a configuration; None where it knows none."""
    return AutoModel._model_mapping.get(type(config), None)


def position_offset(backbone: PreTrainedModel) -> int:
    """Return the number of a sequence's first position: RoBERTa counts from behind the padding's."""
    table = _position_table(backbone)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def usable_positions(backbone: PreTrainedModel) -> int | None:
    """Return the most tokens that a sequence may have; None where the backbone names no limit.

    LongRoPE (Phi-3) turns all sequences of a call otherwise where one is longer than those of its training.
    """
    config, table = backbone.config, _position_table(backbone)
    declared = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None)
    if rope and rope.get("rope_type") == "longrope":
        return rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
    if table is None:
        return declared
    rows = table.num_embeddings - position_offset(backbone)
    return min(rows, declared) if declared else rows


def _position_table(backbone: PreTrainedModel) -> nn.Embedding | None:
    """The table of absolute positions, if the backbone has one."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rsplit(".", 1)[-1]:
            return module
    return None


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
        """Return the states that the first layer above the cut reads: (tokens, hidden)"""
        states: list[Tensor] = []

        def last(layer: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            output = layer(hidden, *args, **kwargs)
            self._further = len(output) - 1 if isinstance(output, tuple) else None
            return output

        def keep(_: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            states.append(hidden)
            return self._output(hidden)

        above = range(self.cut + 1, len(self.layers))
        calls = {self.cut - 1: last, self.cut: keep} | dict.fromkeys(above, self._pass_on)
        parts = []
        for one in self.reader.passes(batch, layout):
            with _in_place(self.layers, calls):
                self.reader.backbone(**one.inputs)
            parts.append(one.row(states[-1]))
        return torch.cat(parts)

    def upper(self, hidden: Tensor, batch: Readable, layout: PackedLayout) -> Tensor:
        """Run the layers above the cut: (tokens, hidden) -> the last hidden states, (tokens, hidden)"""
        parts, start = [], 0
        for one in self.reader.passes(batch, layout):
            grid = one.grid(hidden[start : start + one.tokens])
            start += one.tokens

            def feed(layer: nn.Module, _: Tensor, *args: Any, part: Tensor = grid, **kwargs: Any) -> Any:
                return layer(part, *args, **kwargs)

            calls = dict.fromkeys(range(self.cut), self._pass_on) | {self.cut: feed}
            with _in_place(self.layers, calls):
                parts.append(one.row(self.reader.backbone(**one.inputs).last_hidden_state))
        return torch.cat(parts)

    def _pass_on(self, _: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._output(hidden)

    def _output(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """As a layer of this backbone returns it."""
        return hidden if self._further is None else (hidden, *[None] * self._further)


def layers_of(backbone: PreTrainedModel) -> nn.ModuleList:
    """Find the list of the backbone's layers. Raises ConfigError where it has no such list."""
    depth = backbone.config.num_hidden_layers
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ConfigError(
        f"{type(backbone).__name__} holds no list of its {depth} layers, so it cannot be cut between two; "
        "choose another strategy than the hierarchical one"
    )


class _StandIn(nn.Module):
    """In a layer's place: `call` is given the layer and its arguments. It has the layer's attributes."""

    def __init__(self, layer: nn.Module, call: Callable) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden, *others = args or (kwargs.pop(HIDDEN),)
        return self.call(self.layer, hidden, *others, **kwargs)


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
