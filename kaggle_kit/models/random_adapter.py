"""An adapter of random weights in a trained one's place: what rank and size alone do to representations.

with randomised(model.lora, "shared", seed=0):
    ...
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kaggle_kit.models.adapters import SharedPrivateLoRA


@contextmanager
def randomised(lora: SharedPrivateLoRA, adapter: str, seed: int) -> Iterator[None]:
    """Inside a block, let A and B of the adapter be normal draws, with ‖BA‖ of every layer as it was trained.

    Afterwards the weights are those of before, to the bit.
    """
    weights = [parameter.data for parameter in lora.parameters_of(adapter)]
    trained = [weight.clone() for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    try:
        for a, b in zip(weights[::2], weights[1::2], strict=True):
            wanted = update_size(a, b)
            for weight in (a, b):
                weight.copy_(torch.randn(weight.shape, generator=generator))
            b.mul_(wanted / update_size(a, b))
        yield
    finally:
        for weight, before in zip(weights, trained, strict=True):
            weight.copy_(before)


def update_size(a: Tensor, b: Tensor) -> Tensor:
    """Return the Frobenius norm of BA, from (rank, in) and (out, rank), without the product itself."""
    return ((b.T @ b) * (a @ a.T)).sum().clamp_min(0).sqrt()
