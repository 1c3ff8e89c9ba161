"""What each kind of component learns from: columns in the token file, then tensors of a micro-batch.

One module per kind, all with the same four functions; `TARGETS[component.kind]` is the module.

    features(component)                      -> names and types of its columns
    columns(component, sequences, sample)    -> one dict per sequence of the sample
    tensors(component, rows, starts)         -> the targets its head is given
    count(targets)                           -> how many things its loss is averaged over

`starts` is where each row begins in the flat row of tokens. Every target holds `sizes` (rows,): how
many of the head's outputs belong to each row.
"""

from __future__ import annotations

from types import ModuleType

from kaggle_kit.core.types import Kind
from kaggle_kit.heads.targets import ranking, relations, spans, tokens

TARGETS: dict[Kind, ModuleType] = {
    Kind.TOKENS: tokens,
    Kind.SPANS: spans,
    Kind.RELATIONS: relations,
    Kind.RANKING: ranking,
}

__all__ = ["TARGETS"]
