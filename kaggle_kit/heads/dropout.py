"""Dropout that is cheap on a CPU, and the dropout of a frozen backbone."""

import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError

HEAD_DROPOUT = 0.1  # probability
ATTENTION = "attention_dropout"  # the probability that decoders of the library keep as a number


class FastDropout(nn.Dropout):
    """Dropout that draws 16 random bits an element on a CPU, so there p is rounded to 1/65,536.

    Torch draws a number in double precision for each element, which takes three times as long: a seventh
    of a step of a small Llama, whose adapters each drop their own input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x with a share p of its elements zeroed and the others scaled up, in training."""
        drop = round(self.p * 2**16)
        if not self.training or not drop or drop == 2**16 or x.device.type != "cpu":
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        mask = draws[: x.numel()].view(x.shape) >= drop - 2**15
        return x * mask.to(x.dtype).mul_(2**16 / (2**16 - drop))


def set_backbone_dropout(backbone: nn.Module, probability: float | None) -> None:
    """Set every dropout of a frozen backbone, that of its attention included; None leaves the model's own.

    The masks come from `FastDropout`. Call it before adapters are attached: theirs stays as it is. Raises
    ConfigError for a probability above 0 on a backbone that has no dropout to set.
    """
    count = 0
    for module in list(backbone.modules()):
        if isinstance(getattr(module, ATTENTION, None), int | float):
            count += 1
            setattr(module, ATTENTION, getattr(module, ATTENTION) if probability is None else probability)
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                count += 1
                setattr(module, name, FastDropout(child.p if probability is None else probability))
    if probability and not count:
        raise ConfigError(
            f"training.backbone_dropout is {probability}, but {type(backbone).__name__} has no dropout; "
            "set it to 0, or to null for what the model itself declares"
        )
