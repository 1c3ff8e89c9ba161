"""What adapters, fusions and all that trains do in a model, layer by layer.

adapter_shares(model, {"ner": batches})       # {"q_proj": {0: 0.031, 1: 0.027, …}}
adapter_sizes(model.lora)                     # {"shared": {0: 0.41, 1: 0.38}, "private_ner": {0: 0.02, …}}
mean_shared_weights(model, {"ner": batches})  # {"ner": {0: 0.52, 1: 0.47, …}}

Micro-batches are on the model's device.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.models.adapters import LAYER, SharedPrivateLoRA, private
from kaggle_kit.models.fusion import Fusion
from kaggle_kit.models.multitask import MultiTaskModel

ByLayer = dict[int, float]
Note = Callable[..., Any]  # (module, inputs, output) -> None


@contextmanager
def hooked(notes: Iterable[tuple[nn.Module, Note]]) -> Iterator[None]:
    """Call each module's note after its forward, for as long as the block lasts."""
    hooks = [module.register_forward_hook(note) for module, note in notes]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients, for as long as the block lasts."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def adapter_shares(model: MultiTaskModel, batches: Mapping[str, Iterable[MicroBatch]]) -> dict[str, ByLayer]:
    """Return projection -> layer -> the norm of what the active adapters add over the norm of W·x.

    Each is the mean over the micro-batches. It is 0 before the first step, for B starts at 0.
    """
    ratios: dict[tuple[str, int], list[float]] = defaultdict(list)

    def note(place: tuple[str, int], module: LoraLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        plain = module.base_layer(inputs[0]).float()
        ratios[place].append(float((output.float() - plain).norm() / plain.norm()))

    layers = _modules(model.backbone, LoraLayer)
    notes = [(module, partial(note, (_projection(name), at))) for name, at, module in layers]
    with evaluating(model), hooked(notes):
        for batch in chain.from_iterable(batches.values()):
            model.encode(batch)
    found: dict[str, ByLayer] = defaultdict(dict)
    for (projection, layer), several in sorted(ratios.items()):
        found[projection][layer] = fmean(several)
    return dict(found)


@torch.no_grad()
def adapter_sizes(lora: SharedPrivateLoRA) -> dict[str, ByLayer]:
    """Return adapter -> layer -> the Frobenius norm of its update, scaling times B A, over all projections.

    A fusion weighs the updates once more, token by token; that is left out here.
    """
    squares: dict[str, ByLayer] = {name: defaultdict(float) for name in lora.ranks}
    for _, layer, module in _modules(lora.peft, LoraLayer):
        for name in module.lora_A:
            update = module.lora_B[name].weight.double() @ module.lora_A[name].weight.double()
            squares[name][layer] += float(update.square().sum()) * lora.scaling**2
    return {name: {at: total**0.5 for at, total in sorted(by.items())} for name, by in squares.items()}


def mean_shared_weights(
    model: MultiTaskModel, batches: Mapping[str, Iterable[MicroBatch]]
) -> dict[str, ByLayer]:
    """Return task -> layer -> the mean weight of the shared adapter, over tokens and projections, in [0, 1].

    Empty where the model has no fusion.
    """
    found: dict[str, ByLayer] = {}

    def note(weights: list[float], module: Fusion, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights.append(float((1 + module.lean(inputs[0])).mean() / 2))  # lean is 2 · weight − 1

    for task, several in batches.items():
        kept: dict[int, list[float]] = defaultdict(list)
        fusions = [one for one in _modules(model.backbone, Fusion) if one[0].endswith(f".{private(task)}")]
        if fusions:
            with evaluating(model), hooked((module, partial(note, kept[at])) for _, at, module in fusions):
                for batch in several:
                    model.encode(batch)
            found[task] = {layer: fmean(weights) for layer, weights in sorted(kept.items())}
    return found


def part_of(parameter: str) -> str:
    """Return where in a model a parameter lies: `layer 03`, counted from 1, or outside of the layers."""
    if parameter.startswith("heads."):
        return "heads"
    layer = re.search(LAYER, parameter)
    return f"layer {int(layer[1]) + 1:02}" if layer else "embeddings, norms"


def _modules(model: nn.Module, kind: type[Any]) -> list[tuple[str, int, Any]]:
    """(name, layer, module) of every module of a kind; all of them lie in numbered layers."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
    return [(name, int(re.findall(LAYER, name)[0]), module) for name, module in found]


def _projection(name: str) -> str:
    """`query`, but `attention.output.dense` and `output.dense`: a layer of BERT has three of that name."""
    inside = re.split(LAYER, name, maxsplit=1)[-1]
    last = inside.rpartition(".")[2]
    return inside if last == "dense" else last
