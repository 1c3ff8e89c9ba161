"""How often gradients conflict, and how much oftener between two tasks than within one.

    counts = ConflictCounts()
    counts.add(report.record())                 # of every step
    counts.excess("shared", "ner", "qa")        # share of conflicts between the tasks beyond that within them

Two gradients conflict where their cosine is below 0 (Yu et al. 2020). A noisy gradient conflicts with
another one of its own task too, and oftener the fewer examples it is a mean of. So like is compared with
like: half batches of two tasks against half batches of one task.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from statistics import fmean
from typing import Any

PAIR = " × "  # between two names in the log of conflicts
KINDS = ("cosines", "halves", "components")  # of what one parameter group's record holds


def pair_of(one: str, other: str) -> str:
    """Return the key of two names in the log, whichever comes first."""
    return PAIR.join(sorted((one, other)))


class ConflictCounts:
    """Steps, conflicts and the sum of cosines by parameter group, kind and pair; plain JSON in `table`."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, dict[str, list[float]]]] = {}

    def add(self, record: Mapping[str, Mapping[str, Any]]) -> None:
        """Count one step. `record` is that of `ConflictReport`; what is not finite is left out."""
        for group, found in record.items():
            kinds = self.table.setdefault(group, {kind: {} for kind in KINDS})
            for kind, pair, cosine in _cosines(found):
                if math.isfinite(cosine):  # else a gradient overflowed in float16 and its step was skipped
                    count, conflicts, total = kinds[kind].get(pair, [0, 0, 0.0])
                    kinds[kind][pair] = [count + 1, conflicts + (cosine < 0), total + cosine]

    def excess(self, group: str, one: str, other: str) -> float | None:
        """Return the share of conflicts between halves of two tasks, minus the mean share within either.

        None where the pair, or either of the tasks, was never halved.
        """
        halves = self.table.get(group, {}).get("halves", {})
        pairs = [pair_of(one, other), pair_of(one, one), pair_of(other, other)]
        if any(pair not in halves for pair in pairs):
            return None
        between, *within = (conflicts / count for count, conflicts, _ in (halves[pair] for pair in pairs))
        return between - fmean(within)

    def summary(self) -> dict[str, Any]:
        """Return by group the rates over all pairs, of each, of halves and components, the excess."""
        return {group: self._sum_up(group) for group, kinds in self.table.items() if any(kinds.values())}

    def _sum_up(self, group: str) -> dict[str, Any]:
        kinds = self.table[group]
        rates = {kind: {pair: _rates([counts]) for pair, counts in kinds[kind].items()} for kind in KINDS}
        summed: dict[str, Any] = _rates(kinds["cosines"].values()) if kinds["cosines"] else {}
        summed["pairs"] = rates["cosines"]
        summed |= {kind: rates[kind] for kind in KINDS[1:] if rates[kind]}
        halved = sorted({name for pair in kinds["halves"] for name in pair.split(PAIR)})
        found = {pair_of(a, b): self.excess(group, a, b) for a, b in combinations(halved, 2)}
        if known := {pair: value for pair, value in found.items() if value is not None}:
            summed |= {"excess": fmean(known.values()), "excess_by_pair": known}
        return summed


def _cosines(found: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(kind, pair, cosine) of one group's record; the pairs of components carry their task's name."""
    for pair, cosine in found.get("cosines", {}).items():
        yield "cosines", pair_of(*pair.split(PAIR)), cosine
    for pair, several in found.get("halves", {}).items():
        yield from (("halves", pair_of(*pair.split(PAIR)), cosine) for cosine in several)
    for task, pairs in found.get("components", {}).items():
        yield from (("components", f"{task}: {pair}", cosine) for pair, cosine in pairs.items())


def _rates(counted: Iterable[list[float]]) -> dict[str, float]:
    steps, conflicts, cosines = map(sum, zip(*counted, strict=True))
    rates = {"conflict_rate": conflicts / steps, "mean_cosine": cosines / steps}
    return {"steps": steps, "conflicts": conflicts, **rates}
