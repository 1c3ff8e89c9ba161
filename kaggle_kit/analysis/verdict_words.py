"""The verdict in sentences, made from its document alone.

for sentence in (*in_words(document), *gains_in_words(document)): print(sentence)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kaggle_kit.analysis.verdict_rule import EXPOSURE, GENUINE, NEGATIVE

TOYS = ("smoke", "practice")
CLAIMS = {
    GENUINE: "better than one task alone at equal tokens",
    NEGATIVE: "worse than one task alone at equal tokens",
    EXPOSURE: "as good as one task alone at equal tokens",
}


def in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """One sentence or two on every task, and on all tasks."""
    if toys := [mark for mark in TOYS if mark in document.get("marks", ())]:
        yield f"NOT A RESULT: these are {' and '.join(toys)} runs."
    if not document["controls"]:
        yield f"{document['verdict']}: {document['reason']}."
        return
    rule = document["rule"]
    total = document["controls"]["total"]
    for task, found in total["tasks"].items():
        yield f"{task}: {_sentence(found, rule, '')}"
    yield f"all tasks: {_overall(total['overall'], rule)}"


def gains_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Where a gain over the task's own share of the tokens comes from; nothing without that control."""
    total, share = (document["controls"].get(name, {"tasks": {}})["tasks"] for name in ("total", "share"))
    yield from (f"{task}: {decomposition(total[task], found)}" for task, found in share.items())


def decomposition(total: Mapping[str, Any], share: Mapping[str, Any]) -> str:
    """The gain over the task's own share of tokens, split at the control of all tokens."""
    more_tokens = share["difference"] - total["difference"]
    return (
        f"{_signed(share['difference'])} against the control with only its own share of the tokens, of which "
        f"{_signed(more_tokens)} comes with more tokens of the same task and "
        f"{_signed(total['difference'])} with those of other tasks ({share['verdict']} against this control)."
    )


def _overall(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    if "reason" in found:
        return f"{found['verdict']}; {found['reason']}."
    return _sentence(found, rule, " of the control's score, on average over tasks")


def _sentence(found: Mapping[str, Any], rule: Mapping[str, Any], unit: str) -> str:
    low, high = found["interval"]
    confidence = f"{1 - rule['alpha']:.0%}"
    estimate = (
        f"{_signed(found['difference'])}{unit}, {confidence} interval {_signed(low)} to {_signed(high)}"
    )
    there = f"test of no difference: p = {found['p_holm']:.3g}"
    within = f"test of a difference beyond ±{found['margin']:.4g}: p = {found['equivalence_p_holm']:.3g}"
    verdict = found["verdict"]
    if verdict in (GENUINE, NEGATIVE):
        small = ", though shown to be smaller than the margin" if found["within_margin"] else ""
        return f"{verdict} — {CLAIMS[verdict]}{small}: {estimate} ({there})."
    if verdict == EXPOSURE:
        return f"{verdict} — {CLAIMS[verdict]}: {estimate} ({within})."
    return f"{verdict} — neither is shown: {estimate} ({there}; {within}). {_more(found, rule)}"


def _more(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    given = f"Were the difference as estimated, {rule['power']:.0%} power would take"
    if found["more_seeds"] is None:
        return f"{given} more documents: no number of seeds is enough."
    return f"{given} {found['more_seeds']} more seed(s) beside the {found['seeds']} there are."


def _signed(value: float) -> str:
    return f"{value:+.4f}"
