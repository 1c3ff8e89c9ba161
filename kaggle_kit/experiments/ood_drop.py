"""What an arm loses out of distribution: how far the corpus is, the drop, and its interval over documents.

shift_table(train["semeval2014t7"], held_out.samples)
drop_figure(arm_table(run, results))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, ROW, STYLE, WIDTH, name_rows
from kaggle_kit.analysis.stats import resampled_scores
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.evaluation.documents import document_table, figure
from kaggle_kit.experiments.ood import SPLIT, ArmResult
from kaggle_kit.experiments.transfer_similarity import count_words


def run_table(folders: Sequence[RunFolder], task: str) -> pd.DataFrame:
    """One row per arm: its tasks, seed, tokens of all tasks, and the parameters that `task` passes."""
    rows = [
        (f.run_id, len(f.facts["tasks"]), f.facts["seed"], sum(m["totals"]["tokens"].values()))
        + (m["active_parameters"][task],)
        for f, m in ((folder, folder.manifest()) for folder in folders)
    ]
    return pd.DataFrame(rows, columns=("run", "tasks", "seed", "tokens", "active parameters"))


def shift_table(inside: Sequence[UnifiedSample], outside: Sequence[UnifiedSample]) -> pd.DataFrame:
    """How far the held-out corpus is from the training split: figures only, no word of either.

    `new` is the share of words, or of mentions' texts, that the training split does not have.
    """
    known = {"words": set(count_words(inside)), "mentions": set(_mentioned(inside))}
    rows = []
    for corpus, samples in (("training split", inside), ("held out", outside)):
        counted = {"words": count_words(samples), "mentions": _mentioned(samples)}
        row: dict[str, Any] = {"corpus": corpus, "documents": len(samples)}
        for what, found in counted.items():
            new = sum(count for text, count in found.items() if text not in known[what])
            row |= {what: found.total(), f"new {what}": new / found.total() if found else math.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def drop_interval(
    run: RunFolder, result: ArmResult, resamples: int, alpha: float = 0.05
) -> tuple[float, float] | None:
    """The percentile interval of an arm's drop over documents, drawn anew inside and outside.

    It holds the choice of documents and not the luck of the training, for an arm is one run. None where the
    run kept no documents of its own split.
    """
    (task,) = run.facts["tasks"]
    rng = np.random.default_rng(0)
    outside, drawn = RunFolder(run.path / "arms" / result.run.run_id), []
    for folder, split in ((result.run, result.split), (outside, SPLIT)):
        if not (records := folder.read_documents(task, split)):
            return None
        _, parts = document_table(records)
        drawn.append(resampled_scores(parts[None], resamples, rng)[:, 0])
    low, high = np.quantile(drawn[0] - drawn[1], [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def arm_table(run: RunFolder, results: Sequence[ArmResult], resamples: int = 2_000) -> pd.DataFrame:
    """One row per arm: its score inside and outside, and the drop with its interval over documents."""
    rows = []
    for result in results:
        low, high = drop_interval(run, result, resamples) or (math.nan, math.nan)
        scored = {"inside": result.inside, "outside": result.outside, "drop": result.drop}
        rows.append(
            {"arm": _named(result), "seed": result.run.facts["seed"]} | scored | {"low": low, "high": high}
        )
    return pd.DataFrame(rows)


def document_scores(run: RunFolder, results: Sequence[ArmResult]) -> pd.DataFrame:
    """The score of every held-out document under every arm, those with the largest spread first."""
    (task,) = run.facts["tasks"]
    sides = {}
    for result in results:
        records = RunFolder(run.path / "arms" / result.run.run_id).read_documents(task, SPLIT)
        ids, parts = document_table(records)
        sides[f"{_named(result)}, seed {result.run.facts['seed']}"] = pd.Series(figure(parts), index=ids)
    found = pd.DataFrame(sides)
    found["spread"] = found.max(axis=1) - found.min(axis=1)
    ordered = found.sort_values("spread", ascending=False, kind="stable")
    return ordered.rename_axis("document").reset_index()


def drop_figure(arms: pd.DataFrame, note: str = "") -> Figure:
    """Left: the score inside (open) and outside (full) of every arm. Right: the drop with its interval."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        drawn = Figure(figsize=(WIDTH, 1.2 + 1.4 * ROW * len(arms)), layout="constrained")
        left, right = drawn.subplots(1, 2, sharey=True)
        for row, arm in enumerate(arms.itertuples()):
            colour = COLOURS[row % len(COLOURS)]
            left.plot([arm.inside, arm.outside], [row, row], color=colour, lw=1)
            left.plot(arm.inside, row, "o", mfc="white", mec=colour, ms=7)
            left.plot(arm.outside, row, "o", color=colour, ms=7)
            right.plot([100 * arm.low, 100 * arm.high], [row, row], color=colour, lw=2.2)
            right.plot(100 * arm.drop, row, "o", color=colour, ms=7)
        right.axvline(0, color="#3a3f47", lw=0.9, zorder=1)
        name_rows(left, [f"{arm.arm}\nseed {arm.seed}" for arm in arms.itertuples()])
        left.set(title=f"Inside ○, outside ●{note}", xlabel="primary metric")
        right.set(title="Drop, with interval over documents", xlabel="points")
        return drawn


def _named(result: ArmResult) -> str:
    tasks = len(result.run.facts["tasks"])
    return f"{result.run.facts['strategy']} on {tasks} task{'s' if tasks > 1 else ''}"


def _mentioned(samples: Sequence[UnifiedSample]) -> Counter[str]:
    """The texts of all mentions, in lower case."""
    return Counter(mention.text(s.text).lower() for s in samples if s.text for mention in s.mentions)
