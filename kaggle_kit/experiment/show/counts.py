"""Views of tokens and parameters: of one run against its plan, and of arms beside each other."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, loss_curves, no_data
from kaggle_kit.analysis.token_curves import curve_parts, token_curve
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, panel, table
from kaggle_kit.models.parity import Variant, parity_rows

Ledger = Sequence[Mapping[str, int]]  # one step each: source (a task, a kind of text) -> tokens


def token_ledger(exp: Experiment) -> pd.DataFrame:
    """Show and return the tokens of each task: planned, seen (in `tokens.jsonl`), passes over its data."""
    lines = exp.run.tokens()
    ledger = pd.DataFrame({"planned": exp.plan.tokens})
    seen = pd.Series(lines[-1]["total"] if lines else {}, dtype=int)
    ledger["seen"] = seen.reindex(ledger.index, fill_value=0)
    ledger["own data"] = [int(exp.encoded[task].lengths.sum()) for task in ledger.index]
    ledger["share of seen"] = ledger["seen"] / max(1, ledger["seen"].sum())
    ledger["passes"] = ledger["seen"] / ledger["own data"]
    ledger = ledger.rename_axis("task").reset_index()
    table(ledger, "Tokens of each task, planned and seen")
    return ledger


def curve_over_tokens(exp: Experiment) -> None:
    """Show each task's loss and dev score over the tokens seen, as a figure and in five equal parts."""
    for task in exp.config.tasks:
        curve = token_curve(exp.run, task)
        figure(_curve(curve, task) if len(curve) else no_data(f"{task} was not trained"))
        if len(curve):
            table(curve_parts(curve), f"{task}: the same in five parts of equal tokens")


def ledgers(arms: Mapping[str, Ledger], title: str) -> None:
    """Show where the tokens of each arm come from: step by step as a figure, in total as a table."""
    rows = ledger_totals(arms)
    sources = list(rows[0])[2:-1]
    with mpl.rc_context(STYLE):
        chart = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        panels = list(chart.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0])
        for axes, (arm, steps) in zip(panels, arms.items(), strict=True):
            each = ([step.get(source, 0) for step in steps] for source in sources)
            curves = [list(accumulate(tokens, initial=0)) for tokens in each]
            areas = axes.stackplot(range(len(steps) + 1), curves, colors=COLOURS[: len(curves)])
            axes.set(title=fill(arm, 14), xlabel="optimiser step")
            axes.yaxis.set_major_formatter("{x:,.0f}")
        panels[0].set_ylabel("tokens so far")
        chart.suptitle(title, x=0.01, ha="left", fontsize=10)
        chart.legend(areas, sources, loc="outside lower center", ncols=3)
    figure(chart)
    table(rows, f"{title}, in total")


def ledger_totals(arms: Mapping[str, Ledger]) -> list[dict[str, Any]]:
    """Return one row an arm: its steps, the tokens of every source that any arm has, and their sum."""
    sources = dict.fromkeys(source for steps in arms.values() for step in steps for source in step)
    rows = []
    for arm, steps in arms.items():
        tokens = {source: sum(step.get(source, 0) for step in steps) for source in sources}
        rows.append({"arm": arm, "steps": len(steps), **tokens, "all": sum(tokens.values())})
    return rows


def parity(variants: Sequence[Variant]) -> None:
    """Show the trainable parameters that the tokens of each task pass, level by level, and the total."""
    table(parity_rows(variants), "Trainable parameters, heads and fusion included")


def optimisation(runs: Mapping[str, RunFolder], task: str) -> None:
    """Show how far finished runs were optimised: losses, the development curves of `task`, and a table."""
    figure(loss_curves(list(runs.values())))
    curves = {name: _development(run.manifest(), task) for name, run in runs.items()}
    if any(curves.values()):
        most = next(iter(runs.values())).config()["training"]["quick_samples"]
        title = f"{task} on at most {most} development samples; ring: best point"
        with panel(title, 2.7, xlabel="share of the run's tokens", ylabel="primary score") as axes:
            for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
                if points:
                    axes.plot(*zip(*points, strict=True), "o-", ms=3, color=colour, label=name)
                    axes.plot(*max(points, key=itemgetter(1)), "o", ms=9, mfc="none", color=colour)
            axes.set_xlim(0, 1.03)
            axes.xaxis.set_major_formatter("{x:.0%}")
            axes.legend(loc="upper left")
    else:
        figure(no_data("no run has kept a development curve"))
    table(optimisation_table(runs), "How far both were optimised")


def optimisation_table(runs: Mapping[str, RunFolder]) -> list[dict[str, Any]]:
    """Return one row per run and task: how far finished runs were optimised, from their manifests.

    `runs`: a name -> its run's folder. `dev` are scores of a few development samples, NaN where no curve was
    kept; `at` is the share of the run's tokens after which the task's best point lies.
    """
    rows = []
    for name, run in runs.items():
        manifest = run.manifest()
        for task, epochs in manifest["epochs_over_own_data"].items():
            curve = _development(manifest, task)
            share, best = max(curve, key=itemgetter(1), default=(math.nan, math.nan))
            row = {"run": name, "task": task, "tokens": manifest["totals"]["tokens"][task]}
            row |= {"steps": manifest["optimiser_steps"], "epochs over its data": epochs}
            row |= {"final training loss": manifest["final_training_loss"][task]}
            row |= {"dev, last point": curve[-1][1] if curve else math.nan}
            rows.append(row | {"dev, best point": best, "at": share})
    return rows


def _development(manifest: Mapping[str, Any], task: str) -> list[tuple[float, float]]:
    """Return (share of the run's tokens, score) of a task at each point of the development curve."""
    return [(p["share"], p["scores"][task]) for p in manifest["development"] if task in p["scores"]]


def _curve(curve: pd.DataFrame, task: str) -> Figure:
    losses, scores = curve.dropna(subset="loss"), curve.dropna(subset="dev score")
    window = max(1, len(losses) // 20)
    mean = losses["loss"].rolling(window, min_periods=1, center=True).mean()
    with mpl.rc_context(STYLE):
        chart = Figure(figsize=(WIDTH, 4.4 if len(scores) else 2.7), layout="constrained")
        axes = list(chart.subplots(1 + bool(len(scores)), 1, squeeze=False, sharex=True)[:, 0])
        axes[0].plot(losses["tokens"], losses["loss"], color=COLOURS[0], lw=0.8, alpha=0.35, label="a step")
        axes[0].plot(losses["tokens"], mean, color=COLOURS[0], lw=1.6, label=f"mean of {window} steps")
        axes[0].set(title=f"{task}: learning curve, n = {len(losses)} steps", ylabel="training loss")
        axes[0].set_ylim(bottom=0)
        axes[0].legend(loc="upper right")
        if len(scores):
            axes[1].plot(scores["tokens"], scores["dev score"], "o-", ms=4, color=COLOURS[1])
            axes[1].set(ylabel="dev score, quick evaluation", ylim=(0, None))
        axes[-1].set(xlabel="real tokens seen", xlim=(0, None))
        axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    return chart
