"""The verdict's document as tables: differences, the rule as it was applied, gains, training, inputs.

    verdict_table(document); rule_table(document); gain_table(document); training_table(document)

Each has its columns even where nothing could be judged.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pandas as pd

from kaggle_kit.analysis.verdict_rule import Control, to_beat
from kaggle_kit.analysis.verdict_words import with_interim_mark

P_VALUES = {"p_holm": "p, no difference", "transfer_p_holm": "p, all controls"}
P_VALUES |= {"equivalence_p_holm": "p, beyond the margin"}
RULE = ("task", "control", "difference", "low", "high", "p", "what it shows")
GAIN = ("task", "over its own share", "from more tokens of the task", "from tokens of other tasks")
TRAINING = ("task", "arm", "steps", "epochs", "final loss", "first dev", "best dev", "last dev")
INPUTS = ("run", "seed", "control", "tokens asked for", "configuration", "manifest")


def over_all_tasks(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return name -> the verdict over all tasks, and over those that share no notes with another."""
    parts = {"all tasks": document["overall"]} if document["tasks"] else {}
    if "overall_without" in document:
        parts[f"without {', '.join(document['comparison']['sharing_notes'])}"] = document["overall_without"]
    return parts


def verdict_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per task and one for all: estimates in the metric's own unit, p values after Holm."""
    if not document["tasks"]:
        return pd.DataFrame([{"task": "all tasks", "verdict": document["verdict"]}])
    rows = []
    for name, member in (document["tasks"] | over_all_tasks(document)).items():
        low, high = member["interval"]
        row = {"task": name, "verdict": with_interim_mark(document, member["verdict"])}
        row |= {key: member[key] for key in ("specification", "difference")} | {"low": low, "high": high}
        row |= {"trimmed mean": member["estimands"]["trimmed"]["difference"], "margin": member["margin"]}
        row |= {heading: member[key] for key, heading in P_VALUES.items()}
        row |= {"detectable": member["minimum_detectable_effect"], "seeds": member["seeds"]}
        rows.append(row | {"more seeds": member.get("more_seeds")})
    return pd.DataFrame(rows)


def rule_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per task and control that genuine transfer has to beat; `p` is two-sided, before Holm."""
    rows: list[tuple[Any, ...]] = []
    for name, member in (document["tasks"] | over_all_tasks(document)).items():
        for control in to_beat(member["contrasts"]):
            if contrast := member["contrasts"].get(control):
                word = "not shown to be beaten" if control in member["failed"] else "beaten"
                figures = contrast["difference"], *contrast["interval"], contrast["p_value"]
                rows.append((name, control, *figures, word))
            else:
                rows.append((name, control, None, None, None, None, "never trained"))
    return pd.DataFrame(rows, columns=RULE)


def gain_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the gain over the task's own share of the tokens, split at the control with all tokens."""
    rows = []
    for task, member in document["tasks"].items():
        if Control.SHARE in member["contrasts"]:
            share, total = (member["contrasts"][it]["difference"] for it in (Control.SHARE, Control.TOTAL))
            rows.append((task, share, share - total, total))
    return pd.DataFrame(rows, columns=GAIN)


def training_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per task and arm, means over seeds; `dev`: development scores over the token budget."""
    rows = []
    for task, arms in document.get("training", {}).items():
        for name, arm in arms.items():
            keys = ("optimiser_steps", "epochs_over_own_data", "final_training_loss")
            curves = [[score for _, score in curve if score is not None] for curve in arm["development"]]
            ends = [(curve[0], max(curve), curve[-1]) for curve in curves if curve]
            scores = map(fmean, zip(*ends, strict=True)) if ends else (None, None, None)
            rows.append((task, name, *(fmean(arm[key]) for key in keys), *scores))
    return pd.DataFrame(rows, columns=TRAINING)


def input_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the runs that were read, by the hash of their manifests."""
    rows = []
    for run in document["inputs"]:
        twin = run["twin"] or {}
        hashes = run["config_hash"], run["sha256"]["manifest.json"][:12]
        control = twin.get("control", "multi-task run"), twin.get("target_tokens")
        rows.append((run["run_id"], run["seed"], *control, *hashes))
    return pd.DataFrame(rows, columns=INPUTS).astype({"tokens asked for": "Int64"})


def declared_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rule as the runs declared it, and what differs between runs although it is not compared."""
    rule = dict(document.get("rule", {}))
    rule |= {f"margin, {task}": margin for task, margin in rule.pop("margins", {}).items()}
    differing = document.get("differences_not_held_fixed", {})
    rule |= {f"differs, {name}": values for name, values in differing.items()}
    rows = [(name, _listed(value)) for name, value in rule.items()]
    return pd.DataFrame(rows, columns=["declared", "value"])


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
