"""How tasks are mixed in one model: what their plain sum follows, how they are drawn and weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, loss_points, name_rows
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table
from kaggle_kit.training.conflicts import cosines, followed
from kaggle_kit.training.losses import UncertaintyWeightedLoss

LAST = 10  # a last loss is the mean over every LAST-th part of a task's steps


def plain_sum(gram: Tensor, tasks: Sequence[str]) -> None:
    """Show the cosines of the tasks' gradients, and which of them their plain sum follows.

    `gram` (K, K) holds the inner products of the gradients.
    """
    angles, (along, shares) = cosines(gram), followed(gram)
    rows = [
        {"task": name, "norm": float(gram[i, i].sqrt()), **dict(zip(tasks, angles[i].tolist(), strict=True))}
        | {"cosine with the sum": float(along[i]), "share of the sum": float(shares[i])}
        for i, name in enumerate(tasks)
    ]
    formats = {name: "{:+.3f}" for name in (*tasks, "cosine with the sum")}
    formats |= {"norm": "{:.3f}", "share of the sum": "{:+.1%}"}
    table(pd.DataFrame(rows), "One step: the gradients of the shared adapter and their plain sum", formats)


def sampling(shares: Mapping[str, Mapping[str, float]]) -> None:
    """Show with which probability each way of sampling (name -> task -> share) draws the tasks."""
    found = pd.DataFrame({how: dict(of_task) for how, of_task in shares.items()})
    height = 0.8 / len(found.columns)
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 1.2 + 0.5 * len(found)), layout="constrained")
        axes = drawn.subplots()
        for number, how in enumerate(found.columns):
            places = np.arange(len(found)) + (number + 0.5) * height - 0.4
            axes.barh(places, found[how], height, color=COLOURS[number % len(COLOURS)], label=how)
        name_rows(axes, list(found.index))
        axes.set(xlabel="share of the draws", title="How often each task is drawn")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        drawn.legend(loc="outside lower center", ncols=3)
    figure(drawn)
    rows = found.rename_axis("task").reset_index()
    table(rows, "Share of the draws, by way of sampling", dict.fromkeys(found.columns, "{:.1%}"))


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
    table(found, title, dict.fromkeys(columns[1:], "{:.4f}"))
    return found
