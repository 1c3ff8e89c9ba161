"""What a page shows of arms beside each other: their tokens, their parameters, how far each was optimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, loss_curves, no_data
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment.optimisation import side_by_side
from kaggle_kit.experiment.show.views import figure, table
from kaggle_kit.models.parity import Variant, spread

Ledger = Sequence[Mapping[str, int]]  # one step each: source (a task, a kind of text) -> tokens
OPTIMISED = {"tokens": "{:,}", "steps": "{:,}", "epochs over its data": "{:.2f}", "at": "{:.0%}"}
OPTIMISED |= dict.fromkeys(("final training loss", "dev, last point", "dev, best point"), "{:.4f}")


def ledgers(arms: Mapping[str, Ledger], title: str) -> None:
    """Show where the tokens of each arm come from: step by step as a figure, in total as a table."""
    figure(_cumulated(arms, title))
    rows = ledger_totals(arms)
    table(pd.DataFrame(rows), f"{title}, in total", dict.fromkeys(list(rows[0])[1:], "{:,}"))


def ledger_totals(arms: Mapping[str, Ledger]) -> list[dict[str, Any]]:
    """One row an arm: its steps, the tokens of every source that any arm has, and their sum."""
    rows = []
    for arm, steps in arms.items():
        tokens = {source: sum(step.get(source, 0) for step in steps) for source in _sources(arms)}
        rows.append({"arm": arm, "steps": len(steps), **tokens, "all": sum(tokens.values())})
    return rows


def parity(variants: Sequence[Variant]) -> None:
    """Show the trainable parameters that the tokens of each task pass, level by level, and the total."""
    counts = {f"active, {task}": [v.tasks[task] for v in variants] for task in variants[0].tasks}
    counts |= {"total": [variant.total for variant in variants]}
    names = [variant.strategy.name for variant in variants]
    rows = [
        {"parameters": what, **dict(zip(names, found, strict=True)), "widest difference": spread(found)}
        for what, found in counts.items()
    ]
    formats = dict.fromkeys(names, "{:,}") | {"widest difference": "{:.1%}"}
    table(pd.DataFrame(rows), "Trainable parameters, heads and fusion included", formats)


def optimisation(runs: Mapping[str, RunFolder], task: str) -> None:
    """Show how far finished runs were optimised: losses, the development curves of `task`, and a table."""
    figure(loss_curves(list(runs.values())))
    figure(_development(runs, task))
    table(pd.DataFrame(side_by_side(runs)), "How far both were optimised", OPTIMISED)


def _sources(arms: Mapping[str, Ledger]) -> list[str]:
    return list(dict.fromkeys(source for steps in arms.values() for step in steps for source in step))


def _cumulated(arms: Mapping[str, Ledger], title: str) -> Figure:
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        panels = drawn.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (arm, steps) in zip(panels, arms.items(), strict=True):
            each = ([step.get(source, 0) for step in steps] for source in _sources(arms))
            curves = [list(accumulate(tokens, initial=0)) for tokens in each]
            areas = axes.stackplot(range(len(steps) + 1), curves, colors=COLOURS[: len(curves)])
            axes.set(title=arm, xlabel="optimiser step")
            axes.yaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
        panels[0].set_ylabel("tokens so far")
        drawn.suptitle(title, x=0.01, ha="left", fontsize=10)
        drawn.legend(areas, _sources(arms), loc="outside lower center", ncols=3)
        return drawn


def _development(runs: Mapping[str, RunFolder], task: str) -> Figure:
    """Scores of a task on dev against the share of a run's tokens; a ring at the best point of a run."""
    curves = {
        name: [(p["share"], p["scores"][task]) for p in run.manifest()["development"] if task in p["scores"]]
        for name, run in runs.items()
    }
    if not any(curves.values()):
        return no_data("no run has kept a development curve")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = drawn.subplots()
        for number, (name, points) in enumerate((name, points) for name, points in curves.items() if points):
            axes.plot(*zip(*points, strict=True), "o-", ms=3, color=COLOURS[number], label=name)
            best = max(points, key=lambda point: point[1])
            axes.plot(*best, "o", ms=9, mfc="none", color=COLOURS[number])
        most = next(iter(runs.values())).config()["training"]["quick_samples"]
        axes.set(title=f"{task} on at most {most} development samples; ring: best point")
        axes.set(xlabel="share of the run's tokens", ylabel="primary score", xlim=(0, 1.03))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(loc="upper left")
        return drawn
