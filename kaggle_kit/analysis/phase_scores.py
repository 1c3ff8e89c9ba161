"""What the model scores on development samples when a phase of its training ends.

phase_scores(run.events(), ends=[60, 121], best=True)   # [{"semeval2017t3.map": 0.41}, {…: 0.45}]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

QUICK = "quick_evaluation"


def phase_scores(
    events: Iterable[Mapping[str, Any]], ends: Sequence[int], *, best: bool
) -> list[dict[str, float]]:
    """For each phase, `TASK.METRIC` -> the quick figure of the weights that it left; empty without one.

    `ends` are the last steps of the phases, counted over all of them, as events count. With `best` a phase
    leaves the weights of its best evaluation, else those of its last step.
    """
    points = {event["step"]: event[QUICK] for event in events if QUICK in event}
    return list(_phases(points, ends, best))


def curve(events: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """`TASK.METRIC` -> (step, figure) of every evaluation during training, in order."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        told = event.get("development", {}).get("scores", {})
        figures = _figures(event[QUICK]) if QUICK in event else {}
        known = {name.partition(".")[0] for name in figures}
        for name, figure in [*figures.items(), *((n, f) for n, f in told.items() if n not in known)]:
            found.setdefault(name.partition(".")[0], []).append((event["step"], figure))
    return found


def _phases(
    points: Mapping[int, Mapping[str, Any]], ends: Sequence[int], best: bool
) -> Iterator[dict[str, float]]:
    begun = 0
    for end in ends:
        inside = [step for step in points if begun < step <= end]
        if not inside:
            yield {}
        else:
            last = points[max(inside)]
            chosen = last.get("best_step") if best else None
            yield _figures(last if chosen is None else points[begun + chosen])
        begun = end


def _figures(quick: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in quick.items() if "." in name}
