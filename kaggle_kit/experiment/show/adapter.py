"""What one task's step and its adapter come to: losses by component, and what LoRA adds to each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH
from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.evaluation.adapter_figures import adapter_shares as shares_of
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table


def component_losses(exp: Experiment, batches: Sequence[MicroBatch], losses: Mapping[str, Tensor]) -> None:
    """Show one step's loss of each component of a task, with its weight and what it is a mean over."""
    parts = {part.name: part for part in exp.specs[batches[0].task].components}
    rows = [
        {
            "component": name,
            "head": parts[name].kind.value.replace("_", " "),
            "mean over": sum(batch.counts.get(name, 0) for batch in batches),
            "loss": loss.item(),
            "weight": parts[name].loss_weight,
            "weighted": parts[name].loss_weight * loss.item(),
        }
        for name, loss in losses.items()
    ]
    tokens = sum(batch.tokens for batch in batches)
    total = sum(row["weighted"] for row in rows)
    title = f"One step: {tokens:,} tokens in {len(batches)} micro-batches, loss {total:.4f}"
    table(pd.DataFrame(rows), title, {"mean over": "{:,}", **dict.fromkeys(("loss", "weighted"), "{:.4f}")})


def adapter_shares(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show how much the adapters add to each frozen layer, by layer and projection, on a few samples."""
    found = shares_of(exp.model, exp.batches(split, samples))
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = drawn.subplots()
        for number, (projection, layers) in enumerate(found.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(list(layers), list(layers.values()), "o-", ms=3, color=colour, label=projection)
        axes.set(title=f"What the adapter adds, on {samples} {split} samples of each task")
        axes.set(xlabel="layer", ylabel="‖B·A·x‖ / ‖W·x‖")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        drawn.legend(loc="outside right upper")
    figure(drawn)
