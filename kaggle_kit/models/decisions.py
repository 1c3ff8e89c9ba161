"""Choose precision, quantisation, checkpointing and attention for a device and a model, with reasons.

choose_dtype("cuda", "auto", (7, 5))      # Decision("float16", "compute capability 7.5: …")
"""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import ModelConfig, quantization_for
from kaggle_kit.models.attention import FLASH, PACKED, WIDTHS, why_no_flash
from kaggle_kit.models.reading import class_of, packable

POST_TRAINING = ("gptq", "awq")  # quantised after training, by `export --quantise`
QUANTISERS = ("gptqmodel", "optimum")  # they write and read such weights
CHECKPOINT_ABOVE_PARAMETERS = 6_900_000_000  # "7B and more": the smallest 7B of the study has 7.24B


@dataclass(frozen=True)
class Decision:
    """What was chosen, and the one-line reason that goes into the run's record."""

    value: str
    reason: str


def decide(
    config: ModelConfig, device: str, precision: str, quantization: str | None, *, checkpointing: bool
) -> dict[str, Decision]:
    """Decide device, dtype, quantisation and checkpointing, before the files of a model are read."""
    place = choose_device(device)
    decisions = {
        "device": place,
        "dtype": choose_dtype(place.value, precision, capability(place)),
        "quantization": choose_quantization(config, quantization),
        "checkpointing": choose_checkpointing(config, place.value, checkpointing),
    }
    return decisions | ({"allocator": allocator_in_force()} if place.value == "cuda" else {})


def decide_attention(
    config: ModelConfig, own: PretrainedConfig, place: Decision, bidirectional: bool
) -> Decision:
    """Choose packed attention where the class takes a function. Raise ConfigError if it is no backbone."""
    kind = class_of(own)
    if kind is None or own.is_encoder_decoder or own.get_text_config() is not own:
        raise ConfigError(
            f"model {config.name}: it is of kind {own.model_type!r}; a backbone is one encoder or one "
            "decoder of text alone (docs/models.md lists those measured)"
        )
    if packable(kind):
        width = getattr(own, "head_dim", None) or own.hidden_size // own.num_attention_heads
        return choose_attention(config.architecture, capability(place), width)
    if config.family == "decoder" and bidirectional:
        raise ConfigError(
            f"model {config.name}: {kind.__name__} has no attention interface, so it looks backwards only; "
            "set strategy.attention=causal"
        )
    return choose_padded_attention(kind)


def capability(place: Decision) -> tuple[int, int] | None:
    """Return the compute capability of the GPU that was chosen, None on a CPU."""
    return torch.cuda.get_device_capability() if place.value == "cuda" else None


def choose_device(requested: str) -> Decision:
    """Choose the GPU if there is one; raise ConfigError where the profile asks for one that is not there."""
    if requested == "cpu":
        return Decision("cpu", "asked for")
    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise ConfigError(
            "profile.device is 'cuda' but torch sees no GPU; turn the accelerator on or set it to cpu"
        )
    return Decision("cuda", "a GPU is there") if available else Decision("cpu", "torch sees no GPU")


def choose_dtype(device: str, requested: str, capability: tuple[int, int] | None) -> Decision:
    """Choose float32 on a CPU, float16 on every GPU: a T4, which only emulates bfloat16, is no exception."""
    if requested in ("float32", "float16"):
        return Decision(requested, "asked for")
    if device == "cpu":
        return Decision("float32", "CPU: half precision is slower there")
    major, minor = capability or (0, 0)
    why = "bfloat16 is only emulated" if major < 8 else "as on the T4, so that runs compare"
    return Decision("float16", f"compute capability {major}.{minor}: {why}; trained with a gradient scaler")


def choose_quantization(config: ModelConfig, requested: str | None = None) -> Decision:
    """Choose NF4 or none by the study's rule on parameters, unless one is asked for by name."""
    if requested is not None:
        return Decision(requested, "asked for")
    name = quantization_for(config.parameters)
    size = f"{config.parameters / 1e9:.2f}B parameters"
    return Decision(name or "none", f"{size}: {'more' if name else 'not more'} than 4B")


