"""How far each adapter moves the layers that it stands on.

adapter_sizes(model.lora)     # {"shared": {0: 0.41, 1: 0.38}, "private_ner": {0: 0.02, …}} by layer
"""

from __future__ import annotations

from collections import defaultdict

import torch
from peft.tuners.lora import LoraLayer

from kaggle_kit.evaluation.fusion_weights import LAYER
from kaggle_kit.models.adapters import SharedPrivateLoRA


@torch.no_grad()
def adapter_sizes(lora: SharedPrivateLoRA) -> dict[str, dict[int, float]]:
    """Adapter -> layer -> the Frobenius norm of its update, scaling times B A, over the layer's projections.

    A fusion weighs the updates once more, token by token; that is left out here.
    """
    squares: dict[str, dict[int, float]] = {name: defaultdict(float) for name in lora.ranks}
    for path, module in lora.peft.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for name in module.lora_A:
            update = module.lora_B[name].weight.double() @ module.lora_A[name].weight.double()
            squares[name][int(LAYER.search(path)[1])] += float(update.square().sum()) * lora.scaling**2
    return {name: {at: total**0.5 for at, total in sorted(by.items())} for name, by in squares.items()}
