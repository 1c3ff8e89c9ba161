"""A kind of component per file: targets, module, loss and decoding. `KINDS[component.kind]` is the module.

    features(component)                      -> names and types of its columns in the token file
    columns(component, sequences, sample)    -> one dict per sequence of the sample
    tensors(component, rows, starts)         -> the targets of a micro-batch, which its head is given
    count(targets)                           -> how many things its loss is averaged over
    split(output, targets)                   -> what belongs to each row, on the CPU
    decode(component, head, scored)          -> the predicted samples, added to
    HEAD(component, hidden_size)             -> the module

`starts` is where each row begins in the flat row of tokens. Every target holds `sizes` (rows,): how
many of the head's outputs belong to each row. `scored` holds the encoded columns of all rows, and one part
of the outputs per row in the same order.

A head sees real tokens only: `hidden` is (tokens, hidden_size), one flat row without padding.

    logits = head(hidden, targets)
    loss = head.loss(logits, targets)        # a sum; the trainer divides by what was counted
"""

from types import ModuleType

from torch import nn

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import ranking, relations, spans, tokens

KINDS: dict[Kind, ModuleType] = {
    Kind.TOKENS: tokens,
    Kind.SPANS: spans,
    Kind.RELATIONS: relations,
    Kind.RANKING: ranking,
}


def build_head(component: ComponentSpec, hidden_size: int, *, decoder: bool) -> nn.Module:
    """Build a component's float32 head. A ranking head pools a decoder's last token, an encoder's mean."""
    if component.kind is Kind.RANKING:
        return ranking.SequenceRankingHead(component, hidden_size, last_token=decoder)
    return KINDS[component.kind].HEAD(component, hidden_size)