def stored_quantization(own: PretrainedConfig) -> Decision | None:
    """Return by which of `POST_TRAINING` a folder's weights are quantised, None where by none of them.

    Raises ConfigError where no library reads them.
    """
    stored = getattr(own, "quantization_config", None) or {}
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    if method not in POST_TRAINING:
        return None
    assert_quantisers(f"weights by {method}")
    return Decision(method, "the weights lie so in their folder")


def assert_quantisers(what: str) -> None:
    """Raise ConfigError, with how to install them, where a library of `QUANTISERS` is missing."""
    if missing := [name for name in QUANTISERS if find_spec(name) is None]:
        raise ConfigError(
            f"{what} takes {' and '.join(missing)}, which this environment lacks; they ask for a NumPy of "
            "their own, so use another environment: `make setup-export` in the project, else "
            f"`pip install torch transformers peft safetensors {' '.join(QUANTISERS)}`"
        )


def always_checkpointed(config: ModelConfig) -> bool:
    """Return whether a model is so large, 7B and more, that a GPU always recomputes its layers."""
    return config.parameters >= CHECKPOINT_ABOVE_PARAMETERS


def choose_checkpointing(config: ModelConfig, device: str, requested: bool) -> Decision:
    """Choose checkpointing on a GPU from 7B up, below if requested; the batch search sets its layers."""
    if device == "cpu":
        return Decision("off", "CPU: memory is not the limit")
    if always_checkpointed(config):
        return Decision("on", "7B and more are always checkpointed")
    return Decision("on", "asked for") if requested else Decision("off", "less than 7B, and not asked for")


def choose_attention(architecture: str, capability: tuple[int, int] | None, head_width: int) -> Decision:
    """Choose attention on unpadded rows.

    FlashAttention-2 is chosen only at head widths that its probe has passed, never for Gemma-2.
    """
    if architecture == "gemma2":
        return Decision(PACKED, "Gemma-2's soft cap is computed eagerly; fused kernels leave it out")
    unprobed = f"heads are {head_width} wide, and it is probed at {', '.join(map(str, WIDTHS))} only"
    reason = why_no_flash(capability) or (None if head_width in WIDTHS else unprobed)
    if reason is None:
        return Decision(FLASH, "FlashAttention-2: forward and backward probe passed")
    # key and value heads are expanded there: grouped heads without a mask hit the math kernel on a T4
    return Decision(PACKED, f"SDPA per group of like lengths, heads expanded; no FlashAttention-2: {reason}")


def choose_padded_attention(kind: type[PreTrainedModel]) -> Decision:
    """Choose the library's own attention, for a class that has no way to be given another."""
    name = "sdpa" if kind._supports_sdpa else "eager"
    return Decision(name, f"{kind.__name__} has no attention interface: sequences of like length, padded")


def choose_stock_attention(architecture: str, capability: tuple[int, int] | None) -> Decision:
    """Choose attention on padded rows: FlashAttention-2 where its package and a probe allow, else SDPA."""
    if architecture == "gemma2":
        return Decision("eager", "Gemma-2's soft cap is computed eagerly; fused kernels leave it out")
    reason = why_no_flash(capability)
    if reason is None and not is_flash_attn_2_available():
        reason = "the package flash-attn is not installed"
    if reason is None:
        return Decision("flash_attention_2", "forward and backward probe passed")
    return Decision("sdpa", f"no FlashAttention-2: {reason}")


def allocator_in_force() -> Decision:
    """Read the CUDA allocator's own settings: some torch releases accept a setting and ignore it."""
    settings = torch.cuda.memory._snapshot().get("allocator_settings", {})
    on = bool(settings.get("expandable_segments"))
    where = "read back from the allocator"
    hint = "" if on else "; call core.allocator.set_allocator() before torch is imported"
    return Decision("expandable segments" if on else "fixed segments", where + hint)
