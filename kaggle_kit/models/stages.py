"""A backbone taken apart: embed, some layers, more layers, final norm.

    stages = stages_of(backbone)
    hidden = stages.embed(batch, layout)
    hidden = stages.run(hidden, range(4), layout)      # layers 0–3
    hidden = stages.finish(stages.run(hidden, range(4, 8), layout))

Run from first to last layer it gives the backbone's own last hidden states. It calls the library's
own modules in the library's order, for decoders (Llama, Mistral, Phi-3, Gemma-2) and BERT encoders.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.packing import PackedLayout


class DecoderStages:
    """Token embedding, rotary positions, layers, final norm."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        self.backbone = backbone
        self.layers = backbone.layers

    def embed(self, batch, layout: PackedLayout) -> Tensor:
        """(1, tokens, hidden)"""
        return self.backbone.embed_tokens(layout.fold(batch.input_ids)[None])

    def run(self, hidden: Tensor, numbers: Iterable[int], layout: PackedLayout) -> Tensor:
        positions = layout.position_ids[None]
        rotary = self.backbone.rotary_emb(hidden, position_ids=positions)
        for number in numbers:
            hidden = self.layers[number](
                hidden,
                attention_mask=None,
                position_ids=positions,
                position_embeddings=rotary,
                use_cache=False,
                packed=layout,
            )
        return hidden

    def finish(self, hidden: Tensor) -> Tensor:
        return self.backbone.norm(hidden)


class EncoderStages:
    """BERT: summed embeddings, layers, nothing after them."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        self.backbone = backbone
        self.layers = backbone.encoder.layer

    def embed(self, batch, layout: PackedLayout) -> Tensor:
        """(1, tokens, hidden)"""
        return self.backbone.embeddings(
            input_ids=layout.fold(batch.input_ids)[None],
            token_type_ids=layout.fold(batch.type_ids)[None],
            position_ids=layout.position_ids[None],
        )

    def run(self, hidden: Tensor, numbers: Iterable[int], layout: PackedLayout) -> Tensor:
        for number in numbers:
            hidden = self.layers[number](hidden, None, packed=layout)
        return hidden

    def finish(self, hidden: Tensor) -> Tensor:
        return hidden


def stages_of(backbone: PreTrainedModel) -> DecoderStages | EncoderStages:
    """The stages of a backbone. Raises ConfigError for a family that cannot be cut here."""
    if hasattr(backbone, "layers") and hasattr(backbone, "rotary_emb"):
        return DecoderStages(backbone)
    if hasattr(backbone, "encoder") and hasattr(backbone.encoder, "layer"):
        return EncoderStages(backbone)
    raise ConfigError(
        f"{type(backbone).__name__} cannot be cut between layers; the hierarchical strategy knows Llama, "
        "Mistral, Phi-3, Gemma-2 and BERT"
    )
