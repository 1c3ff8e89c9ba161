"""Precision, recall and F1 from counts, named as a scorer names them.

ratios("entity", right=3, predicted=4, gold=6)     # entity_precision 0.75, entity_recall 0.5, entity_f1 0.6
"""

from __future__ import annotations


def ratios(name: str, *, right: int, predicted: int, gold: int) -> dict[str, float]:
    """The three figures, 0 to 1, and 0 where undefined."""
    precision = right / predicted if predicted else 0.0
    recall = right / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_f1": f1}


def counts(*, right: int, predicted: int, gold: int) -> dict[str, int]:
    """The same counts as hits, false positives and misses: what a document adds to `ratios`."""
    return {"tp": right, "fp": predicted - right, "fn": gold - right}
