"""From a trained model and an encoded split to predicted samples.

    predictions = Predictor(model, token_budget=4096, device="cpu").predict(encoded, samples)

A predicted sample is the gold sample with its annotations replaced; official writers and the
prediction file take it as it is. How outputs become annotations is told per kind in `decode`.
Relations are found in a second pass, between the mentions that the first one found; the backbone reads each
row once for both, as far as memory allows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaggle_kit.batches.batch import MicroBatch, make_batch
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import PlannedBatch
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.types import ComponentSpec, Kind, Mention, UnifiedSample, relation_parts
from kaggle_kit.heads import KINDS
from kaggle_kit.heads.arrays import Scored
from kaggle_kit.heads.relations import all_links
from kaggle_kit.heads.thresholds import choose_thresholds
from kaggle_kit.models.multitask import MultiTaskModel

ENTITY_KINDS = (Kind.TOKENS, Kind.SPANS)
KEPT = 1 << 30  # bytes of hidden states that wait for a second pass
Samples = Sequence[UnifiedSample]


class KeptStates:
    """Hidden states that one pass over a split has read and the next one takes, inside a `with` block.

    They hold up to `KEPT` bytes; what finds no room, and all outside of a block, is read anew.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[int, ...], dict[int, Tensor]] = {}  # by the batch's rows
        self._room = 0

    def __enter__(self) -> None:
        self._room = KEPT

    def __exit__(self, *_: object) -> None:
        self._states.clear()
        self._room = 0

    def states(self, model: MultiTaskModel, batch: MicroBatch) -> dict[int, Tensor]:
        """Take the batch's states out of those kept, or read it and keep them where there is room."""
        if batch.rows in self._states:
            return self._states.pop(batch.rows)
        states = model.states(batch)
        size = sum({id(one): one.nbytes for one in states.values()}.values())
        if size <= self._room:
            self._states[batch.rows] = states
            self._room -= size
        return states


