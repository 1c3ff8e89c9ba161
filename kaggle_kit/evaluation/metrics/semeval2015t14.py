"""SemEval-2015 Task 14, disorders (task 1) and their slots (task 2), as the organisers' scripts.

    figures = score(Path("gold"), Path("predictions"))
    figures["task1_strict_f1"], figures["task2a_weighted_accuracy"]

Known defects stand under the official names. In task 2 a gold disorder that was found exactly
changes its partner when a further prediction meets it, and the first one vanishes; partners are
taken greedily, in an arbitrary order (here: that of the files), with all that another gold disorder
could have had; the weights know `doner_other` only, so `donor_other` weighs nothing. The figures
with the suffix `_corrected` pair one to one, exact pairs first and then as many as possible with
the largest overlap, and read both spellings as one. `task1_spans_*`, not official, is the strict figure
of the spans alone: what was found, whatever concept a look-up gave it. Source: Elhadad et al. 2015
(S15-2051) and github.com/cemantix/semeval-2015-task-14-scoring.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.evaluation.metrics.common import counts, file_lines, named, pipe_files, ratios

CUI, BODY_LOCATION = "cui", "body_location"
MARKED = 0.95  # what a departure from the default weighs in most slots
CHANGES = ("increased", "improved", "worsened", "resolved", "decreased", "changed")
WEIGHTS: dict[str, dict[str, float]] = {
    "negation": {"no": 0.21, "yes": 0.79},
    "subject": {"patient": 0.05, "family_member": MARKED, "other": MARKED, "doner_other": MARKED},
    "uncertainty": {"no": 0.07, "yes": 0.93},
    "course": {"unmarked": 0.05, **dict.fromkeys(CHANGES, MARKED)},
    "severity": {"unmarked": 0.08, "moderate": MARKED, "severe": MARKED, "slight": MARKED},
    "conditional": {"false": 0.06, "true": 0.94},
    "generic": {"false": 0.05, "true": MARKED},
}
SLOTS = (CUI, *WEIGHTS, BODY_LOCATION)
FIELDS = 19


@dataclass
class Disorder:
    """One span of a document. `values` are CUI and closed slots, `locations` a set with `null`."""

    pieces: list[tuple[int, int]]
    values: dict[str, str]
    locations: set[str] = field(default_factory=set)

    def agrees(self, other: Disorder, slot: str) -> bool:
        """Whether a slot has the same value in both; body locations need one in common."""
        if slot == BODY_LOCATION:
            return not self.locations.isdisjoint(other.locations)
        return self.values[slot] == other.values[slot]

    def weight(self, slot: str) -> float:
        """Return the slot's weight when this is the gold disorder."""
        if slot == BODY_LOCATION:
            return 0.51 if self.locations <= {"null"} else 0.49
        return 1.0 if slot == CUI else WEIGHTS[slot].get(self.values[slot], 0.0)

    def extent(self, other: Disorder) -> int:
        """Return the positions that the best pair of pieces has in common, ends counted as positions."""
        common = (min(e, f) - max(s, t) + 1 for s, e in self.pieces for t, f in other.pieces)
        return max([0, *common])


Spans = dict[str, Disorder]  # span string -> disorder, within one document
Partners = dict[str, str]  # gold span -> predicted span
Pairing = Callable[[Spans, Spans], tuple[Partners, int]]  # -> partners, false positives


Pair = tuple[Disorder, Disorder]  # gold, predicted


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Return all figures of two folders of `.pipe` files, unrounded; `wa_<slot>` only where a pair weighs in.

    Tasks 2A and 2B differ in what a system is given, not in how it is scored. Raises ScoreError for
    a missing folder, or a gold folder without pipe files.
    """
    if not pipe_files(gold, "*.pipe*"):
        raise ScoreError(f"{gold}: no file with .pipe in its name; give the folder of the gold files")
    official = _read(gold), _read(pred)
    one_donor = _read(gold, one_donor=True), _read(pred, one_donor=True)
    figures: dict[str, float] = {}
    for name, pairing in PAIRINGS.items():
        figures |= ratios(f"{name}_{{}}", **_match(*official, pairing)[1])
    relaxed = partial(_one_to_one, with_cui=True)
    figures |= ratios("task1_relaxed_{}_corrected", **_match(*one_donor, relaxed)[1])
    task2 = _slot_figures(*_match(*official, _greedy))
    task2_corrected = _slot_figures(*_match(*one_donor, _one_to_one))
    for task in ("task2a", "task2b"):
        figures |= named(task + "_{}", task2) | named(task + "_{}_corrected", task2_corrected)
    return figures


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """Return each gold document's counts for an F1 of task 1, by its lower-cased name."""
    pairing = PAIRINGS.get(metric.removesuffix("_f1"))
    if pairing is None or not metric.endswith("_f1"):
        return None
    wanted, found = _read(gold), _read(pred)
    return {name: counts(**_match({name: spans}, found, pairing)[1]) for name, spans in wanted.items()}


# --- reading ---------------------------------------------------------------------------------------


