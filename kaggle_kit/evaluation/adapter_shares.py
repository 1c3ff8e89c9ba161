"""What the adapters add to each layer, beside what the frozen layer says itself.

adapter_shares(model, {"ner": batches})     # {"q_proj": {0: 0.031, 1: 0.027, …}} by layer
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from kaggle_kit.evaluation.fusion_weights import LAYER
from kaggle_kit.models.multitask import MultiTaskModel


@torch.no_grad()
def adapter_shares(
    model: MultiTaskModel, batches: Mapping[str, Iterable[Any]]
) -> dict[str, dict[int, float]]:
    """Projection -> layer -> the norm of what the active adapters add over the norm of W·x.

    Each is the mean over the micro-batches of `batches`, which are on the model's device. It is 0 before
    the first step, for B starts at 0.
    """
    kept: dict[tuple[str, int], list[float]] = defaultdict(list)
    training = model.training
    model.eval()
    hooks = [
        module.register_forward_hook(
            partial(_note, kept[name.rpartition(".")[2], int(LAYER.search(name)[1])])
        )
        for name, module in model.backbone.named_modules()
        if isinstance(module, LoraLayer)
    ]
    try:
        for batch in (batch for several in batches.values() for batch in several):
            model.encode(batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for (projection, layer), ratios in sorted(kept.items()):
        if ratios:
            found[projection][layer] = fmean(ratios)
    return dict(found)


def _note(kept: list[float], module: LoraLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    plain = module.base_layer(inputs[0]).float()
    kept.append(float((output.float() - plain).norm() / plain.norm()))
