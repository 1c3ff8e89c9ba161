"""Checks of machine, corpora and plan before anything long begins, shown in one table.

    for finding in check_startup(config, run): ...

A kernel really runs on the device that the profile asks for; what would stop the run hours later (no
disk, packages that do not fit together) stops it here.
"""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil
import torch

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import StartupError
from kaggle_kit.core.kaggle_image import unmet
from kaggle_kit.core.kaggle_outputs import last_step
from kaggle_kit.core.runtime import GIB, TRAINING, kaggle_run_type, library_versions
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.models.decisions import allocator_in_force, choose_device, choose_dtype
from kaggle_kit.models.whole import BYTES_A_PARAMETER, CHECKPOINT_BYTES
from kaggle_kit.training.autobatch import SHARE
from kaggle_kit.training.checkpoint import KEPT
from kaggle_kit.training.session import SessionClock

MIN_DISK_GIB = 0.5  # two checkpoints and the best one of a small model, its predictions and logs


@dataclass(frozen=True)
class Finding:
    """One row: a property, its value, and why that stops the run (None where it does not)."""

    what: str
    found: str
    problem: str | None = None


def check_startup(config: RunConfig, run: RunFolder, clock: SessionClock | None = None) -> list[Finding]:
    """Return the rows. Raises StartupError where the run cannot be carried, ConfigError without a device."""
    device = choose_device(config.profile.device).value
    findings = [
        *_device(config, device),
        *_memory(config, device),
        _disk(run, config),
        _session(clock or SessionClock()),
        _packages(),
        Finding("batch", _batch(config, run, device)),
        Finding("run", _plan_of_action(run)),
    ]
    if problems := [one.problem for one in findings if one.problem]:
        shown = [f"{one.what:10}{one.found}" for one in findings]
        raise StartupError("\n".join(["this machine cannot carry the run:", *problems, *shown]))
    return findings


def _device(config: RunConfig, device: str) -> list[Finding]:
    """Return what the device is and whether it computes; on a GPU also how its memory is cut."""
    asked, precision = config.profile.device, config.profile.precision
    if device == "cpu":
        dtype = getattr(torch, choose_dtype(device, precision, None).value)
        threads = Finding("device", f"cpu, {torch.get_num_threads()} threads; asked for: {asked}")
        return [threads, _kernel(device, dtype)]
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    free, total = (size / GIB for size in torch.cuda.mem_get_info())
    found = f"{name}, compute capability {capability[0]}.{capability[1]}, {free:.1f} of {total:.1f} GiB free"
    # Kaggle replaces a machine shape that it does not know silently; elsewhere any GPU will do.
    other = config.profile.name == "t4" and kaggle_run_type() is not None and "T4" not in name
    note = "; not the T4 that the kernel asked for" if other else ""
    # Fixed segments stop no run, but may waste a T4's memory on rows of changing length.
    allocator = allocator_in_force()
    return [
        Finding("device", f"{found}; asked for: {asked}{note}"),
        Finding("allocator", f"{allocator.value}, {allocator.reason}"),
        _kernel(device, getattr(torch, choose_dtype(device, precision, capability).value)),
    ]


def _kernel(device: str, dtype: torch.dtype, size: int = 64) -> Finding:
    """Compare a product and its gradient on the device with the same in float64 on the CPU."""
    named = f"{str(dtype).removeprefix('torch.')} product and gradient"
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator) for _ in range(2))
    try:
        there = left.to(device, dtype).requires_grad_()
        (there @ right.to(device, dtype)).sum().backward()
        gradient = there.grad.double().cpu()
    except RuntimeError as error:  # such as "no kernel image is available for execution on the device"
        reason = str(error).splitlines()[0]
        return Finding("kernel", f"{named} failed", f"no kernel runs on {device}: {reason}; choose another")
    exact = right.to(dtype).double().sum(1).expand(size, size)
    off = float((gradient - exact).abs().max() / exact.abs().max())
    wrong = f"{named} on {device} is off by {off:.1%}; do not trust this device" if not off < 0.01 else None
    return Finding("kernel", f"{named} right to {off:.0e}", wrong)


def _memory(config: RunConfig, device: str) -> list[Finding]:
    """Return whether weights, gradients and AdamW's states fit where the whole backbone trains."""
    if not config.training.full_finetuning:
        return []
    needed, name = config.model.parameters * BYTES_A_PARAMETER / GIB, config.model.name
    on_gpu = device == "cuda"
    held = SHARE * torch.cuda.mem_get_info()[1] if on_gpu else psutil.virtual_memory().available
    found = f"weights, gradients and AdamW's states: {needed:.1f} of {held / GIB:.1f} GiB"
    takes = f"training.full_finetuning=true takes {needed:.1f} GiB for {name} before the first token"
    then = "take a smaller model, or leave it out and train adapters"
    short = f"{takes}, and {held / GIB:.1f} can be had; {then}"
    return [Finding("memory", found, short if needed * GIB > held else None)]


def _disk(run: RunFolder, config: RunConfig) -> Finding:
    free, needed = shutil.disk_usage(run.path).free / GIB, MIN_DISK_GIB
    if config.training.full_finetuning:  # two checkpoints, the best one, the one that is being written
        written = sum(file.stat().st_size for file in run.checkpoints.rglob("*.safetensors"))
        needed += max(0, (KEPT + 2) * CHECKPOINT_BYTES * config.model.parameters - written) / GIB
    short = f"{free:.1f} GiB are free in {run.path}; {needed:.1f} are needed, delete old runs"
    return Finding("disk", f"{free:.1f} GiB free", short if free < needed else None)


def _session(clock: SessionClock) -> Finding:
    left = clock.limit_seconds - clock.elapsed
    limit = f"{clock.limit_seconds / 3600:g} h"
    if left <= 0:
        return Finding("session", f"its limit of {limit} has passed: one step, then the run is paused")
    ends = f"{datetime.now(UTC) + timedelta(seconds=left):%d %b %H:%M} UTC"
    return Finding("session", f"{left / 3600:.2f} of {limit} left; the run pauses before {ends}")


def _packages() -> Finding:
    shown = ", ".join(f"{name} {version}" for name, version in library_versions(TRAINING).items())
    missing = f"; requirements.txt also asks for {', '.join(absent)}" if (absent := unmet()) else ""
    return Finding("packages", shown + missing)


def _batch(config: RunConfig, run: RunFolder, device: str) -> str:
    """Return which token budget the micro-batches will have (`experiment/token_budget.py`)."""
    if run.batch_json.is_file():
        kept = json.loads(run.batch_json.read_text(encoding="utf-8"))
        return f"micro-batches of {kept['token_budget']:,} tokens, settled in an earlier session"
    if config.training.autobatch and device == "cuda":
        return f"the fastest token budget within {SHARE:.0%} of the memory will be found first"
    return f"micro-batches of {config.training.token_budget:,} tokens, as configured"


def _plan_of_action(run: RunFolder) -> str:
    note = run.paused()
    step = last_step(run.path)
    if (run.path / "trials").is_dir():  # a search, which has no checkpoint of its own
        return f"goes on with its trials, {step} steps of which are kept"
    if step:
        since = f", paused by {note['reason']}" if note else ""
        return f"goes on from the checkpoint of step {step}{since}"
    if note or run.events():
        return "begins anew: an earlier session left no checkpoint"
    return "fresh: smoke gate of 50 steps, then training"
