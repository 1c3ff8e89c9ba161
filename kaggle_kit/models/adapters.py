"""LoRA on a backbone, by PEFT, with targets that are checked instead of silently half-matched.

    model = attach_lora(backbone, config.model.lora, adapter="single")
"""

from __future__ import annotations

from collections.abc import Sequence

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings


def attach_lora(backbone: PreTrainedModel, settings: LoraSettings, adapter: str) -> PeftModel:
    """The backbone with one trainable adapter; the base stays frozen.

    `task_type` stays unset on purpose: heads live outside PEFT, because two active adapters with
    PEFT's `modules_to_save` cannot be trained together.
    """
    check_targets(backbone, settings.targets)
    return get_peft_model(backbone, lora_config(settings), adapter_name=adapter)


def lora_config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        bias="none",
    )


def check_targets(backbone: nn.Module, targets: Sequence[str]) -> None:
    """Every named target must match. PEFT itself accepts a list of which only a part exists."""
    linear = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if _is_linear(module)}
    if not targets:
        raise ConfigError(f"lora.targets is empty; this backbone has {', '.join(sorted(linear))}")
    missing = [target for target in targets if target not in linear]
    if missing:
        raise ConfigError(
            f"lora.targets {', '.join(missing)}: no such linear layer in {type(backbone).__name__}; "
            f"it has {', '.join(sorted(linear))} (a list that matches in part would train only that part)"
        )


def _is_linear(module: nn.Module) -> bool:
    # bitsandbytes' 4-bit and 8-bit layers are subclasses of nn.Linear
    return isinstance(module, nn.Linear)
