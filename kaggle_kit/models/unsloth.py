"""The unsloth package as another way to load S1 and S2's backbone, if it computes the same.

    loaded = with_unsloth(load_backbone(config.model))

unsloth replaces attention and layers by its own kernels, for every model of the family in the process.
Whether these keep sequences of an unpadded row apart, and let them share a beginning, depends on its version.
So the backbone is used only if its hidden states on a probe row are those of the standard path, taken before
unsloth is imported.
"""

import importlib
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.decisions import Decision
from kaggle_kit.models.loading import Loaded, freeze, source_of
from kaggle_kit.models.reading import Reader
from kaggle_kit.models.verify import Probe, probing

TOLERANCE = 0.05  # relative error of hidden states; float16 and 4-bit kernels differ by less


def with_unsloth(loaded: Loaded) -> Loaded:
    """Load unsloth's backbone in place of the given one. Raises ConfigError if it is missing or differs."""
    probe, reference, config = Probe.of(loaded.backbone), loaded.backbone, loaded.config
    expected = probe_states(reference, probe)
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
    checkpointed = loaded.decisions["checkpointing"].value == "on"
    freeze(model.model, quantized=quantized, checkpointed=checkpointed)
    model.model.set_attn_implementation(PACKED)
    assert_consistent(probe_states(model.model, probe), expected)
    reason = "SDPA per group of like lengths in unsloth's layers, which were probed with it"
    decisions = loaded.decisions | {"attention": Decision(PACKED, reason)}
    return replace(loaded, backbone=model.model, decisions=decisions)


def assert_consistent(states: Tensor, expected: Tensor) -> None:
    """Raise ConfigError unless the (tokens, hidden) states of two models on one unpadded row are the same."""
    far = (states - expected).norm() / expected.norm()
    if not far <= TOLERANCE:  # NaN is far
        raise ConfigError(
            f"unsloth's hidden states differ from the standard path by {float(far):.1%} (allowed: "
            f"{TOLERANCE:.0%}); set strategy.unsloth=false"
        )


def probe_states(backbone: PreTrainedModel, probe: Probe) -> Tensor:
    """Read the probe causally with a shared beginning, then both ways: (2 * tokens, hidden) float32."""
    reader = Reader(backbone)
    layouts = [probe.layout(causal=causal, shared=causal) for causal in (True, False)]
    with probing(backbone):
        return torch.cat([reader.batch_states(probe, layout) for layout in layouts]).float()
