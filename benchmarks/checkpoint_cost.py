"""What a checkpoint costs at the size of rank 32 on a 7B model: to capture, write, verify and restore.

    python -m benchmarks.checkpoint_cost > benchmarks/results/checkpoint_cost.md

The parameters have the shapes of LoRA pairs on all linear layers of Mistral-7B (84M in float32), with
two Adam moments each, and the best weights of an earlier step beside them. Training stands still while
the state is copied to memory; a thread writes it, forces it to the disk and hashes it. The last rows
say what one save in 200 steps costs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import TrainerState

from kaggle_kit.training.checkpoint import CheckpointManager, tensor_bytes
from kaggle_kit.training.state import capture, restore_optimizer, restore_parameters
from kaggle_kit.training.tokens import TokenTracker

HIDDEN, KEY_VALUE, MLP = 4096, 1024, 14336
LINEARS = [(HIDDEN, HIDDEN)] * 2 + [(HIDDEN, KEY_VALUE)] * 2 + [(HIDDEN, MLP)] * 2 + [(MLP, HIDDEN)]
EVERY, SHARE = 200, 0.01


class Best:
    """Stands for the quick evaluation, which keeps the best weights."""

    best_step, keeps_best = 1, True

    def __init__(self, model: nn.Module) -> None:
        self.best_weights = {name: p.detach().cpu().clone() for name, p in model.named_parameters()}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def adapters(rank: int, layers: int, device: str) -> nn.Module:
    """A and B of every linear layer."""
    model = nn.Module()
    for layer in range(layers):
        for place, (inputs, outputs) in enumerate(LINEARS):
            name = f"layer_{layer}_linear_{place}_lora"
            model.register_parameter(f"{name}_A", nn.Parameter(torch.randn(rank, inputs, device=device)))
            model.register_parameter(f"{name}_B", nn.Parameter(torch.zeros(outputs, rank, device=device)))
    return model


def trainer(model: nn.Module, device: str) -> SimpleNamespace:
    """As much of a trainer as a checkpoint reads, after one optimiser step."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return SimpleNamespace(
        model=model,
        weighting=nn.Module(),
        optimizer=optimizer,
        create_optimizer=lambda: optimizer,
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
        accelerator=SimpleNamespace(scaler=None),
        pcgrad=None,
        tokens=TokenTracker(["task"]),
        state=TrainerState(global_step=200),
        callback_handler=SimpleNamespace(callbacks=[Best(model)]),
        args=SimpleNamespace(device=device),
    )


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun, result


def measure(folder: Path, rank: int, layers: int, device: str, rounds: int) -> dict[str, list[float]]:
    made = trainer(adapters(rank, layers, device), device)
    spent: dict[str, list[float]] = {
        name: [] for name in ("capture", "write", "verify and read", "restore", "save")
    }
    with CheckpointManager(folder, identity={}) as checkpoints:
        for _ in range(rounds):
            captured, state = seconds(lambda: capture(made))
            written, _ = seconds(lambda kept=state: checkpoints.save(kept))
            read, newest = seconds(checkpoints.newest)
            restored, _ = seconds(lambda kept=newest.state: restore(made, kept))
            took = (captured, written, read, restored, captured + written)
            for name, value in zip(spent, took, strict=True):
                spent[name].append(value)
    spent["GiB"] = [tensor_bytes(state.tensors) / 1024**3]
    spent["sha256 GiB/s"] = [hash_speed()]
    return spent


def restore(made: SimpleNamespace, state: Any) -> None:
    restore_parameters(made, state)
    restore_optimizer(made, state)


def hash_speed() -> float:
    block = bytes(256 * 1024**2)
    took, _ = seconds(lambda: hashlib.sha256(block).hexdigest())
    return 0.25 / took


def table(spent: dict[str, list[float]], rank: int, layers: int, device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    stop, save = median(spent["capture"]), median(spent["save"])
    rows = [
        ("size of a checkpoint, GiB", f"{spent['GiB'][0]:.2f}"),
        ("sha256 on one core, GiB/s", f"{spent['sha256 GiB/s'][0]:.2f}"),
        ("**copy: training stands still, s**", f"**{stop:.2f}**"),
        ("write: beside the training, s", f"{median(spent['write']):.2f}"),
        ("verify and read, at a resume, s", f"{median(spent['verify and read']):.2f}"),
        ("restore, at a resume, s", f"{median(spent['restore']):.2f}"),
        ("1 % of training at this many seconds per step", f"{stop / SHARE / EVERY:.2f}"),
        *((f"share at {step} s per step", f"{stop / (EVERY * step):.2%}") for step in (2, 5, 10)),
        ("share at 5 s per step if nothing overlapped", f"{save / (EVERY * 5):.2%}"),
    ]
    head = (
        f"Checkpoint of rank {rank} on {layers} layers of a 7B shape, {date.today()}, {name}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}, median of {len(spent['save'])} saves"
    )
    return "\n".join([head, "", "| | |", "|---|---:|", *(f"| {left} | {right} |" for left, right in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; default: the temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # copying is one core's work; on a busy machine a second one only waits
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        spent = measure(Path(folder), arguments.rank, arguments.layers, device, arguments.rounds)
    print(table(spent, arguments.rank, arguments.layers, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
