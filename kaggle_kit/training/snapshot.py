"""Everything a few steps of training change, kept aside and put back bit for bit.

random_state, before = RandomState.now(), TrainerSnapshot.of(trainer)
trainer.train()
before.restore(trainer); random_state.restore()
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RandomState:
    """The global generators of Python, numpy and torch. The library seeds them; the study draws from none
    but torch's (dropout)."""

    python: Any
    numpy: Any
    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> RandomState:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclass(frozen=True)
class TrainerSnapshot:
    """A trainer's model, optimiser, schedule, gradient surgery, scaler and counters.

    Only what the optimiser moves is copied, and the buffers: the frozen base may be larger than the
    memory left.
    """

    values: list[tuple[Tensor, Tensor]]  # (parameter or buffer, its copy)
    flags: list[tuple[nn.Parameter, bool]]  # requires_grad, which PEFT flips with the active adapter
    modes: list[tuple[nn.Module, bool]]
    forward: Any  # the library wraps it for mixed precision
    parts: dict[str, Any]  # optimizer, lr_scheduler, pcgrad and gradient scaler: None where not yet made
    states: dict[str, Any]  # of those that are
    tokens: dict[str, Any]
    record: dict[str, Any]

    @classmethod
    def of(cls, trainer: Any) -> TrainerSnapshot:
        model = trainer.model
        parts = {
            "optimizer": trainer.optimizer,
            "lr_scheduler": trainer.lr_scheduler,
            "pcgrad": trainer.pcgrad,
            "scaler": trainer.accelerator.scaler,
        }
        states = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items() if part is not None}
        groups = trainer.create_optimizer().param_groups  # the truth of what will change
        trainer.optimizer, trainer.pcgrad = parts["optimizer"], parts["pcgrad"]
        tensors = [parameter for group in groups for parameter in group["params"]] + list(model.buffers())
        return cls(
            values=[(tensor, tensor.detach().clone()) for tensor in tensors],
            flags=[(parameter, parameter.requires_grad) for parameter in model.parameters()],
            modes=[(module, module.training) for module in model.modules()],
            forward=vars(model).get("forward"),
            parts=parts,
            states=states,
            tokens=trainer.tokens.state_dict(),
            record=dict(trainer.record),
        )

    def restore(self, trainer: Any) -> None:
        with torch.no_grad():
            for tensor, value in self.values:
                tensor.copy_(value)
                tensor.grad = None
        for parameter, flag in self.flags:
            parameter.requires_grad_(flag)
        for module, mode in self.modes:
            module.training = mode
        vars(trainer.model).pop("forward", None)
        if self.forward is not None:
            trainer.model.forward = self.forward
        for name in ("optimizer", "lr_scheduler", "pcgrad"):
            setattr(trainer, name, self.parts[name])
        for name, state in self.states.items():
            self.parts[name].load_state_dict(state)
        trainer.tokens.load_state_dict(self.tokens)
        trainer.record = dict(self.record)
