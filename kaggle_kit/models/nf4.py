"""The quantised base beside the weights that it was made of: errors by layer, bytes in memory.

    for path, original, restored in quantised_weights(loaded): ...
    quantisation_errors(loaded)      # {"layers.0.self_attn.q_proj": 0.093, …}
    base_bytes(loaded)               # {"matrices in NF4": (1_000, 7_900), "the rest": (512, 512)}

NF4 keeps 4 bits a weight: one of 16 levels, times the largest absolute weight of its block of 64 (Dettmers et
al. 2023). The originals are read from the model's safetensors files, one matrix at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from kaggle_kit.models.four_bit import restored_weight
from kaggle_kit.models.loading import Loaded, source_of

WRAPPED = ".base_layer"  # PEFT puts the layer that it adapts below this name


def quantised_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """Path -> layer of every 4-bit linear layer, its path as in the model without adapters."""
    return {
        path.removesuffix(WRAPPED): module
        for path, module in backbone.named_modules()
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None
    }


def quantised_weights(loaded: Loaded) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(path, original, restored) of the 4-bit layers whose original the model's files hold under their name.

    Both matrices are (out, in) float32 on the CPU. Layers are left out that the library joins or renames at
    loading, and all of them where the files are no safetensors.
    """
    layers = quantised_layers(loaded.backbone)
    for file in _files(source_of(loaded.config), loaded.config.revision):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - the handle is no mapping
                path = _named(name, layers)
                if path is None:
                    continue
                original = stored.get_tensor(name).float()
                if original.shape == layers[path].weight.quant_state.shape:
                    yield path, original, restored_weight(layers[path]).float().cpu()


def quantisation_errors(loaded: Loaded) -> dict[str, float]:
    """Path -> the norm of what quantisation changed, over that of the original matrix (Frobenius)."""
    return {
        path: float((restored - original).norm() / original.norm())
        for path, original, restored in quantised_weights(loaded)
    }


def base_bytes(loaded: Loaded) -> dict[str, tuple[int, int]]:
    """What -> (bytes as kept, bytes without quantisation) of the frozen base.

    Without quantisation every weight takes the bytes of the run's own dtype. Scales count to the matrices.
    """
    wide = getattr(torch, loaded.decisions["dtype"].value).itemsize
    layers = quantised_layers(loaded.backbone).values()
    packed = {id(layer.weight) for layer in layers}
    states = [layer.weight.quant_state for layer in layers]
    kept = sum(_bytes(layer.weight) for layer in layers) + sum(map(_scales, states))
    rest = [p for p in loaded.backbone.parameters() if not p.requires_grad and id(p) not in packed]
    return {
        "matrices in NF4": (kept, sum(state.shape.numel() for state in states) * wide),
        "the rest": (sum(map(_bytes, rest)), sum(p.numel() for p in rest) * wide),
    }


def _files(source: str, revision: str | None) -> list[Path]:
    """The model's safetensors files, as they were found at loading; empty where it has none."""
    options = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **options)
    names = [SAFE_WEIGHTS_NAME]
    if index is not None:
        names = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    found = (cached_file(source, name, **options) for name in names)
    return [Path(file) for file in found if file is not None]


def _named(name: str, layers: dict[str, nn.Module]) -> str | None:
    """The layer that a stored name means: its own path, maybe below the part that holds the backbone."""
    path = name.removesuffix(".weight")
    while name != path and path not in layers and "." in path:
        path = path.partition(".")[2]
    return path if name.endswith(".weight") and path in layers else None


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _scales(state: object) -> int:
    """Bytes of a matrix's scales, which may be quantised themselves."""
    nested = getattr(state, "state2", None)
    return _bytes(state.absmax) + (_bytes(nested.absmax) if nested is not None else 0)
