"""From a head's outputs to annotations, one module per kind, all with the same two functions.

    split(output, targets)                                    -> what belongs to each row, on the CPU
    decode(component, head, table, outputs, gold, predicted)  -> the predicted samples, added to

`table` holds the encoded columns of all rows, `outputs` one part per row in the same order.
`DECODE[component.kind]` is the module.
"""

from __future__ import annotations

from types import ModuleType

from kaggle_kit.core.types import Kind
from kaggle_kit.heads.decode import ranking, relations, spans, tokens

DECODE: dict[Kind, ModuleType] = {
    Kind.TOKENS: tokens,
    Kind.SPANS: spans,
    Kind.RELATIONS: relations,
    Kind.RANKING: ranking,
}

__all__ = ["DECODE"]
