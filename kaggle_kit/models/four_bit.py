"""Restore the matrices of 4-bit layers, also where bitsandbytes fails, and compare them with the originals.

    keep_exact(backbone)             # after loading, before adapters are attached
    restored_weight(layer)           # (out, in)
    quantisation_errors(loaded)      # {"layers.0.self_attn.q_proj": 0.093, …}
    base_bytes(loaded)               # {"matrices in NF4": (1_000, 7_900), "the rest": (512, 512)}

NF4 keeps 4 bits a weight: one of 16 levels, times the largest absolute weight of its block of 64 (Dettmers et
al. 2023). The originals are read from the model's safetensors files, one matrix at a time.

bitsandbytes 0.50.2 restores a matrix on a CPU row by row, and takes a neighbour's scale wherever a row is no
whole number of blocks. Blocks run on over the ends of rows, so here such a matrix is restored as rows of one
block each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from kaggle_kit.core.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_kit.models.loading import Loaded

WRAPPED = ".base_layer"  # PEFT puts the layer that it adapts below this name


def keep_exact(backbone: nn.Module) -> None:
    """Let every 4-bit layer of the backbone compute with the matrix that its codes stand for, with gradients.

    On CPUs with bfloat16 instructions bitsandbytes repacks 4-bit weights at the first evaluation, into a form
    whose product has no gradient: training after a quick evaluation would silently learn nothing. Raises
    ConfigError for a matrix on a CPU that is no whole number of blocks.
    """
    for name, module in backbone.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if not _has_broken_rows(module):
            continue
        state = module.weight.quant_state
        if state.shape.numel() % state.blocksize:
            raise ConfigError(
                f"{name} has {state.shape.numel():,} weights, no whole number of NF4 blocks of "
                f"{state.blocksize}: bitsandbytes restores it wrongly on a CPU; use a GPU, or "
                "strategy.quantization=none"
            )
        module.forward = partial(_forward, module)


def restored_weight(layer: nn.Module) -> Tensor:
    """Restore the (out, in) matrix of a 4-bit layer, in the dtype from which it was quantised."""
    from bitsandbytes.functional import dequantize_4bit

    state = layer.weight.quant_state
    if not _has_broken_rows(layer):
        return dequantize_4bit(layer.weight.data, state)
    blocks = copy(state)
    blocks.shape = torch.Size((state.shape.numel() // state.blocksize, state.blocksize))
    return dequantize_4bit(layer.weight.data, blocks).view(state.shape)


def _has_broken_rows(module: nn.Module) -> bool:
    """Whether a 4-bit layer on a CPU has rows of no whole number of blocks."""
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    return state is not None and module.weight.device.type == "cpu" and state.shape[-1] % state.blocksize != 0


def _forward(layer: nn.Module, x: Tensor) -> Tensor:
    """(…, in) -> (…, out)"""
    if not _has_broken_rows(layer):  # it has moved to a GPU
        return type(layer).forward(layer, x)
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, restored_weight(layer).to(x.dtype), bias)


def quantised_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """Map path to layer for every 4-bit linear layer; paths are those of the model without adapters."""
    return {
        path.removesuffix(WRAPPED): module
        for path, module in backbone.named_modules()
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None
    }


def quantised_weights(loaded: Loaded) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (path, original, restored) for the 4-bit layers that the model's files hold under their name.

    Both matrices are (out, in) float32 on the CPU. Layers are left out that the library joins or renames at
    loading, and all of them where the files are no safetensors.
    """
    layers = quantised_layers(loaded.backbone)
    for file in _files(loaded.source, loaded.config.revision):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - the handle is no mapping
                # a file may name what holds the backbone, too
                path = next((one for one in layers if f".{name}".endswith(f".{one}.weight")), None)
                if path and stored.get_slice(name).get_shape() == [*layers[path].weight.quant_state.shape]:
                    yield path, stored.get_tensor(name).float(), restored_weight(layers[path]).float().cpu()


def quantisation_errors(loaded: Loaded) -> dict[str, float]:
    """Map path to the relative error of quantisation, in the Frobenius norm."""
    return {
        path: float((restored - original).norm() / original.norm())
        for path, original, restored in quantised_weights(loaded)
    }


def base_bytes(loaded: Loaded) -> dict[str, tuple[int, int]]:
    """Return part -> (bytes as kept, bytes without quantisation) of the frozen base.

    Without quantisation every weight takes the bytes of the run's own dtype. Scales count to the matrices.
    """
    wide = getattr(torch, loaded.decisions["dtype"].value).itemsize
    layers = quantised_layers(loaded.backbone).values()
    packed = {id(layer.weight) for layer in layers}
    states = [layer.weight.quant_state for layer in layers]
    nf4_bytes = sum(layer.weight.nbytes for layer in layers) + sum(map(_scales, states))
    rest = [p for p in loaded.backbone.parameters() if not p.requires_grad and id(p) not in packed]
    return {
        "matrices in NF4": (nf4_bytes, sum(state.shape.numel() for state in states) * wide),
        "the rest": (sum(p.nbytes for p in rest), sum(p.numel() for p in rest) * wide),
    }


def _files(source: str, revision: str | None) -> list[Path]:
    """The model's safetensors files, as they were found at loading; empty where it has none."""
    options = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **options)
    names = [SAFE_WEIGHTS_NAME]
    if index is not None:
        names = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    paths = (cached_file(source, name, **options) for name in names)
    return [Path(file) for file in paths if file is not None]


def _scales(state: Any) -> int:
    """Bytes of a matrix's scales, which may be quantised themselves."""
    nested = getattr(state, "state2", None)
    return state.absmax.nbytes + (nested.absmax.nbytes if nested is not None else 0)
