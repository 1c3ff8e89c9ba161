"""Everything that a training run is at the end of a step, taken from a trainer and put back bit for bit.

    state = capture(trainer)
    restore_parameters(trainer, state); restore_optimizer(trainer, state); restore_random(trainer, state)

Parameters and the optimiser's memory go by the parameters' names, so neither order nor the adapter
that happens to be active matters. The base model's frozen weights are no part of it.
"""

import copy
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.runtime import library_versions
from kaggle_kit.training.callbacks.development import trained_parameters

Documents = dict[str, Any]
Tensors = dict[str, dict[str, Tensor]]


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
    """Copy the state that training goes on from; for the end of a step, not its middle."""
    names = _names(trainer)
    optimizer = trainer.optimizer.state_dict()
    order = [names[id(p)] for group in trainer.optimizer.param_groups for p in group["params"]]
    generators, random_tensors = random_states()
    if trainer.pcgrad:
        random_tensors["pcgrad.generator"] = trainer.pcgrad.generator.get_state()
    scaler = trainer.accelerator.scaler
    tensors = {
        "parameters": {name: _copy(tensor) for name, tensor in named_parameters(trainer).items()},
        "optimizer": {
            f"{field}/{order[number]}": _copy(tensor)
            for number, fields in optimizer["state"].items()
            for field, tensor in fields.items()
        },
        "random": random_tensors,
    }
    for callback in _stateful(trainer):
        best_step = getattr(callback, "best_step", None)
        if best_step != trainer.state.global_step and getattr(callback, "best_weights", None):
            tensors["best"] = dict(callback.best_weights)  # replaced at a new best, never written to: no copy
    state = {
        "ended": ended,
        "optimizer": [g | {"params": [order[n] for n in g["params"]]} for g in optimizer["param_groups"]],
        "scheduler": copy.deepcopy(trainer.lr_scheduler.state_dict()),
        "scaler": scaler.state_dict() if scaler else None,
        **generators,
        "tokens": trainer.tokens.state_dict(),
        "callbacks": [[type(callback).__name__, callback.state()] for callback in _stateful(trainer)],
        "loss_since_log": float(getattr(trainer, "_tr_loss", 0.0)),
        "last_logged": getattr(trainer, "_globalstep_last_logged", 0),
        "versions": library_versions(),
    }
    return TrainingState({"trainer_state": asdict(trainer.state), "state": state}, tensors)


def named_parameters(trainer: Any) -> dict[str, nn.Parameter]:
    """Return what a checkpoint keeps: all that the optimiser moves, and adapters that are frozen for now.

    RunFolderError for an optimised parameter that belongs to neither the model nor the loss weights.
    """
    named = dict(trainer.model.named_parameters())
    named |= {f"weighting.{name}": value for name, value in trainer.weighting.named_parameters()}
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
    """Copy the parameters back.

    RunFolderError where the model trains other parameters, or other shapes, than the checkpoint holds.
    """
    trainer.create_optimizer()
    parameters, stored = named_parameters(trainer), state.tensors["parameters"]
    now = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    then = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if unlike := sorted({name for name, _ in now.items() ^ then.items()}):
        first = unlike[0]
        raise RunFolderError(
            f"the checkpoint holds other parameters than this model trains; {len(unlike)} differ, "
            f"the first is {first}: {then.get(first, 'absent')} stored, {now.get(first, 'absent')} now. "
            "Build the model with the configuration of the run"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])


def restore_optimizer(trainer: Any, state: TrainingState) -> None:
    """Restore the optimiser's memory by parameter name, then schedule, loss scale, tokens and callbacks.

    A callback's state is matched by class, then by order. RunFolderError for other groups of parameters.
    """
    document = state.documents["state"]
    names, optimizer = _names(trainer), trainer.optimizer
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    if groups != [group["params"] for group in document["optimizer"]]:
        raise RunFolderError(
            "the optimiser groups its parameters otherwise than the checkpoint's did; "
            "resume with the versions that the run was started with"
        )
    number = {name: index for index, name in enumerate(name for group in groups for name in group)}
    memory: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state.tensors["optimizer"].items():
        field, _, name = key.partition("/")
        memory[number[name]][field] = tensor.clone()
    entries = document["optimizer"]
    packed = [group | {"params": [number[name] for name in group["params"]]} for group in entries]
    optimizer.load_state_dict({"state": dict(memory), "param_groups": packed})
    trainer.lr_scheduler.load_state_dict(document["scheduler"])
    if document["scaler"]:
        trainer.accelerator.scaler.load_state_dict(document["scaler"])
    trainer.tokens.load_state_dict(document["tokens"])
    remembered = list(document["callbacks"])
    for callback in _stateful(trainer):
        if found := next((item for item in remembered if item[0] == type(callback).__name__), None):
            remembered.remove(found)
            callback.load_state(found[1])
        if getattr(callback, "keeps_best", False) and callback.best_step is not None:
            best = state.tensors.get("best", state.tensors["parameters"])
            kept = [name for name, _ in trained_parameters(trainer.model, trainer.optimizer)]
            callback.best_weights = {name: best[name].clone() for name in kept}


def restore_random(trainer: Any, state: TrainingState) -> None:
    """Restore every generator, and the losses that the next log line averages; last, before the next step."""
    document, tensors = state.documents["state"], state.tensors["random"]
    restore_random_states(document, tensors)
    if trainer.pcgrad:
        trainer.pcgrad.generator.set_state(tensors["pcgrad.generator"])
    trainer._tr_loss = torch.tensor(document["loss_since_log"], device=trainer.args.device)
    trainer._globalstep_last_logged = document["last_logged"]


def random_states() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the global generators of Python and numpy as plain values, those of torch as tensors.

    The library seeds them; the study draws from none but torch's (dropout).
    """
    name, key, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    tensors = {"torch": torch.get_rng_state()} | {f"cuda.{n}": one for n, one in enumerate(cuda)}
    return {"python": random.getstate(), "numpy": [name, np.asarray(key).tolist(), *rest]}, tensors


def restore_random_states(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `random_states` returned, also after it went through JSON."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, *rest = plain["numpy"]
    np.random.set_state((name, np.array(key, np.uint32), *rest))
    torch.set_rng_state(tensors["torch"])
    for number in range(torch.cuda.device_count()):
        if f"cuda.{number}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{number}"], number)


def _names(trainer: Any) -> dict[int, str]:
    return {id(parameter): name for name, parameter in named_parameters(trainer).items()}


def _stateful(trainer: Any) -> list[Any]:
    """Return the callbacks that own a state (`state`, `load_state`); the library's stock ones do not."""
    return [callback for callback in trainer.callback_handler.callbacks if hasattr(callback, "load_state")]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
