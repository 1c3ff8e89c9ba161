"""A task's adapters, added to the weights that they adapt: the same model in fewer products.

with merged(model, "semeval2014t7"):
    ...      # predicts as before, but for rounding
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.hierarchical import HierarchicalMTLModel
from kaggle_kit.models.multitask import MultiTaskModel


def why_unmergeable(model: MultiTaskModel) -> str | None:
    """Return why the adapters cannot be added to the weights; None where they can."""
    if not model.lora.ranks:
        return "there is no adapter: the backbone was trained, or quantised, as a whole"
    if model.lora.fusion != "none":
        return f"a fusion ({model.lora.fusion}) weighs the adapters anew for every token"
    if isinstance(model, HierarchicalMTLModel):
        return "the levels of a task pass through other adapters"
    if not all(layer.base_layer.weight.is_floating_point() for layer in model.lora.layers):
        return "the base is in 4 bits, and adding to it would round it anew"
    return None


@contextmanager
def merged(model: MultiTaskModel, task: str) -> Iterator[None]:
    """Add the task's adapters to the frozen weights, which are put back bit by bit at the end.

    Raises ConfigError, with the reason, where they cannot be added.
    """
    if reason := why_unmergeable(model):
        raise ConfigError(f"the adapters of {task} cannot be merged: {reason}; time the model as it is")
    weights: list[nn.Parameter] = [layer.base_layer.weight for layer in model.lora.layers]
    before = [weight.detach().clone() for weight in weights]
    model.backbone.merge_adapter(model.adapters_of(task))
    try:
        yield
    finally:
        model.backbone.unmerge_adapter()
        with torch.no_grad():
            for weight, kept in zip(weights, before, strict=True):
                weight.copy_(kept)


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of all weights and buffers, each counted once; 4-bit weights as they are packed."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
