"""What S4 does: which groups learn in which phase, what each phase left, how large each task's update is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data
from kaggle_kit.analysis.phase_scores import curve, phase_scores
from kaggle_kit.evaluation.adapter_figures import adapter_sizes
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table
from kaggle_kit.models.adapters import SHARED, private

FROZEN = "frozen"


def phase_gradients(exp: Experiment, norms: Mapping[str, Mapping[str, float]]) -> None:
    """Show each group's gradient norm in each phase: phase -> group -> norm, groups that learn only."""
    rows = [
        {"group": name, "parameters": sum(p.numel() for p in group.parameters)}
        | {f"gradient, phase {phase}": _norm(found.get(name)) for phase, found in norms.items()}
        for name, group in exp.model.parameter_groups().items()
    ]
    table(pd.DataFrame(rows), "Which groups learn in which phase", {"parameters": "{:,}"})


def scores_by_phase(exp: Experiment) -> None:
    """Show quick development scores by phase: what each phase left, and the curve on the way.

    They choose steps and are no result: the official scores are those of `scores`.
    """
    ends = [trainer.tokens.step for trainer in exp.session.trainers]
    best = exp.config.training.selection == "best"
    found = phase_scores(exp.run.events(), ends, best=best)
    names = [phase.name for phase in exp.phases]
    rows = [
        {"task": metric.partition(".")[0], "metric": metric.partition(".")[2]}
        | {f"after {name}": one.get(metric) for name, one in zip(names, found, strict=True)}
        | {"change": one_by_one[-1] - one_by_one[0]}
        for metric in found[0]
        if (one_by_one := [one.get(metric, float("nan")) for one in found])
    ]
    most = exp.config.training.quick_samples
    formats = {f"after {name}": "{:.4f}" for name in names} | {"change": "{:+.4f}"}
    table(pd.DataFrame(rows), f"Quick scores on at most {most} development samples a task", formats)
    figure(_curves(curve(exp.run.events()), ends[:-1]))


def own_updates(exp: Experiment) -> None:
    """Show the size of each task's own update beside the shared one's, layer by layer."""
    sizes = adapter_sizes(exp.model.lora)
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = drawn.subplots()
        for number, task in enumerate(exp.specs):
            own = sizes[private(task)]
            ratios = [size / sizes[SHARED][layer] for layer, size in own.items()]
            axes.plot(list(own), ratios, "o-", ms=3, color=COLOURS[number % len(COLOURS)], label=task)
        axes.set(title="Norm of each task's own update, as a multiple of the shared update's")
        axes.set(xlabel="layer", ylabel="own / shared")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper right")
    figure(drawn)


def _norm(norm: float | None) -> str:
    return FROZEN if norm is None else f"{norm:.3f}"


def _curves(found: Mapping[str, Sequence[tuple[int, float]]], bounds: Sequence[int]) -> Figure:
    """Every evaluation during training; dotted lines where a phase ended."""
    if not found:
        return no_data("no evaluation was made during training")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = drawn.subplots()
        for number, (task, points) in enumerate(found.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), "o-", ms=3, color=colour, label=task)
        for bound in bounds:
            axes.axvline(bound + 0.5, color="#8a8f98", lw=0.8, ls=":")
        axes.set(title="Development score of each task's primary metric; dotted: the next phase begins")
        axes.set(xlabel="optimiser step, over both phases", ylabel="quick score")
        axes.legend(loc="upper left")
        return drawn
