"""Views of a step and of one model's adapters: losses, gradients, conflicts, weights (S1 to S3a)."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import pandas as pd
from torch import Tensor

from kaggle_kit.analysis.conflict_table import conflict_table
from kaggle_kit.analysis.figures import COLOURS, loss_points, name_rows, no_data
from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.evaluation.adapter_figures import adapter_shares as shares_of
from kaggle_kit.evaluation.adapter_figures import mean_shared_weights, part_of
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, lines, panel, table
from kaggle_kit.training.conflicts import cosines, followed
from kaggle_kit.training.losses import UncertaintyWeightedLoss

LAST = 10  # a last loss is the mean over every LAST-th part of a task's steps
EXCESS = "half batches"  # the pairs that are compared with what noise alone does


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
    title = f"One step: {tokens:,} tokens in {len(batches)} micro-batch(es), loss {total:.4f}"
    table(rows, title, {"weight": "{:g}"})


def adapter_shares(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show how much the adapters add to each frozen layer, by layer and projection, on a few samples."""
    shares = shares_of(exp.model, exp.batches(split, samples))
    title = f"What the adapter adds, on {samples} {split} samples of each task"
    lines(shares, title, xlabel="layer", ylabel="‖B·A·x‖ / ‖W·x‖")


def weights_moved(exp: Experiment, first: Mapping[str, Tensor]) -> None:
    """Show how far each part of the model lies from where it began; `first` holds those weights by name."""
    rows = [
        {
            "part": part_of(name),
            "weights": weight.numel(),
            "moved by": (weight.detach().cpu() - first[name]).square().sum().item(),
            "length before": first[name].square().sum().item(),
        }
        for name, weight in exp.model.named_parameters()
        if name in first
    ]
    parts = pd.DataFrame(rows).groupby("part", as_index=False).sum()
    for column in ("moved by", "length before"):
        parts[column] **= 0.5
    parts["share"] = parts["moved by"] / parts["length before"]
    title = "Distance from the first weights, by part (norms over all of its weights)"
    table(parts, title, {"share": "{:.2%}", "moved by": "{:.3f}"})


def fusion_weights(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show the mean weight of the shared adapter by layer and task, on a few samples; it starts at 0.5."""
    weights = mean_shared_weights(exp.model, exp.batches(split, samples))
    title = f"Weight of the shared adapter, mean over tokens of {samples} {split} samples"
    empty = "this strategy has no fusion"
    lines(weights, title, empty, level=0.5, xlabel="layer", ylabel="weight", top=1)


def conflicts(gram: Tensor, weights: Tensor, tasks: Sequence[str]) -> None:
    """Show the cosines of one step's task gradients, and each gradient's weight in the update.

    `gram` (K, K) holds inner products; `weights` (K,) are 1 where nothing was projected.
    """
    title = "One step: cosines between the tasks' gradients of what they share"
    _gradients(gram, tasks, {"weight in the update": weights.tolist()}, title)


def plain_sum(gram: Tensor, tasks: Sequence[str]) -> None:
    """Show the cosines of the tasks' gradients, and which of them their plain sum follows.

    `gram` (K, K) holds the inner products of the gradients.
    """
    along, shares = followed(gram)
    own = {"cosine with the sum": along.tolist(), "share of the sum": shares.tolist()}
    title = "One step: the gradients of the shared adapter and their plain sum"
    _gradients(gram, tasks, own, title)


def conflict_excess(exp: Experiment) -> None:
    """Show how often gradients of two tasks oppose each other, beyond what half batches of one task do."""
    frame = conflict_table(exp.run)
    between = frame[(frame["gradients of"] == EXCESS) & frame["excess"].notna()]
    if between.empty:
        figure(no_data("too few steps were halved to compare conflicts with noise"))
    else:
        title = f"Excess of conflicts, n ≥ {int(between['measured'].min())} halved steps a pair"
        with panel(title, 1.0 + 0.4 * len(between), xlabel="share of conflicts beyond noise") as axes:
            axes.barh(between["pair"], between["excess"], 0.5, color=COLOURS[0])
            axes.axvline(0, color="#3a3f47", lw=0.8)
    table(frame, "Conflicts over the whole training")


def sampling(shares: Mapping[str, Mapping[str, float]]) -> None:
    """Show with which probability each way of sampling (name -> task -> share) draws the tasks."""
    frame = pd.DataFrame(shares)
    thick = 0.8 / len(frame.columns)
    with panel("How often each task is drawn", 1.2 + 0.5 * len(frame), xlabel="share of the draws") as axes:
        for number, how in enumerate(frame.columns):
            places = np.arange(len(frame)) + (number + 0.5) * thick - 0.4
            axes.barh(places, frame[how], thick, color=COLOURS[number % len(COLOURS)], label=how)
        name_rows(axes, list(frame.index))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.figure.legend(loc="outside lower center", ncols=3)
    rows = frame.rename_axis("task").reset_index()
    table(rows, "Share of the draws, by way of sampling", dict.fromkeys(frame.columns, "{:.1%}"))


def loss_weights(exp: Experiment) -> pd.DataFrame:
    """Show and return each task's loss weight, and the one, 1/(2L), where its last loss L would settle."""
    weighting = exp.session.trainers[-1].weighting
    learnt = isinstance(weighting, UncertaintyWeightedLoss)
    tasks, events = list(exp.config.tasks), exp.run.events()
    weights = weighting.weights() if learnt else dict.fromkeys(tasks, 1 / len(tasks))
    rows = []
    for task in tasks:
        points = [loss for _, loss in loss_points(events, task)]
        last = fmean(points[-max(1, len(points) // LAST) :]) if points else float("nan")
        settled = 1 / (2 * last) if learnt and last else float("nan")
        rows.append((task, 0.5 if learnt else weights[task], weights[task], last, settled))
    columns = ("task", "weight at the start", "weight now", "last loss", "where it would settle")
    found = pd.DataFrame(rows, columns=columns)
    title = "Weights of the losses, learnt as 1/(2σ²)" if learnt else "Weights of the losses: not learnt"
    table(found, title)
    return found


def _gradients(gram: Tensor, tasks: Sequence[str], own: Mapping[str, list[float]], title: str) -> None:
    """Show each task's gradient by its norm, its cosines with all tasks', and the columns of `own`."""
    angles = pd.DataFrame(cosines(gram).tolist(), columns=tasks)
    rows = pd.DataFrame({"task": tasks, "norm": gram.diagonal().sqrt().tolist()}).join(angles).assign(**own)
    table(rows, title, dict.fromkeys(tasks, "{:+.3f}"))