def _read(folder: Path, one_donor: bool = False) -> dict[str, Spans]:
    """document name -> its disorders. Of lines with one span the last gives CUI and slots."""
    documents: dict[str, Spans] = {}
    for path in pipe_files(folder, "*.pipe*"):
        # Bytes are lower-cased as the scripts do it: ASCII letters only, names of documents too.
        for line in file_lines(path):
            fields = line.lower().decode("latin-1").rstrip("\r").split("|")
            if not any(fields[1:]):
                continue
            fields += [""] * (FIELDS - len(fields))
            document, span, cui, *slots = fields
            if one_donor:
                slots = ["doner_other" if value == "donor_other" else value for value in slots]
            spans = documents.setdefault(document, {})
            disorder = spans.setdefault(span, Disorder(_pieces(span), {}))
            disorder.values = {CUI: cui, **dict(zip(WEIGHTS, slots[::2], strict=False))}
            disorder.locations.add(slots[2 * len(WEIGHTS)])
    return documents


def _pieces(span: str) -> list[tuple[int, int]]:
    ends = (piece.partition("-") for piece in span.split(",")) if span else ()
    return [(_number(start), _number(end)) for start, _, end in ends]


def _number(text: str) -> int:
    """Return the leading digits of a field, 0 without any, as Perl reads a number."""
    digits = re.match(r"\s*[0-9]+", text)
    return int(digits[0]) if digits else 0


# --- pairing ---------------------------------------------------------------------------------------


def _match(
    gold: dict[str, Spans], pred: dict[str, Spans], pairing: Pairing
) -> tuple[list[Pair], dict[str, int]]:
    """Pairs and the counts of `ratios`. Predictions for documents without gold are ignored."""
    pairs: list[Pair] = []
    predicted = 0
    for document, answers in gold.items():
        guesses = pred.get(document, {})
        partners, false_positives = pairing(answers, guesses)
        pairs += [(answers[g], guesses[p]) for g, p in partners.items()]
        predicted += len(partners) + false_positives
    return pairs, {"right": len(pairs), "predicted": predicted, "gold": sum(map(len, gold.values()))}


def _exact(gold: Spans, pred: Spans, with_cui: bool) -> Partners:
    shared = (span for span in gold if span in pred)
    return {span: span for span in shared if not with_cui or gold[span].agrees(pred[span], CUI)}


def _strict(gold: Spans, pred: Spans, with_cui: bool = True) -> tuple[Partners, int]:
    partners = _exact(gold, pred, with_cui)
    return partners, len(pred) - len(partners)


def _greedy(gold: Spans, pred: Spans, with_cui: bool = False) -> tuple[Partners, int]:
    """Each gold disorder takes all that is left and meets it, and keeps the largest overlap.

    Task 1 (`with_cui`) passes over a gold disorder whose own span is taken; task 2 does not, so an
    exact pair can be undone.
    """
    partners = _exact(gold, pred, with_cui)
    taken = set(partners.values())
    false_positives = 0
    for span, disorder in gold.items():
        if with_cui and span in taken:
            continue
        meeting = {p: _extent(disorder, pred[p], with_cui) for p in pred if p not in taken}
        meeting = {p: extent for p, extent in meeting.items() if extent}
        if meeting:
            taken |= meeting.keys()
            partners[span] = max(meeting, key=meeting.__getitem__)
            false_positives += len(meeting) - 1
    return partners, false_positives + len(pred.keys() - taken)


def _one_to_one(gold: Spans, pred: Spans, with_cui: bool = False) -> tuple[Partners, int]:
    """Exact pairs, then the largest number of pairs among the rest, then the largest overlap."""
    partners = _exact(gold, pred, with_cui)
    left = [span for span in gold if span not in partners]
    right = [span for span in pred if span not in partners]
    extents = np.array([[_extent(gold[g], pred[p], with_cui) for p in right] for g in left])
    if extents.size:
        gain = np.where(extents > 0, extents + extents.sum(), 0)  # one pair more beats any overlap
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if extents[row, column]:
                partners[left[row]] = right[column]
    return partners, len(pred) - len(partners)


def _extent(gold: Disorder, pred: Disorder, with_cui: bool) -> int:
    return gold.extent(pred) if not with_cui or gold.agrees(pred, CUI) else 0


PAIRINGS: dict[str, Pairing] = {
    "task1_strict": _strict,
    "task1_spans": partial(_strict, with_cui=False),
    "task1_relaxed": partial(_greedy, with_cui=True),
}


# --- figures ---------------------------------------------------------------------------------------


def _slot_figures(pairs: list[Pair], sizes: dict[str, int]) -> dict[str, float]:
    """Accuracies are means over pairs; `wa_<slot>` is the weight got right over the weight there."""
    # (pairs, slots): what each slot weighs, and whether it is right
    weights = np.array([[gold.weight(slot) for slot in SLOTS] for gold, _ in pairs]).reshape(-1, len(SLOTS))
    right = np.array([[g.agrees(p, slot) for slot in SLOTS] for g, p in pairs], dtype=bool).reshape(
        weights.shape
    )
    gained = np.where(right, weights, 0.0)
    accuracy = float(right.mean()) if pairs else 0.0
    weighted = float((gained.sum(axis=1) / weights.sum(axis=1)).mean()) if pairs else 0.0
    figures = ratios("{}", **sizes)
    figures |= {"accuracy": accuracy, "f1_times_accuracy": figures["f1"] * accuracy}
    figures |= {"weighted_accuracy": weighted, "f1_times_weighted_accuracy": figures["f1"] * weighted}
    for slot, gain, total in zip(SLOTS, gained.sum(axis=0), weights.sum(axis=0), strict=True):
        if total:
            figures[f"wa_{slot}"] = float(gain / total)
    return figures
