"""Loading a backbone: from the hub, a local folder or a local build, in the precision the device can do.

    loaded = load_backbone(config.model, device="cuda", precision="auto")
    loaded.backbone, loaded.tokenizer, loaded.decisions["dtype"].reason
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # its import warns about optional CPU kernels

import torch  # noqa: E402
from transformers import AutoModel, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402

from kaggle_kit.core.errors import ConfigError  # noqa: E402
from kaggle_kit.core.schema import ModelConfig, quantization_for  # noqa: E402
from kaggle_kit.models.packing import PACKED  # noqa: E402

CHECKPOINT_ABOVE_PARAMETERS = 6_900_000_000  # "7B and more": the smallest 7B of the study has 7.24B


@dataclass(frozen=True)
class Decision:
    """What was chosen, and the one-line reason that goes into the run's record."""

    value: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    causal: bool
    decisions: dict[str, Decision]

    @property
    def is_quantized(self) -> bool:
        return self.decisions["quantization"].value != "none"


def choose_device(requested: str) -> Decision:
    """`auto` takes the GPU if there is one; asking for a GPU that is not there is an error."""
    if requested == "cpu":
        return Decision("cpu", "asked for")
    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise ConfigError("profile.device is 'cuda' but torch sees no GPU; turn the accelerator on or set profile.device=cpu")
    return Decision("cuda", "a GPU is there") if available else Decision("cpu", "torch sees no GPU")


def choose_dtype(device: str, requested: str, capability: tuple[int, int] | None) -> Decision:
    """float32 on a CPU; float16 below compute capability 8, where bfloat16 is only emulated."""
    if requested in ("float32", "float16"):
        return Decision(requested, "asked for")
    if device == "cpu":
        return Decision("float32", "CPU: half precision is slower there")
    major, minor = capability or (0, 0)
    return Decision("float16", f"compute capability {major}.{minor}: the study trains in float16 with a scaler")


def choose_quantization(config: ModelConfig, requested: str | None = None) -> Decision:
    """The study's rule by parameter count, unless one is asked for by name."""
    if requested is not None:
        return Decision(requested, "asked for")
    chosen = quantization_for(config.parameters)
    size = f"{config.parameters / 1e9:.2f}B parameters"
    return Decision(chosen or "none", f"{size}: {'more' if chosen else 'not more'} than 4B")


def choose_checkpointing(config: ModelConfig, device: str, requested: bool) -> Decision:
    """Always from 7B up on a GPU; below as asked for."""
    if device == "cpu":
        return Decision("off", "CPU: memory is not the limit")
    if config.parameters >= CHECKPOINT_ABOVE_PARAMETERS:
        return Decision("on", "7B and more are always checkpointed")
    return Decision("on" if requested else "off", "asked for")


def source_of(config: ModelConfig) -> str:
    """Where the weights come from: `model.path`, `KAGGLE_KIT_MODEL_<NAME>`, else the hub id."""
    named = config.path or os.environ.get(f"KAGGLE_KIT_MODEL_{config.name.upper()}")
    if named:
        folder = Path(named).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model {config.name}: {folder} holds no config.json; give the folder with the weights")
        return str(folder)
    if config.hub_id is None:
        raise ConfigError(f"model {config.name} is built locally; open it through ops.wiring.open_model")
    return config.hub_id


def load_backbone(
    config: ModelConfig,
    *,
    device: str = "auto",
    precision: str = "auto",
    quantization: str | None = None,
    gradient_checkpointing: bool = False,
    bidirectional: bool = False,
) -> Loaded:
    """The frozen backbone without its language-model head, its tokenizer, and what was decided."""
    place = choose_device(device)
    capability = torch.cuda.get_device_capability() if place.value == "cuda" else None
    decisions = {
        "device": place,
        "dtype": choose_dtype(place.value, precision, capability),
        "quantization": choose_quantization(config, quantization),
        "checkpointing": choose_checkpointing(config, place.value, gradient_checkpointing),
        "attention": Decision(PACKED, "unpadded rows; SDPA per group of like lengths, Gemma-2's soft cap eager"),
    }
    source = source_of(config)
    tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, use_fast=True)
    dtype = getattr(torch, decisions["dtype"].value)
    backbone = AutoModel.from_pretrained(
        source,
        revision=config.revision,
        dtype=dtype,
        attn_implementation=PACKED,
        quantization_config=_nf4(dtype) if decisions["quantization"].value == "nf4" else None,
        device_map={"": place.value} if decisions["quantization"].value == "nf4" and place.value == "cuda" else None,
    )
    backbone.requires_grad_(False)
    if decisions["checkpointing"].value == "on":
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    causal = config.family == "decoder" and not bidirectional
    return Loaded(backbone.to(place.value), tokenizer, causal, decisions)


def _nf4(compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    # the library's default compute dtype is float32, which a T4 runs eight times slower
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )
