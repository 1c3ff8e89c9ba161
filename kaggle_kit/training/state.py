"""Everything that a training run is at the end of a step, taken from a trainer and put back bit for bit.

    state = capture(trainer)
    restore_parameters(trainer, state); restore_optimizer(trainer, state)
    restore_progress(trainer, state); restore_random(trainer, state)

Parameters and the optimiser's memory go by the parameters' names, so neither order nor the adapter
that happens to be active matters. The base model's frozen weights are no part of it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.runtime import library_versions
from kaggle_kit.training.callbacks.quick import trained
from kaggle_kit.training.checkpoint_files import Documents, Tensors
from kaggle_kit.training.snapshot import RandomState

WEIGHTING = "weighting."  # the learnt loss weights lie beside the model


@dataclass(frozen=True)
class TrainingState:
    """`tensors` and `documents` are files of a checkpoint, by name.

    Tensors, all on the CPU: `parameters` by name; `optimizer` by `<field>/<parameter>`; `random`
    (torch, each GPU, the gradient surgery's order); `best` weights where an earlier step was the best.
    Documents: `trainer_state` is the library's own, `state` the rest.
    """

    documents: Documents
    tensors: Tensors

    @property
    def step(self) -> int:
        """Optimiser steps done by this trainer."""
        return self.documents["trainer_state"]["global_step"]

    @property
    def logged_step(self) -> int:
        """Optimiser steps counted by the logs, earlier phases included."""
        return self.documents["state"]["tokens"]["step"]

    @property
    def ended(self) -> bool:
        """Whether training was over: its last step, or stopped early."""
        return self.documents["state"]["ended"]


def capture(trainer: Any, *, ended: bool = False) -> TrainingState:
    """A copy of the state that training goes on from; for the end of a step, not its middle."""
    optimizer, optimizer_tensors = _optimizer_state(trainer)
    random = RandomState.now()
    name, key, *rest = random.numpy
    pcgrad = trainer.pcgrad.state_dict() if trainer.pcgrad else {}
    scaler = trainer.accelerator.scaler
    best = _best_weights(trainer)
    tensors = {
        "parameters": {name: _copy(tensor) for name, tensor in named_parameters(trainer).items()},
        "optimizer": optimizer_tensors,
        "random": {
            "torch": random.cpu,
            **{f"cuda.{number}": state for number, state in enumerate(random.cuda)},
            **{f"pcgrad.{name}": state for name, state in pcgrad.items()},
        },
    }
    state = {
        "ended": ended,
        "optimizer": optimizer,
        "scheduler": copy.deepcopy(trainer.lr_scheduler.state_dict()),
        "scaler": scaler.state_dict() if scaler else None,
        "python": random.python,
        "numpy": [name, key.tolist(), *rest],
        "tokens": trainer.tokens.state_dict(),
        "callbacks": [[type(callback).__name__, callback.state()] for callback in _stateful(trainer)],
        "loss_since_log": float(getattr(trainer, "_tr_loss", 0.0)),
        "last_logged": getattr(trainer, "_globalstep_last_logged", 0),
        "versions": library_versions(),
    }
    documents = {"trainer_state": dataclasses.asdict(trainer.state), "state": state}
    return TrainingState(documents, tensors | ({"best": best} if best else {}))


def named_parameters(trainer: Any) -> dict[str, nn.Parameter]:
    """What a checkpoint keeps: all that the optimiser moves, and adapters that are frozen for now.

    RunFolderError for an optimised parameter that belongs to neither the model nor the loss weights.
    """
    named = dict(trainer.model.named_parameters())
    named |= {f"{WEIGHTING}{name}": value for name, value in trainer.weighting.named_parameters()}
    moved = {id(p): p for group in trainer.optimizer.param_groups for p in group["params"]}
    kept = {name: p for name, p in named.items() if id(p) in moved or "lora_" in name}
    nameless = moved.keys() - {id(p) for p in kept.values()}
    if nameless:
        shapes = ", ".join(str(tuple(moved[number].shape)) for number in nameless)
        raise RunFolderError(
            f"the optimiser moves {len(nameless)} parameter(s) of shape {shapes} that are neither the "
            "model's nor the loss weights'; make them part of the model, so that they have a name"
        )
    return kept


def restore_parameters(trainer: Any, state: TrainingState) -> None:
    """RunFolderError where the model trains other parameters, or other shapes, than the checkpoint holds."""
    trainer.create_optimizer()
    parameters, stored = named_parameters(trainer), state.tensors["parameters"]
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    stored_shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if shapes != stored_shapes:
        unlike = sorted(name for name, _ in shapes.items() ^ stored_shapes.items())
        raise RunFolderError(
            f"the checkpoint holds other parameters than this model trains; "
            f"{len(set(unlike))} differ, the first is {unlike[0]}: "
            f"{stored_shapes.get(unlike[0], 'absent')} stored, {shapes.get(unlike[0], 'absent')} now. "
            "Build the model with the configuration of the run"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])


def restore_optimizer(trainer: Any, state: TrainingState) -> None:
    """The optimiser's memory by parameter name, through its own `load_state_dict`, then the schedule."""
    document = state.documents["state"]["optimizer"]
    names, optimizer = _names(trainer), _inner(trainer.optimizer)
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    if groups != [group["params"] for group in document["groups"]]:
        raise RunFolderError(
            "the optimiser groups its parameters otherwise than the checkpoint's did; "
            "resume with the versions that the run was started with"
        )
    number = {name: index for index, name in enumerate(name for group in groups for name in group)}
    held: dict[int, dict[str, Any]] = {number[name]: dict(plain) for name, plain in document["state"].items()}
    for key, tensor in state.tensors["optimizer"].items():
        field, _, name = key.partition("/")
        held.setdefault(number[name], {})[field] = tensor.clone()
    packed = [group | {"params": [number[name] for name in group["params"]]} for group in document["groups"]]
    optimizer.load_state_dict({"state": held, "param_groups": packed})
    trainer.lr_scheduler.load_state_dict(state.documents["state"]["scheduler"])


def restore_progress(trainer: Any, state: TrainingState) -> None:
    """Loss scale, token counters, and what each callback remembers (matched by class, then by order)."""
    document = state.documents["state"]
    if document["scaler"]:
        trainer.accelerator.scaler.load_state_dict(document["scaler"])
    trainer.tokens.load_state_dict(document["tokens"])
    stored = [(name, held) for name, held in document["callbacks"]]
    for callback in _stateful(trainer):
        match = next((item for item in stored if item[0] == type(callback).__name__), None)
        if match is not None:
            stored.remove(match)
            callback.load_state(match[1])
        if getattr(callback, "keeps_best", False) and callback.best_step is not None:
            best = state.tensors.get("best", state.tensors["parameters"])
            kept = {name for name, _ in trained(trainer.model, trainer.optimizer)}
            callback.best_weights = {name: best[name].clone() for name in kept}


def restore_random(trainer: Any, state: TrainingState) -> None:
    """Every generator, and the losses that the next log line averages; last of all, before the next step."""
    document, tensors = state.documents["state"], state.tensors["random"]
    version, words, gauss = document["python"]
    name, key, *rest = document["numpy"]
    cuda = [tensors[f"cuda.{n}"] for n in range(torch.cuda.device_count()) if f"cuda.{n}" in tensors]
    RandomState(
        (version, tuple(words), gauss), (name, np.array(key, np.uint32), *rest), tensors["torch"], cuda
    ).restore()
    if trainer.pcgrad:
        trainer.pcgrad.load_state_dict(dict(_below("pcgrad.", tensors)))
    trainer._tr_loss = torch.tensor(document["loss_since_log"], device=trainer.args.device)
    trainer._globalstep_last_logged = document["last_logged"]


def _optimizer_state(trainer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(groups and plain values, tensors), by parameter name."""
    names, optimizer = _names(trainer), _inner(trainer.optimizer)
    state = optimizer.state_dict()
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [g | {"params": [order[number] for number in g["params"]]} for g in state["param_groups"]]
    plain: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}
    for number, fields in state["state"].items():
        for field, value in fields.items():
            if isinstance(value, Tensor):
                tensors[f"{field}/{order[number]}"] = _copy(value)
            else:
                plain.setdefault(order[number], {})[field] = value
    return {"groups": groups, "state": plain}, tensors


def _best_weights(trainer: Any) -> dict[str, Tensor]:
    """The best weights a callback keeps; none where they are those of this very step."""
    for callback in _stateful(trainer):
        if getattr(callback, "best_weights", {}) and callback.best_step != trainer.state.global_step:
            return dict(callback.best_weights)  # replaced at a new best, never written to: no copy
    return {}


def _names(trainer: Any) -> dict[int, str]:
    return {id(parameter): name for name, parameter in named_parameters(trainer).items()}


def _stateful(trainer: Any) -> list[Any]:
    """The callbacks that own a state (`state`, `load_state`); the library's stock ones do not."""
    return [callback for callback in trainer.callback_handler.callbacks if hasattr(callback, "load_state")]


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    while hasattr(optimizer, "optimizer"):  # accelerate wraps it
        optimizer = optimizer.optimizer
    return optimizer


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((key.removeprefix(prefix), held) for key, held in tensors.items() if key.startswith(prefix))
