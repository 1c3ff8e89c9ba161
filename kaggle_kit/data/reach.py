"""How many of the relations of a split are candidates at all: what no candidate holds, no model can find.

reach(encoded, samples)                     # {"relations": (648, 692)}: reached, all
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaggle_kit.core.types import UnifiedSample, relation_parts
from kaggle_kit.data.candidates import labelled
from kaggle_kit.data.encode import EncodedTask
from kaggle_kit.data.targets import relations

ENOUGH = 0.9  # of the relations; fewer deserve a word


def reach(encoded: EncodedTask, samples: Sequence[UnifiedSample]) -> dict[str, tuple[int, int]]:
    """Relation component -> (gold pairs among the candidates, gold pairs). `samples` are those encoded.

    A pair with several labels counts once. The rest lies in two passages, farther apart than training's
    relations, or between types that training does not relate.
    """
    columns = encoded.rows(range(len(encoded)))
    return {
        part.name: (
            relations.counted(part, columns)[0],
            sum(len({ends for ends, _ in labelled(part, sample)}) for sample in samples),
        )
        for part in relation_parts(encoded.spec)
    }


def out_of_reach(encoded: EncodedTask, samples: Sequence[UnifiedSample]) -> Iterator[str]:
    """A sentence for each component that reaches fewer than `ENOUGH` of its relations, and what helps."""
    for name, (reached, total) in reach(encoded, samples).items():
        if reached < ENOUGH * total:
            task = encoded.spec.name
            yield (
                f"{task}: {reached} of {total} gold pairs of {name} are candidates; to reach more set "
                f"tasks.{task}.segments=windows, and raise training.max_length and training.stride"
            )
