"""Which models nothing beats in everything at once: the Pareto frontier, and how sure it is.

is_dominated(values)                        # rows of several figures, each better where higher
frontier_probability(draws, costs)          # the share of bootstrap draws in which a model is on it
recommended(table, {"size MiB": 500})       # the best score that a budget allows
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH, no_data
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.evaluation.documents import document_table

SCORE, LOW, HIGH, CHANCE = "score", "low", "high", "on the frontier"


def is_dominated(values: np.ndarray) -> np.ndarray:
    """Return which rows another one beats: (models, figures) -> (models,), figures better where higher.

    A row is beaten by one that is nowhere worse and somewhere better; equal rows do not beat each other.
    """
    if not np.isfinite(values).all():
        raise ConfigError("a figure is missing or no number; leave the model out, or measure it")
    no_worse = (values[None] >= values[:, None]).all(axis=-1)
    better = (values[None] > values[:, None]).any(axis=-1)
    return (no_worse & better).any(axis=1)


def frontier_probability(draws: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the share of draws in which each model is on the frontier: (draws, models) -> (models,).

    `draws` are scores on documents drawn anew, the same ones for all models. `costs`, (models, figures), are
    better where lower and are not drawn: they are measured far more exactly than a score.
    """
    on = np.zeros(draws.shape[1])
    for scores in draws:
        on += ~is_dominated(np.column_stack([scores, -costs]))
    return on / len(draws)


def recommended(table: pd.DataFrame, budget: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the row of the best score among those within every limit of the budget; None where none is.

    Of equal scores that with the lower first limit. Raises ConfigError for a limit that is no column.
    """
    for name in budget:
        if name not in table:
            allowed = f"{', '.join(table)}{nearest(name, table)}"
            raise ConfigError(f"{name!r} is no figure of the table; allowed: {allowed}")
    within = table[(table[list(budget)] <= pd.Series(budget, dtype=float)).all(axis=1)]
    if within.empty:
        return None
    ordered = within.sort_values([SCORE, *budget], ascending=[False, *[True] * len(budget)], kind="stable")
    return dict(ordered.iloc[0])


def on_same_documents(runs: Mapping[str, RunFolder], task: str, split: str) -> np.ndarray:
    """Return what each document adds to each run's primary metric: (runs, documents, columns).

    Raises ConfigError for a run that kept no documents of this split, or was scored on other ones.
    """
    found = {name: document_table(run.read_documents(task, split)) for name, run in runs.items()}
    first = next(iter(found))
    for name, (ids, _) in found.items():
        if not ids or ids != found[first][0]:
            raise ConfigError(
                f"{name} was scored on {len(ids)} documents of {task}'s {split} split that are not the "
                f"{len(found[first][0])} of {first}; name runs that were scored on the same ones"
            )
    return np.stack([parts for _, parts in found.values()])


@mpl.rc_context(STYLE)
def latency_figure(rows: pd.DataFrame, note: str = "") -> Figure:
    """Draw texts a second over p95 latency: a panel per task, a line per way, a point per request size."""
    groups = list(rows.groupby("task", sort=False))
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    panels = list(figure.subplots(1, len(groups), squeeze=False)[0])
    for panel, (task, part) in zip(panels, groups, strict=True):
        for colour, (way, line) in zip(COLOURS, part.groupby("adapters", sort=False), strict=False):
            panel.errorbar(line["p95 ms"], line["texts/s"], line["SD"], fmt="o-", color=colour, label=way)
            for row in line.to_dict("records"):
                place = (row["p95 ms"], row["texts/s"])
                panel.annotate(f" {row['batch']}", place, va="bottom", fontsize=8, color=colour)
        panel.set(title=f"{task}{note}", xlabel="p95 of a request, ms", ylim=(0, None))
        _few_ticks(panel, part["p95 ms"])
    panels[0].set_ylabel("texts/s ± SD over requests")
    panels[0].legend(loc="lower right", title="adapters")
    return figure


@mpl.rc_context(STYLE)
def pareto_figure(table: pd.DataFrame, costs: Sequence[str], note: str = "") -> Figure:
    """Draw the score over each cost: full points are on the frontier, bars are intervals over documents.

    `table` has `name`, `score`, `low`, `high`, `on the frontier` (a probability) and the costs.
    """
    if table.empty:
        return no_data("no run was measured")
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    panels = list(figure.subplots(1, len(costs), sharey=True, squeeze=False)[0])
    for panel, cost in zip(panels, costs, strict=True):
        for colour, row in zip(COLOURS * len(table), table.to_dict("records"), strict=False):
            ends = [[max(0, row[SCORE] - row[LOW])], [max(0, row[HIGH] - row[SCORE])]]
            face = colour if row[CHANCE] >= 0.5 else "white"
            label = f"{row['name']} ({row[CHANCE]:.0%})" if panel == panels[0] else None
            style = {"fmt": "o", "color": colour, "mfc": face, "ms": 7, "lw": 1.2, "label": label}
            panel.errorbar(row[cost], row[SCORE], ends, **style)
        steps = table[~is_dominated(table.assign(cost=-table[cost])[[SCORE, "cost"]].to_numpy())]
        steps = steps.sort_values(cost)
        panel.step(steps[cost], steps[SCORE], where="post", color="#8a8f98", lw=0.9, ls=":")
        panel.set_xlabel(cost)
        _few_ticks(panel, table[cost])
    panels[0].set(ylabel="primary score", title=f"Score and cost{note}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _few_ticks(panel: Axes, costs: pd.Series) -> None:
    """Write few plain numbers below a panel; by powers of ten where the costs go over two of them."""
    if 0 < 100 * costs.min() < costs.max():
        panel.set_xscale("log")
    else:
        panel.margins(x=0.15)
        panel.xaxis.set_major_locator(MaxNLocator(3))
    panel.xaxis.set_major_formatter("{x:,g}")
