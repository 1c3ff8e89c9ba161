"""Counting what a run has seen: real tokens per task, at every step, once.

    tracker = TokenTracker(["semeval2014t7", "semeval2017t3"], sharing=["semeval2017t3"])
    tracker.count(rows)          # the step's micro-batches, by the rows in which they are read
    tracker.record()             # {"step": 1, "tokens": {...}, "total": {...}, ...}

A token counts when a sequence holds it in training: `(attention_mask != 0).sum()` of the padded batch,
which for an unpadded row is its length. Evaluation and smoke steps are never counted. Reported apart are,
of the tokens counted, those that a neighbouring window reads as well (`overlap`), those that lie in a row
with another sequence (`packed`) and those whose states were taken from a sequence that begins alike
(`shared`: a question is read once for all its candidates, yet counts for each; the others are `computed`);
and beside them the queries without a token that attention pads its groups with (`padding`; linear layers
see none, nor does FlashAttention).
"""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.models.packing import attention_padding

APART = ("overlap", "packed", "shared", "padding")


class TokenTracker:
    """Cumulative counters whose state is part of a checkpoint, so a resume never counts twice.

    `sharing`: the tasks for which attention is causal, so that sequences share their beginnings.
    """

    def __init__(self, tasks: Iterable[str], *, sharing: Iterable[str] = ()) -> None:
        self.sharing = frozenset(sharing)
        self.step = 0
        self.total = dict.fromkeys(tasks, 0)
        self.apart = {kind: dict.fromkeys(self.total, 0) for kind in APART}
        self._last: dict[str, dict[str, int]] = {"tokens": {}, "computed": {}}

    @property
    def computed(self) -> dict[str, int]:
        """Tokens so far whose states were computed anew, per task: all but the shared ones."""
        return {task: count - self.apart["shared"][task] for task, count in self.total.items()}

    def count(self, rows: Iterable[Sequence[MicroBatch]]) -> None:
        """Count one optimiser step's micro-batches, by the rows in which they are read together.

        KeyError for a task that is none of the run's.
        """
        self.step += 1
        tokens, computed = Counter[str](), Counter[str]()
        for row in rows:
            prefixes = [batch.prefixes if batch.task in self.sharing else () for batch in row]
            padding = attention_padding([batch.lengths for batch in row], prefixes)
            for batch, begins, padded in zip(row, prefixes, padding, strict=True):
                task, shared = batch.task, sum(prefix.tokens for prefix in begins)
                tokens[task] += batch.tokens
                computed[task] += batch.tokens - shared
                self.total[task] += batch.tokens
                self.apart["overlap"][task] += batch.overlap_tokens
                self.apart["packed"][task] += batch.tokens if len(batch.lengths) > 1 else 0
                self.apart["shared"][task] += shared
                self.apart["padding"][task] += padded
        self._last = {"tokens": dict(tokens), "computed": dict(computed)}

    def record(self) -> dict[str, Any]:
        """Return the line of `tokens.jsonl` for the step counted last."""
        return {"step": self.step, **self._last, **self.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """Return all cumulative counts as plain values, for the checkpoint."""
        return {"step": self.step, "total": dict(self.total), **copy.deepcopy(self.apart)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from there; a task that has seen nothing there stays at nought."""
        self.step = int(state["step"])
        self.total = dict.fromkeys(self.total, 0) | state["total"]
        self.apart = {kind: dict.fromkeys(self.total, 0) | state[kind] for kind in APART}
        self._last = {"tokens": {}, "computed": {}}
