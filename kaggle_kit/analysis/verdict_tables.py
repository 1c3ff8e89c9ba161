"""The verdict's document as tables: the rule as it was applied, where a gain comes from, how arms trained.

    rule_table(document); gain_table(document); training_table(document); declared_table(document)

Each has its columns even where nothing could be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, PANEL, STYLE, WIDTH, no_data
from kaggle_kit.analysis.verdict_rule import PLACEBO, REQUIRED, SHARE, STRONGEST, TOTAL

HELD, FAILED, MISSING = "beaten", "not shown to be beaten", "never trained"
RULE = ("task", "control", "difference", "low", "high", "p", "what it shows")
GAIN = ("task", "over its own share", "from more tokens of the task", "from tokens of other tasks")
TRAINING = ("task", "arm", "steps", "epochs", "final loss", "first dev", "best dev", "last dev")
INPUTS = ("run", "seed", "control", "tokens asked for", "configuration", "manifest")


def rule_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """One row per task and control that genuine transfer has to beat; `p` is two-sided, before Holm."""
    members = document["tasks"] | ({"all tasks": document["overall"]} if document["tasks"] else {})
    rows = [row for name, found in members.items() for row in _controls(name, found)]
    return pd.DataFrame(rows, columns=RULE)


def gain_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """The gain over the task's own share of the tokens, split at the control with all tokens."""
    rows = []
    for task, found in document["tasks"].items():
        if SHARE in found["contrasts"]:
            share, total = (found["contrasts"][name]["difference"] for name in (SHARE, TOTAL))
            rows.append((task, share, share - total, total))
    return pd.DataFrame(rows, columns=GAIN)


def training_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """One row per task and arm, means over seeds; `dev` are development scores over the token budget."""
    rows = [
        (task, name, *_trained(arm))
        for task, arms in document.get("training", {}).items()
        for name, arm in arms.items()
    ]
    return pd.DataFrame(rows, columns=TRAINING)


def input_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """The runs that were read, by the hash of their manifests."""
    rows = []
    for run in document["inputs"]:
        twin = run["twin"] or {}
        hashes = run["config_hash"], run["sha256"]["manifest.json"][:12]
        control = twin.get("control", "multi-task run"), twin.get("target_tokens")
        rows.append((run["run_id"], run["seed"], *control, *hashes))
    return pd.DataFrame(rows, columns=INPUTS).astype({"tokens asked for": "Int64"})


def declared_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """The rule as the runs declared it, and what differs between runs although it is not compared."""
    rule = dict(document.get("rule", {}))
    margins = {f"margin, {task}": margin for task, margin in rule.pop("margins", {}).items()}
    differing = {
        f"differs, {name}": of for name, of in document.get("differences_not_held_fixed", {}).items()
    }
    rows = [(name, _listed(value)) for name, value in (rule | margins | differing).items()]
    return pd.DataFrame(rows, columns=["declared", "value"])


def development_curves(document: Mapping[str, Any]) -> Figure:
    """Development scores over the share of the token budget: a panel per task, a thin line per seed."""
    training = document.get("training", {})
    with mpl.rc_context(STYLE):
        if not training:
            return no_data("nothing was judged, so there is no training to compare")
        drawn = Figure(figsize=(WIDTH, PANEL * len(training)), layout="constrained")
        for axes, (task, arms) in zip(
            drawn.subplots(len(training), 1, squeeze=False)[:, 0], training.items(), strict=True
        ):
            for colour, (name, arm) in zip(COLOURS, arms.items(), strict=False):
                for seed, curve in enumerate(arm["development"]):
                    points = np.array([(100 * share, score) for share, score in curve if score is not None])
                    label = f"{name}, n = {len(arm['development'])}" if seed == 0 else None
                    axes.plot(*points.reshape(-1, 2).T, ".-", color=colour, lw=1, alpha=0.7, label=label)
            axes.set(title=f"{task}, one line a seed", xlabel="per cent of the token budget")
            axes.set(ylabel="development score")
            axes.legend(loc="lower right")
        return drawn


def _controls(name: str, found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    wanted = (*REQUIRED, *(control for control in (PLACEBO, STRONGEST) if control in found["contrasts"]))
    for control in wanted:
        if control not in found["contrasts"]:
            yield name, control, None, None, None, None, MISSING
            continue
        contrast = found["contrasts"][control]
        shown = FAILED if control in found["failed"] else HELD
        yield name, control, contrast["difference"], *contrast["interval"], contrast["p_value"], shown


def _trained(arm: Mapping[str, Any]) -> tuple[float | None, ...]:
    means = tuple(fmean(arm[key]) for key in ("optimiser_steps", "epochs_over_own_data"))
    curves = [[score for _, score in curve if score is not None] for curve in arm["development"]]
    ends = [[f(curve) for curve in curves if curve] for f in (lambda c: c[0], max, lambda c: c[-1])]
    return *means, fmean(arm["final_training_loss"]), *(fmean(end) if end else None for end in ends)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
