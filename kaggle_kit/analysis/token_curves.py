"""A run's losses and development scores over the tokens that it had seen by then, from its logs.

token_curve(run, "semeval2014t7")     # one row a step: step, tokens, loss, dev score
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kaggle_kit.analysis.figures import loss_points
from kaggle_kit.core.artifacts import RunFolder

COLUMNS = ("step", "tokens", "loss", "dev score")


def token_curve(run: RunFolder, task: str) -> pd.DataFrame:
    """Return the curve of one task, a row for each step in which it was trained or scored.

    `tokens` are the real tokens of all tasks up to that step. `dev score` is the task's primary metric on
    the samples of a quick evaluation, NaN where none was made; `loss` is NaN where the task took no part.
    """
    seen = {line["step"]: sum(line["total"].values()) for line in run.tokens()}
    events = [event for event in run.events() if event["step"] in seen]
    losses = dict(loss_points(events, task))
    scores = {event["step"]: score for event in events if (score := _dev_score(event, task)) is not None}
    rows = [
        (step, tokens, losses.get(step), scores.get(step))
        for step, tokens in sorted(seen.items())
        if step in losses or step in scores
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"loss": "float64", "dev score": "float64"})


def curve_parts(curve: pd.DataFrame, parts: int = 5) -> pd.DataFrame:
    """Return the curve cut into parts of equal tokens: the mean loss and the last dev score of each.

    A part in which nothing was trained or scored has no row.
    """
    size = curve["tokens"].max() / parts
    number = (curve["tokens"] / size).round(9).map(lambda share: -(-share // 1)).astype(int)
    grouped = curve.groupby(number)
    found = pd.DataFrame(
        {
            "tokens up to": grouped["tokens"].max(),
            "steps": grouped["loss"].count(),
            "mean loss": grouped["loss"].mean(),
            "dev score": grouped["dev score"].last(),
        }
    )
    return found.reset_index(drop=True)


def _dev_score(event: Mapping[str, Any], task: str) -> float | None:
    """A quick evaluation names `TASK.METRIC`, a point of the development curve the task alone."""
    figures = event.get("quick_evaluation") or event.get("development", {}).get("scores", {})
    return next((score for name, score in figures.items() if name.partition(".")[0] == task), None)
