"""A backbone that trains as a whole, in place of adapters on a frozen one.

    whole = WholeBackbone(loaded.backbone)
    model = MultiTaskModel(whole, specs, causal=loaded.causal)
    model.parameter_groups()["backbone"]

It is read in the same way, packed or padded, with every layer's gradient. All tasks share it, and none has a
part of it to itself, so there are no stand-ins for gradient surgery (`segments.py`).
"""

from torch import nn
from transformers import PreTrainedModel

from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.lora_layers import SharedInput

BYTES_A_PARAMETER = 16  # float32: the weight, its gradient, and the two states of AdamW
CHECKPOINT_BYTES = 16  # a parameter: the weight, AdamW's two states, and the weight of the best step
UNREAD = "pooler"  # what makes one vector of a sequence, which no head reads


class WholeBackbone(SharedPrivateLoRA):
    """No adapter, and every weight that the backbone's last hidden states depend on, to be trained.

    Nothing trains of a backbone that was quantised with its adapters in it.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        nn.Module.__init__(self)
        self.peft, self.layers = backbone, []
        self.ranks, self.scaling, self.fusion = {}, 1.0, "none"
        self._active, self._input = [], SharedInput()
        backbone.requires_grad_(False)
        trained = {name: p for name, p in backbone.named_parameters() if UNREAD not in name}
        if getattr(backbone, "is_quantized", False):
            trained = {}
        self.whole = {name: parameter.requires_grad_(True) for name, parameter in trained.items()}
