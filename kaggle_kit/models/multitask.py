"""Backbone, adapter and heads as one module that turns a micro-batch into losses or logits.

    model = MultiTaskModel(attach_lora(backbone, lora, "single"), specs, causal=True)
    outputs = model(batch)                     # component -> logits
    loss_sums = model.losses(batch, outputs)   # component -> scalar sum
"""

from __future__ import annotations

from collections.abc import Iterable

from peft import PeftModel
from torch import Tensor, nn

from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.heads import build_head
from kaggle_kit.models.packing import PackedLayout


class MultiTaskModel(nn.Module):
    """One backbone for all tasks, one head per component. The backbone runs on unpadded rows."""

    def __init__(self, backbone: PeftModel, specs: Iterable[TaskSpec], *, causal: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.causal = causal
        self.specs = {spec.name: spec for spec in specs}
        width = backbone.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                spec.name: nn.ModuleDict(
                    {part.name: build_head(part, width, causal=causal) for part in spec.components}
                )
                for spec in self.specs.values()
            }
        )

    def encode(self, batch) -> Tensor:
        """The last hidden states of a micro-batch: (tokens, hidden)"""
        layout = PackedLayout.of(batch.lengths, causal=self.causal, device=batch.input_ids.device)
        inputs = {"input_ids": batch.input_ids[None], "position_ids": layout.position_ids[None]}
        if getattr(self.backbone.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = batch.type_ids[None]
        backbone = self.backbone.get_base_model()  # the injected layers, without PEFT's own forward
        if not self.backbone.config.is_encoder_decoder and self.causal:
            inputs["use_cache"] = False
        return backbone(**inputs, packed=layout).last_hidden_state[0]

    def forward(self, batch) -> dict[str, Tensor]:
        """Logits of every component of the micro-batch's task."""
        hidden = self.encode(batch)
        return {name: head(hidden, batch.targets[name]) for name, head in self.heads[batch.task].items()}

    def losses(self, batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss sums per component, not yet divided by `batch.counts`."""
        heads = self.heads[batch.task]
        return {name: heads[name].loss(logits, batch.targets[name]) for name, logits in outputs.items()}
