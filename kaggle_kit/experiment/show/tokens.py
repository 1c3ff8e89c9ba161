"""A run against the tokens that it saw: its learning curve, and tokens planned against tokens seen."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data
from kaggle_kit.analysis.token_curves import curve_parts, token_curve
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import figure, table

COUNTS = ("planned", "seen", "own data")
CURVE = {"tokens up to": "{:,}", "mean loss": "{:.4f}", "dev score": "{:.4f}"}


def curve_over_tokens(exp: Experiment) -> None:
    """Show each task's loss and dev score over the tokens seen, as a figure and in five equal parts."""
    for task in exp.config.tasks:
        curve = token_curve(exp.run, task)
        figure(_curve(curve, task) if len(curve) else no_data(f"{task} was not trained"))
        if len(curve):
            table(curve_parts(curve), f"{task}: the same in five parts of equal tokens", CURVE)


def token_ledger(exp: Experiment) -> pd.DataFrame:
    """Show and return the tokens of each task: planned, seen (in `tokens.jsonl`), passes over its data."""
    lines = exp.run.tokens()
    seen = lines[-1]["total"] if lines else {}
    rows = [
        {"task": task, "planned": planned, "seen": seen.get(task, 0)}
        | {"own data": int(exp.encoded[task].lengths.sum())}
        for task, planned in exp.plan.tokens.items()
    ]
    found = pd.DataFrame(rows)
    found["share of seen"] = found["seen"] / max(1, found["seen"].sum())
    found["passes"] = found["seen"] / found["own data"]
    formats = {**dict.fromkeys(COUNTS, "{:,}"), "share of seen": "{:.1%}", "passes": "{:.2f}"}
    table(found, "Tokens of each task, planned and seen", formats)
    return found


def _curve(curve: pd.DataFrame, task: str) -> Figure:
    losses, scores = curve.dropna(subset="loss"), curve.dropna(subset="dev score")
    window = max(1, len(losses) // 20)
    mean = losses["loss"].rolling(window, min_periods=1, center=True).mean()
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, 4.4 if len(scores) else 2.7), layout="constrained")
        axes = drawn.subplots(1 + bool(len(scores)), 1, squeeze=False, sharex=True)[:, 0]
        axes[0].plot(losses["tokens"], losses["loss"], color=COLOURS[0], lw=0.8, alpha=0.35, label="a step")
        axes[0].plot(losses["tokens"], mean, color=COLOURS[0], lw=1.6, label=f"mean of {window} steps")
        axes[0].set(title=f"{task}: learning curve, n = {len(losses)} steps", ylabel="training loss")
        axes[0].set_ylim(bottom=0)
        axes[0].legend(loc="upper right")
        if len(scores):
            axes[1].plot(scores["tokens"], scores["dev score"], "o-", ms=4, color=COLOURS[1])
            axes[1].set(ylabel="dev score, quick evaluation", ylim=(0, None))
        axes[-1].set(xlabel="real tokens seen", xlim=(0, None))
        axes[-1].xaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
    return drawn
