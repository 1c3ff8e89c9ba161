"""PCGrad beside TorchJD's Gramian path: time, extra memory, and error of the update.

    python -m benchmarks.pcgrad > benchmarks/results/pcgrad.md

Five tasks, 26M float32 parameters in 182 tensors shaped like the LoRA pairs of a 3B Llama. Both
start from the five finished gradients and end with `.grad` set; rounds alternate within one process.
Extra memory is the rise of the resident peak above those five gradients, in a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import Parameter
from torchjd.aggregation import PCGrad
from torchjd.autojac import jac_to_grad

from kaggle_kit.training.pcgrad import PCGradOptimizer, project_coefficients

TASKS, RANK, LAYERS, ROUNDS, SEED = 5, 37, 13, 15, 7
HIDDEN, KEY_VALUE, MLP = 3072, 1024, 8192
LINEARS = [(HIDDEN, HIDDEN)] * 2 + [(HIDDEN, KEY_VALUE)] * 2 + [(HIDDEN, MLP)] * 2 + [(MLP, HIDDEN)]
SHAPES = [s for _ in range(LAYERS) for i, o in LINEARS for s in ((RANK, i), (o, RANK))]
PARAMETERS = sum(rows * columns for rows, columns in SHAPES)

Gradients = list[Tensor]  # one (tasks, rows, columns) tensor per parameter


def gradients(kind: str, shapes: list[tuple[int, int]]) -> Gradients:
    """Noise with a common direction ("mixed": 6 of 10 pairs conflict) or a common opponent (all do)."""
    generator = torch.Generator().manual_seed(SEED)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).view(TASKS, 1, 1)
    made = []
    for shape in shapes:
        noise = torch.randn(TASKS, *shape, generator=generator)
        if kind == "mixed":
            made.append(noise + 0.3 * signs * torch.randn(shape, generator=generator))
        else:
            made.append(noise - 0.9 * noise.mean(dim=0))
    return made


def ours(parameters: list[Parameter], rows: Gradients) -> Callable[[], object]:
    """Sets up the five gradients as backward passes leave them; what is returned gets timed."""
    pcgrad = PCGradOptimizer(
        torch.optim.SGD(parameters), {"shared": parameters}, torch.Generator().manual_seed(SEED)
    )
    leaves = pcgrad.leaves({str(task): ["shared"] for task in range(TASKS)})
    for task in range(TASKS):
        for parameter, gradient in zip(parameters, rows, strict=True):
            leaves[str(task)][parameter].grad.copy_(gradient[task])
    return pcgrad.combine


def torchjd(parameters: list[Parameter], rows: Gradients) -> Callable[[], object]:
    for parameter, gradient in zip(parameters, rows, strict=True):
        parameter.grad, parameter.jac = None, gradient.clone()
    torch.manual_seed(SEED)
    return lambda: jac_to_grad(parameters, PCGrad(), optimize_gramian_computation=True)


METHODS = {"kaggle_kit": ours, "TorchJD, Gramian path": torchjd}


def seconds(method: str, parameters: list[Parameter], rows: Gradients) -> float:
    combine = METHODS[method](parameters, rows)
    start = time.perf_counter()
    combine()
    return time.perf_counter() - start


def reference(rows: Gradients) -> Gradients:
    """The update in float64 throughout, with the permutations that both methods draw."""
    gram = torch.zeros(TASKS, TASKS, dtype=torch.float64)
    for gradient in rows:
        matrix = gradient.double().flatten(start_dim=1)
        gram += matrix @ matrix.T
    weights = project_coefficients(gram, torch.Generator().manual_seed(SEED)).sum(dim=0)
    return [torch.tensordot(weights, gradient.double(), dims=1) for gradient in rows]


def largest_error(parameters: list[Parameter], update: Gradients) -> float:
    """The largest error of any element, in units of the update's root mean square."""
    rms = (sum(u.square().sum() for u in update) / PARAMETERS).sqrt()
    return max(((p.grad - u).abs().max() / rms).item() for p, u in zip(parameters, update, strict=True))


def resident(what: str) -> int:
    """VmRSS or VmHWM (its peak) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def extra_memory(method: str) -> float:
    """Peak above the five gradients, in units of P, seen from inside a process of its own."""
    few = SHAPES[:4]
    seconds(method, [Parameter(torch.zeros(s)) for s in few], gradients("mixed", few))  # start-up costs
    parameters = [Parameter(torch.zeros(shape)) for shape in SHAPES]
    rows = gradients("mixed", SHAPES)
    combine = METHODS[method](parameters, rows)
    rows.clear()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = resident("VmRSS")
    combine()
    return max(0, resident("VmHWM") - before) / (4 * PARAMETERS)


def in_own_process(method: str) -> float:
    call = [sys.executable, "-m", "benchmarks.pcgrad", "--extra-memory-of", method]
    root = Path(__file__).resolve().parents[1]
    return float(subprocess.run(call, cwd=root, capture_output=True, text=True, check=True).stdout)


def machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.split(": ")[1].strip() for line in cpus if line.startswith("model name"))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchjd"))
    return f"{cpu}, {torch.get_num_threads()} threads; {versions}; Python {platform.python_version()}"


def main() -> None:
    extra = {method: in_own_process(method) for method in METHODS}
    load = os.getloadavg()[0]
    parameters = [Parameter(torch.zeros(shape)) for shape in SHAPES]
    errors: dict[str, list[float]] = {method: [] for method in METHODS}
    for kind in ("all", "mixed"):
        rows = gradients(kind, SHAPES)
        update = reference(rows)
        for method in METHODS:
            seconds(method, parameters, rows)
            errors[method].append(largest_error(parameters, update))
        del update
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(ROUNDS):
        for method in METHODS:
            times[method].append(seconds(method, parameters, rows))

    baseline = median(times["TorchJD, Gramian path"])
    print(f"# PCGrad: K = {TASKS}, P = {PARAMETERS / 1e6:.1f}M float32 in {len(SHAPES)} tensors\n")
    print("`python -m benchmarks.pcgrad > benchmarks/results/pcgrad.md`")
    print(f"· {machine()} · load {load:.1f} · {date.today()}\n")
    print(
        "| method | median ms | fastest ms | ratio | extra memory / P | error, mixed | error, all conflict |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method, taken in times.items():
        of_all, of_mixed = errors[method]
        print(
            f"| {method} | {1000 * median(taken):.0f} | {1000 * min(taken):.0f} "
            f"| {median(taken) / baseline:.2f} | {extra[method]:.2f} | {of_mixed:.1e} | {of_all:.1e} |"
        )
    print(
        f"\nMedians over {ROUNDS} alternating rounds. Errors: the largest of any element against float64 with"
        " the same permutations, relative to the update's root mean square, where 6 of the 10 pairs of"
        " tasks conflict (mixed) and where all do."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--extra-memory-of"]:
        print(extra_memory(sys.argv[2]))
    else:
        main()