@dataclass(frozen=True)
class Predictor:
    """A trained model and how it reads: micro-batches of at most `token_budget` tokens, device, precision.

    `samples` are always those that a split was encoded from, in order.
    """

    model: MultiTaskModel
    token_budget: int
    device: str
    float16: bool = False
    _kept: KeptStates = field(default_factory=KeptStates, repr=False)

    def predict(self, encoded: EncodedTask, samples: Samples) -> list[UnifiedSample]:
        """Return one predicted sample per given sample, in order.

        Where the task has no component for entities, or its `gold_entities` is set, the gold mentions are
        taken as given, without their attributes and (unless relations hold between these) concepts.
        """
        with self._kept:
            predicted = self._without_relations(encoded, samples)
            return self._decode(encoded, relation_parts(encoded.spec), samples, predicted)

    def fit_thresholds(self, encoded: EncodedTask, samples: Samples) -> dict[str, tuple[float, float, float]]:
        """Set the thresholds of the task's relation heads to the best for these development samples.

        Returns component -> (of all samples, of half 0, of half 1), as `heads/thresholds.py` explains;
        empty for a task without relations, which is not read.
        """
        parts, chosen = relation_parts(encoded.spec), {}
        if not parts:
            return {}
        with self._kept:
            predicted = self._without_relations(encoded, samples)
            table, outputs = self._read(encoded, predicted)
        for part in parts:
            links = all_links(part, Scored(table, outputs[part.name], samples, predicted))
            chosen[part.name] = choose_thresholds(part, links, samples, predicted)
            head = self.model.heads[encoded.spec.name][part.name]
            head.thresholds.copy_(torch.tensor(chosen[part.name]))
        return chosen

    @torch.inference_mode()
    def outputs(self, encoded: EncodedTask) -> dict[str, list[Any]]:
        """Return each component's outputs per encoded row, as its kind's `split` cuts them."""
        self.model.eval()
        kinds = {part.name: part.kind for part in encoded.spec.components}
        rows: dict[str, list[Any]] = {name: [None] * len(encoded) for name in kinds}
        for planned in by_length(encoded, self.token_budget):
            batch = make_batch(encoded, planned).to(self.device)
            with torch.autocast(self.device, torch.float16, enabled=self.float16 and self.device != "cpu"):
                outputs = self.model.logits(batch, self._kept.states(self.model, batch))
            for name, output in outputs.items():
                _refuse_not_finite(output, f"{name} of {encoded.spec.name}")
                parts = KINDS[kinds[name]].split(output, batch.targets[name])
                for row, part in zip(planned.rows, parts, strict=True):
                    rows[name][row] = part
        return rows

    def _without_relations(self, encoded: EncodedTask, samples: Samples) -> list[UnifiedSample]:
        """Predict all but relations, the first pass; where nothing is left, return bare samples."""
        spec = encoded.spec
        given = spec.gold_entities or not any(part.kind in ENTITY_KINDS for part in spec.components)
        left_out = (Kind.RELATIONS, *ENTITY_KINDS) if given else (Kind.RELATIONS,)
        parts = [part for part in spec.components if part.kind not in left_out]
        concepts = any(part.concepts for part in relation_parts(spec))
        bare = [_bare(sample, given, concepts) for sample in samples]
        return self._decode(encoded, parts, samples, bare)

    def _decode(
        self, encoded: EncodedTask, parts: Sequence[ComponentSpec], samples: Samples, known: Samples
    ) -> list[UnifiedSample]:
        """What these components predict, in one pass, beside what is `known`."""
        predicted = list(known)
        if not parts:
            return predicted
        table, outputs = self._read(encoded, predicted)
        for part in parts:
            head = self.model.heads[encoded.spec.name][part.name]
            scored = Scored(table, outputs[part.name], samples, predicted)
            predicted = KINDS[part.kind].decode(part, head, scored)
        return predicted

    def _read(self, encoded: EncodedTask, known: Samples) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """Return all rows' columns and outputs, with relations between the mentions that are `known`."""
        related = encoded.relating(known)
        return related.rows(range(len(related))), self.outputs(related)


def _refuse_not_finite(output: Any, head: str) -> None:
    """Raise KitError for a score that is NaN or infinite: a comparison with one is silently false."""
    if not all(part.isfinite().all() for part in ([output] if isinstance(output, Tensor) else output)):
        then = "train it again with a lower training.learning_rate"
        raise KitError(f"{head}: the model scores NaN or infinity, of which nothing follows; {then}")


def by_length(encoded: EncodedTask, token_budget: int) -> Iterator[PlannedBatch]:
    """Yield all rows, longest first, in micro-batches of at most `token_budget` tokens.

    A question's candidates follow each other, so that its tokens can be read once for many of them.
    """
    lengths, groups = encoded.lengths, encoded.groups
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    longest = np.maximum.reduceat(lengths, first)[group]
    batch: list[int] = []
    tokens = 0
    for row in np.lexsort((-lengths, groups, -longest)).tolist():
        length = int(lengths[row])
        if batch and tokens + length > token_budget:
            yield _planned(encoded, batch, tokens)
            batch, tokens = [], 0
        batch.append(row)
        tokens += length
    if batch:
        yield _planned(encoded, batch, tokens)


def _planned(encoded: EncodedTask, rows: Sequence[int], tokens: int) -> PlannedBatch:
    ordered = sorted(rows, key=lambda row: -encoded.lengths[row])
    return PlannedBatch(encoded.spec.name, tuple(ordered), tokens)


def _bare(sample: UnifiedSample, given: bool, concepts: bool) -> UnifiedSample:
    """Return the sample without annotations; `given` mentions keep place, type and id, maybe concepts."""
    kept = sample.mentions if given else ()
    mentions = tuple(Mention(m.id, m.fragments, m.type, m.concepts if concepts else ()) for m in kept)
    return replace(sample, mentions=mentions, relations=(), pairs=())
