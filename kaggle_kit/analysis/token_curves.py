"""A run's losses and development scores over steps, tokens and phases, from its logs.

token_curve(run, "semeval2014t7")     # one row a step: step, tokens, loss, dev score
phase_scores(run.events(), ends=[60, 121], best=True)   # [{"semeval2017t3.map": 0.41}, {…: 0.45}]
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kaggle_kit.analysis.figures import loss_points
from kaggle_kit.core.artifacts import RunFolder

COLUMNS = ("step", "tokens", "loss", "dev score")
QUICK = "quick_evaluation"


def token_curve(run: RunFolder, task: str) -> pd.DataFrame:
    """Return the curve of one task, a row for each step in which it was trained or scored.

    `tokens` are the real tokens of all tasks up to that step. `dev score` is the task's primary metric on
    the samples of a quick evaluation, NaN where none was made; `loss` is NaN where the task took no part.
    """
    seen = {line["step"]: sum(line["total"].values()) for line in run.tokens()}
    losses, scores = dict(loss_points(run.events(), task)), dict(curve(run.events()).get(task, ()))
    rows = [
        (step, tokens, losses.get(step), scores.get(step))
        for step, tokens in sorted(seen.items())
        if step in losses or scores.get(step) is not None
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"loss": "float64", "dev score": "float64"})


def curve_parts(curve: pd.DataFrame, parts: int = 5) -> pd.DataFrame:
    """Return the curve cut into parts of equal tokens: the mean loss and the last dev score of each.

    A part in which nothing was trained or scored has no row.
    """
    size = curve["tokens"].max() / parts
    number = (curve["tokens"] / size).round(9).map(lambda share: -(-share // 1)).astype(int)
    parts_of = {"tokens up to": ("tokens", "max"), "steps": ("loss", "count")}
    parts_of |= {"mean loss": ("loss", "mean"), "dev score": ("dev score", "last")}
    return curve.groupby(number).agg(**parts_of).reset_index(drop=True)


def curve(events: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return by task (step, figure) of every evaluation during training, in order.

    A quick evaluation names `TASK.METRIC`, a point of the development curve the task alone.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        quick = {name.partition(".")[0]: figure for name, figure in _figures(event.get(QUICK, {})).items()}
        for task, figure in (event.get("development", {}).get("scores", {}) | quick).items():
            found.setdefault(task, []).append((event["step"], figure))
    return found


def phase_scores(
    events: Iterable[Mapping[str, Any]], ends: Sequence[int], *, best: bool
) -> list[dict[str, float]]:
    """Return, per phase, `TASK.METRIC` -> the quick figure of the weights that it left; empty without one.

    `ends` are the last steps of the phases, counted over all of them, as events count. With `best` a phase
    leaves the weights of its best evaluation, else those of its last step.
    """
    points = {event["step"]: event[QUICK] for event in events if QUICK in event}
    found, begun = [], 0
    for end in ends:
        quick = points.get(max((step for step in points if begun < step <= end), default=end), {})
        if best and (chosen := quick.get("best_step")) is not None:
            quick = points[begun + chosen]
        found.append(_figures(quick))
        begun = end
    return found


def _figures(quick: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in quick.items() if "." in name}
