"""A kind of component per file: targets, module, loss and decoding. `KINDS[component.kind]` is the module.

    features(component)                      -> names and types of its columns in the token file
    columns(component, sequences, sample)    -> one dict per sequence of the sample
    tensors(component, rows, starts)         -> the targets of a micro-batch, which its head is given
    count(targets)                           -> how many things its loss is averaged over
    split(output, targets)                   -> what belongs to each row, on the CPU
    decode(component, head, table, outputs, gold, predicted)  -> the predicted samples, added to

`starts` is where each row begins in the flat row of tokens. Every target holds `sizes` (rows,): how
many of the head's outputs belong to each row. `table` holds the encoded columns of all rows, `outputs` one
part per row in the same order.

A head sees real tokens only: `hidden` is (tokens, hidden_size), one flat row without padding.

    logits = head(hidden, targets)
    loss = head.loss(logits, targets)        # a sum; the trainer divides by what was counted
"""

from __future__ import annotations

from types import ModuleType

from torch import nn

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import ranking, relations, spans, tokens
from kaggle_kit.heads.ranking import SequenceRankingHead
from kaggle_kit.heads.relations import RelationExtractionHead
from kaggle_kit.heads.spans import SpanClassificationHead
from kaggle_kit.heads.tokens import TokenClassificationHead

__all__ = [
    "KINDS",
    "RelationExtractionHead",
    "SequenceRankingHead",
    "SpanClassificationHead",
    "TokenClassificationHead",
    "build_head",
]

KINDS: dict[Kind, ModuleType] = {
    Kind.TOKENS: tokens,
    Kind.SPANS: spans,
    Kind.RELATIONS: relations,
    Kind.RANKING: ranking,
}
HEADS = {
    Kind.TOKENS: TokenClassificationHead,
    Kind.SPANS: SpanClassificationHead,
    Kind.RELATIONS: RelationExtractionHead,
}


def build_head(component: ComponentSpec, hidden_size: int, *, decoder: bool) -> nn.Module:
    """The head of a component, float32. A ranking head pools a decoder's last token, an encoder's mean."""
    if component.kind is Kind.RANKING:
        return SequenceRankingHead(component, hidden_size, pooling="last" if decoder else "mean")
    return HEADS[component.kind](component, hidden_size)
