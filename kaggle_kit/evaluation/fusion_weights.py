"""How a trained fusion weighs the shared adapter against each task's own.

mean_shared_weights(model, {"ner": batches})     # {"ner": {0: 0.52, 1: 0.47, …}} by layer
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import nn

from kaggle_kit.models.adapters import private
from kaggle_kit.models.fusion import Fusion
from kaggle_kit.models.multitask import MultiTaskModel

LAYER = re.compile(r"\.(\d+)\.")


@torch.no_grad()
def mean_shared_weights(
    model: MultiTaskModel, batches: Mapping[str, Iterable[Any]]
) -> dict[str, dict[int, float]]:
    """Task -> layer -> the mean weight of the shared adapter, over tokens and projections, in [0, 1].

    `batches` holds micro-batches by task, on the model's device. Empty where the model has no fusion.
    """
    found: dict[str, dict[int, float]] = {}
    training = model.training
    model.eval()
    try:
        for task, several in batches.items():
            kept: dict[int, list[float]] = defaultdict(list)
            hooks = [
                module.register_forward_hook(partial(_note, kept[int(LAYER.search(name)[1])]))
                for name, module in model.backbone.named_modules()
                if isinstance(module, Fusion) and name.endswith(f".{private(task)}")
            ]
            for batch in several if hooks else ():
                model.encode(batch)
            for hook in hooks:
                hook.remove()
            if hooks:
                found[task] = {layer: fmean(weights) for layer, weights in sorted(kept.items())}
    finally:
        model.train(training)
    return found


def _note(
    kept: list[float], module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
) -> None:
    lean = module.lean(inputs[0])  # 2 · weight − 1
    kept.append(float((1 + lean).mean() / 2))
