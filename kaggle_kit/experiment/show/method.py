"""What a strategy did: conflicts between gradients, the weights of the fusion."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kaggle_kit.analysis.conflict_table import conflict_table
from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data
from kaggle_kit.evaluation.adapter_figures import mean_shared_weights
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table

EXCESS = "half batches"  # the pairs that are compared with what noise alone does


def conflicts(gram: Tensor, weights: Tensor, tasks: Sequence[str]) -> None:
    """Show the cosines of one step's task gradients, and each gradient's weight in the update.

    `gram` (K, K) holds inner products; `weights` (K,) are 1 where nothing was projected.
    """
    norms = gram.diagonal().sqrt()
    cosines = gram / norms.outer(norms)
    rows = [
        {"task": name, "norm": float(norms[i]), **dict(zip(tasks, cosines[i].tolist(), strict=True))}
        | {"weight in the update": float(weights[i])}
        for i, name in enumerate(tasks)
    ]
    formats = {name: "{:+.3f}" for name in tasks} | {"norm": "{:.3f}", "weight in the update": "{:.3f}"}
    table(pd.DataFrame(rows), "One step: cosines between the tasks' gradients of what they share", formats)


def conflict_excess(exp: Experiment) -> None:
    """Show how often gradients of two tasks oppose each other, beyond what half batches of one task do."""
    found = conflict_table(exp.run)
    halves = found[found["gradients of"] == EXCESS]
    figure(_excess_bars(halves))
    table(
        found,
        "Conflicts over the whole training",
        {"conflicts": "{:.1%}", "mean cosine": "{:+.3f}", "excess": "{:+.1%}"},
    )


def fusion_weights(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show the mean weight of the shared adapter by layer and task, on a few samples; it starts at 0.5."""
    found = mean_shared_weights(exp.model, exp.batches(split, samples))
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = drawn.subplots()
        for number, (task, layers) in enumerate(found.items()):
            axes.plot(list(layers), list(layers.values()), "o-", ms=3, color=COLOURS[number], label=task)
        axes.axhline(0.5, color="#8a8f98", lw=0.8, ls=":")
        axes.set(title=f"Weight of the shared adapter, mean over tokens of {samples} {split} samples")
        axes.set(xlabel="layer", ylabel="weight", ylim=(0, 1))
        axes.legend(loc="upper right")
    figure(drawn if found else no_data("this strategy has no fusion"))


def _excess_bars(halves: pd.DataFrame) -> Figure:
    """One bar a pair: the share of conflicts between half batches of two tasks, minus that within either."""
    between = halves[halves["excess"].notna()]
    if between.empty:
        return no_data("too few steps were halved to compare conflicts with noise")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 1.0 + 0.4 * len(between)), layout="constrained")
        axes = drawn.subplots()
        axes.barh(between["pair"], between["excess"], 0.5, color=COLOURS[0])
        axes.axvline(0, color="#3a3f47", lw=0.8)
        measured = int(between["measured"].min())
        axes.set(
            xlabel="share of conflicts beyond noise",
            title=f"Excess of conflicts, n ≥ {measured} halved steps a pair",
        )
        return drawn
