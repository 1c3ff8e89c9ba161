"""Hidden states of a micro-batch from a backbone, by the library's own forward.

    reader = Reader(backbone)
    hidden = reader(batch, layout)          # (the layout's tokens, hidden)

A backbone whose attention goes through the library's interface reads one packed row. Any other reads
padded rows, one pass for each of the layout's groups of sequences of like length, with its own attention
and mask; such a layout shares no beginnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.flash import FLASH
from kaggle_kit.models.packing import PackedLayout


class Readable(Protocol):
    """What is read of a micro-batch: (tokens,) each."""

    input_ids: Tensor
    type_ids: Tensor


@dataclass(frozen=True)
class Pass:
    """The arguments of one call of a backbone, and where its sequences' tokens stand in its grid."""

    inputs: dict[str, Any]
    shape: tuple[int, int]  # (rows, columns) of the grid
    cells: Tensor | None  # (tokens,) cells of the flattened grid; None where every cell holds a token

    def row(self, grid: Tensor) -> Tensor:
        """(rows, columns, width) -> (tokens, width)"""
        cells = grid.flatten(0, 1)
        return cells if self.cells is None else cells.index_select(0, self.cells)

    def grid(self, row: Tensor) -> Tensor:
        """(tokens, ...) -> (rows, columns, ...), zero where there is no token"""
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

    def passes(self, batch: Readable, layout: PackedLayout) -> Iterator[Pass]:
        """The calls that read the batch, in the order of the layout's tokens."""
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
    """Whether all attention of this class goes through the library's interface."""
    return bool(kind._supports_attention_backend)


def class_of(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """The class that `AutoModel` loads for a configuration; None where it knows none."""
    return AutoModel._model_mapping.get(type(config), None)


def position_offset(backbone: PreTrainedModel) -> int:
    """The number of a sequence's first position: RoBERTa counts from behind the padding's."""
    table = _position_table(backbone)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def usable_positions(backbone: PreTrainedModel) -> int | None:
    """The most tokens that a sequence may have; None where the backbone names no limit.

    LongRoPE (Phi-3) turns all sequences of a call otherwise where one is longer than those of its training.
    """
    config, table = backbone.config, _position_table(backbone)
    declared, rope = (
        getattr(config, "max_position_embeddings", None),
        getattr(config, "rope_parameters", None),
    )
    if rope and rope.get("rope_type") == "longrope":
        return rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
    if table is None:
        return declared
    held = table.num_embeddings - position_offset(backbone)
    return min(held, declared) if declared else held


def _position_table(backbone: PreTrainedModel) -> nn.Embedding | None:
    """The table of absolute positions, if the backbone has one."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rsplit(".", 1)[-1]:
            return module
    return None
