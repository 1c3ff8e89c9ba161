"""What S5 does: the candidate that was chosen, NF4 by hand, errors by layer, the memory of the base."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data
from kaggle_kit.core.config import config_hash
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table
from kaggle_kit.models.nf4 import base_bytes, quantisation_errors, quantised_layers

MIB = 2**20
BINS = 200


def candidate(exp: Experiment, because: str) -> None:
    """Show which strategy trains on the quantised base, and why."""
    strategy = exp.config.strategy
    rows = [
        ("strategy", f"{strategy.kind}, shared rank {strategy.rank or exp.config.model.lora.rank}"),
        ("reason", because),
        ("candidates", ", ".join(strategy.candidates)),
        ("configuration", config_hash(exp.config)),
    ]
    table(pd.DataFrame(rows, columns=["what", "settled"]), "What is trained on the NF4 base")


def nf4_levels(scaled: Tensor, levels: Tensor, name: str) -> None:
    """Show one matrix's weights, over the largest of their block, and the 16 levels of NF4."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = drawn.subplots()
        axes.hist(scaled.flatten().numpy(), bins=BINS, color=COLOURS[0], density=True)
        for level in levels.tolist():
            axes.axvline(level, color=COLOURS[1], lw=0.8)
        axes.set(title=f"{name}, n = {scaled.numel():,} weights, and the 16 levels of NF4")
        axes.set(xlabel="weight over the largest absolute weight of its block", ylabel="density")
    figure(drawn)


def nf4_errors(exp: Experiment) -> dict[str, float]:
    """Show by how much quantisation changed each matrix of the base. Returns path -> relative error."""
    found = quantisation_errors(exp.backbone)
    layers = len(quantised_layers(exp.backbone.backbone))
    figure(_errors(found, f"What NF4 changes in each matrix, {len(found)} of {layers} compared"))
    return found


def base_memory(exp: Experiment) -> None:
    """Show the memory of the frozen base as it is kept and without quantisation, from its parameters."""
    found = base_bytes(exp.backbone)
    found = found | {"together": tuple(map(sum, zip(*found.values(), strict=True)))}
    wide = exp.backbone.decisions["dtype"].value
    rows = [
        {"part": part, "NF4 base, MiB": kept / MIB, f"{wide} base, MiB": whole / MIB, "ratio": kept / whole}
        for part, (kept, whole) in found.items()
    ]
    formats = {"NF4 base, MiB": "{:,.2f}", f"{wide} base, MiB": "{:,.2f}", "ratio": "{:.1%}"}
    table(pd.DataFrame(rows), "Memory of the base, computed from its parameters", formats)


def _errors(found: Mapping[str, float], title: str) -> Figure:
    """One line a kind of matrix over the layers, such as q_proj."""
    if not found:
        return no_data("no matrix of the base is stored in safetensors under its own name")
    kinds: dict[str, list[float]] = {}
    for path, error in sorted(found.items(), key=lambda one: _order(one[0])):
        kinds.setdefault(path.rpartition(".")[2], []).append(error)
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = drawn.subplots()
        for number, (kind, errors) in enumerate(kinds.items()):
            axes.plot(errors, "o-", ms=3, color=COLOURS[number % len(COLOURS)], label=kind)
        axes.set(title=title, xlabel="layer", ylabel="relative Frobenius error")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="lower right", ncols=4)
        return drawn


def _order(path: str) -> tuple[int, ...]:
    return tuple(int(part) for part in path.split(".") if part.isdigit())
