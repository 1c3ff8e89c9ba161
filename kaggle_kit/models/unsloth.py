"""The unsloth package as another way to load S1 and S2's backbone, if it computes the same.

    loaded = with_unsloth(load_backbone(config.model))
    backbone = load_unsloth(config.model, reference=loaded.backbone, lengths=(40, 17))     # or by itself

unsloth replaces attention and layers by its own kernels, for every model of the family in the process.
Whether these keep sequences of an unpadded row apart, and let them share a beginning, depends on its version.
So the backbone is used only if its hidden states on a probe row are those of the standard path, taken before
unsloth is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.decisions import Decision
from kaggle_kit.models.loading import Loaded, freeze, source_of
from kaggle_kit.models.packing import PackedLayout

TOLERANCE = 0.05  # relative error of hidden states; float16 and 4-bit kernels differ by less


def with_unsloth(loaded: Loaded) -> Loaded:
    """The same with unsloth's backbone, and decisions that say so. Raises what `load_unsloth` does."""
    checkpointed = loaded.decisions["checkpointing"].value == "on"
    backbone = load_unsloth(loaded.config, reference=loaded.backbone, checkpointed=checkpointed)
    attention = Decision(
        PACKED, "SDPA per group of like lengths in unsloth's layers, which were probed with it"
    )
    return replace(loaded, backbone=backbone, decisions=loaded.decisions | {"attention": attention})


def load_unsloth(
    config: ModelConfig,
    *,
    reference: PreTrainedModel,
    lengths: Sequence[int] = (40, 17),
    checkpointed: bool = False,
) -> PreTrainedModel:
    """unsloth's frozen backbone, consistent with `reference`. Raises ConfigError where it cannot be used."""
    if not config.unsloth.compatible:
        raise ConfigError(f"model {config.name} is not marked unsloth.compatible; set strategy.unsloth=false")
    expected = probe(reference, lengths)
    try:
        library = importlib.import_module("unsloth")
    except ImportError as error:
        raise ConfigError(
            f"strategy.unsloth=true, but the package cannot be imported ({error}); "
            "pip install unsloth on a GPU machine, or set strategy.unsloth=false"
        ) from error
    quantized = getattr(reference, "is_loaded_in_4bit", False)
    model, _ = library.FastLanguageModel.from_pretrained(
        source_of(config), revision=config.revision, dtype=reference.dtype, load_in_4bit=quantized
    )
    backbone = model.model
    freeze(backbone, quantized=quantized, checkpointed=checkpointed)
    backbone.set_attn_implementation(PACKED)
    check_consistent(probe(backbone, lengths), expected)
    return backbone


def check_consistent(found: Tensor, expected: Tensor) -> None:
    """ConfigError unless the (tokens, hidden) states of two models on one unpadded row are the same."""
    far = (found - expected).norm() / expected.norm()
    if not far <= TOLERANCE:  # NaN is far
        raise ConfigError(
            f"unsloth's hidden states differ from the standard path by {float(far):.1%} (allowed: "
            f"{TOLERANCE:.0%}); set strategy.unsloth=false"
        )


@torch.no_grad()
def probe(model: PreTrainedModel, lengths: Sequence[int]) -> Tensor:
    """(2 * tokens, hidden) float32: the states on one unpadded row of random tokens, causal, then both ways.

    The last sequence begins as the first does, and shares that half where attention is causal.
    """
    return torch.cat([_states(model, lengths, causal) for causal in (True, False)])


def _states(model: PreTrainedModel, lengths: Sequence[int], causal: bool) -> Tensor:
    shared = min(lengths[0], lengths[-1]) // 2
    prefixes = [WHOLE] * (len(lengths) - 1) + [Prefix(0, shared)]
    layout = PackedLayout.of(lengths, causal=causal, prefixes=prefixes, device=model.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (sum(lengths),), generator=generator)
    ids[sum(lengths[:-1]) :][:shared] = ids[:shared]
    row = {"input_ids": layout.fold(ids.to(model.device)), "position_ids": layout.position_ids}
    was_training = model.training
    model.eval()
    inputs = {name: tensor[None] for name, tensor in row.items()}
    outputs = model(**inputs, use_cache=False, packed=layout)
    model.train(was_training)
    return layout.unfold(outputs.last_hidden_state.squeeze(0)).float()
