"""Loading a backbone: from the hub, a local folder or a local build, in the precision the device can do.

loaded = load_backbone(config.model, device="cuda", precision="auto")
loaded.backbone, loaded.tokenizer, loaded.decisions["dtype"].reason
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.secrets import HUB, read_secret
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.decisions import (
    Decision,
    allocator_in_force,
    choose_attention,
    choose_checkpointing,
    choose_device,
    choose_dtype,
    choose_padded_attention,
    choose_quantization,
    choose_stock_attention,
)
from kaggle_kit.models.entries import Nf4, entry_of, kind_of, place_of, read_quantization, variable_of
from kaggle_kit.models.flash import FLASH, register_flash
from kaggle_kit.models.four_bit import keep_exact
from kaggle_kit.models.reading import class_of, packable
from kaggle_kit.models.shapes import head_width
from kaggle_kit.models.verify import verify_reading

PROBE = "the patient has 1 pain, المريض يعاني, 患者, пациент"


@dataclass(frozen=True)
class Loaded:
    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    causal: bool  # false of encoders, and of decoders with strategy.attention=bidirectional
    decisions: dict[str, Decision]
    config: ModelConfig

    @property
    def decoder(self) -> bool:
        return self.config.family == "decoder"

    @property
    def is_quantized(self) -> bool:
        return self.decisions["quantization"].value != "none"


def source_of(config: ModelConfig) -> str:
    """Where the weights come from: `model.path`, `KAGGLE_KIT_MODEL_<NAME>`, else the hub id."""
    if named := place_of(config):
        folder = Path(named).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"model {config.name}: {folder} holds no config.json; give the folder with the weights"
            )
        return str(folder)
    if config.hub_id is None:
        raise ConfigError(f"model {config.name} is built locally; open it through preparation.open_backbone")
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
    """The frozen backbone without its language-model head, its tokenizer, and what was decided.

    Raises ConfigError where sequences read together do not get the states that the library gives each alone.
    """
    place = choose_device(device)
    decisions = _decisions(config, place, precision, quantization, gradient_checkpointing)
    source = source_of(config)
    with _hub_access(config, source):
        own = AutoConfig.from_pretrained(source, revision=config.revision)
        if own.model_type != config.architecture:
            raise ConfigError(
                f"model {config.name}: {source} is of architecture {own.model_type!r}, and the entry says "
                f"{config.architecture!r}; name the folder itself: model={source}"
            )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, use_fast=True)
        decisions["attention"] = _attention(config, own, place, bidirectional)
        backbone = _backbone(source, config.revision, {name: made.value for name, made in decisions.items()})
        _assert_reads(tokenizer, backbone, config)
    decoder = config.family == "decoder"
    verify_reading(backbone, causal=decoder, name=config.name)
    return Loaded(backbone, tokenizer, decoder and not bidirectional, decisions, config)


def _assert_reads(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, config: ModelConfig) -> None:
    """ConfigError for a tokenizer that knows no word, as the library makes up for a folder without one."""
    known = {*tokenizer(PROBE, add_special_tokens=False)["input_ids"]} - {tokenizer.unk_token_id}
    rows = backbone.get_input_embeddings().num_embeddings
    if not known or tokenizer.vocab_size > rows:
        found = f"has {tokenizer.vocab_size} words, and the model {rows}" if known else "knows no word"
        raise ConfigError(
            f"model {config.name}: its tokenizer {found}; put the model's own tokenizer beside the weights"
        )


def _attention(config: ModelConfig, own: PretrainedConfig, place: Decision, bidirectional: bool) -> Decision:
    """Packed where the class takes an attention function. ConfigError for a class that is no backbone."""
    kind = class_of(own)
    if kind is None or own.is_encoder_decoder or own.get_text_config() is not own:
        raise ConfigError(
            f"model {config.name}: it is of kind {own.model_type!r}; a backbone is one encoder or one "
            "decoder of text alone (docs/models.md lists those measured)"
        )
    if packable(kind):
        return choose_attention(config.architecture, _capability(place), head_width(own))
    if config.family == "decoder" and bidirectional:
        raise ConfigError(
            f"model {config.name}: {kind.__name__} has no attention interface, so it looks backwards only; "
            "set strategy.attention=causal"
        )
    return choose_padded_attention(kind)


def _decisions(
    config: ModelConfig, place: Decision, precision: str, quantization: str | None, checkpointing: bool
) -> dict[str, Decision]:
    decisions = {
        "device": place,
        "dtype": choose_dtype(place.value, precision, _capability(place)),
        "quantization": choose_quantization(config, quantization),
        "checkpointing": choose_checkpointing(config, place.value, checkpointing),
    }
    return decisions | ({"allocator": allocator_in_force()} if place.value == "cuda" else {})


def _capability(place: Decision) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability() if place.value == "cuda" else None


@contextmanager
def _hub_access(config: ModelConfig, source: str) -> Iterator[None]:
    """Hands the hub its token, where there is one and the hub is asked at all.

    ConfigError instead of the library's error where the hub does not give the model, for a gated one that no
    token opens, and for files that make no model.
    """
    token = read_secret(HUB) if source == config.hub_id else None
    if token:
        os.environ[HUB] = token  # where the library looks for it, at every download
    try:
        yield
    except (torch.cuda.OutOfMemoryError, KitError):
        raise
    except Exception as error:  # each format of weights and tokenizers has errors of its own
        asked = isinstance(error, OSError) and source == config.hub_id
        if not asked or (token and config.gated):
            why = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
            raise ConfigError(
                f"model {config.name}: {source} cannot be loaded ({why}); give a whole model with its "
                "tokenizer, as save_pretrained writes them"
            ) from error
        if not config.gated:
            raise ConfigError(
                f"model {config.name}: {config.hub_id} could not be had from the hub "
                f"({str(error).strip().splitlines()[0]}); give a folder that holds it as model.path or "
                f"{variable_of(config)}"
            ) from error
        raise ConfigError(
            f"model {config.name}: {config.hub_id} is gated and {HUB} was not found; accept its licence on "
            f"the hub, then attach {HUB} as a Kaggle secret or set the variable, or give model.path"
        ) from error


def load_model(
    model_name: str,
    task_type: str = "ner",
    quantization: Mapping[str, Any] | None = None,
    gradient_checkpointing: bool = True,
) -> tuple[PreTrainedModel, bool]:
    """The frozen backbone of any entry in params/model, local folder or hub id, and whether it is quantised.

    `task_type` is what a head will predict: ner, re, qa or a `core.types.Kind`. Each of them reads hidden
    states, so the language-model head is left out; `model.task_kind` keeps it. Over 4B parameters are loaded
    in NF4 unless `quantization` says otherwise, a dict with any of enabled, bits, quant_type, compute_dtype
    and double_quant. `model.decisions` holds each choice with its reason. It takes input_ids and a mask as
    any model of the library does; `load_backbone` is for the study's unpadded rows. Raises ConfigError for
    unknown names and values.
    """
    kind = kind_of(task_type)
    asked, nf4 = read_quantization(quantization)
    config = entry_of(model_name)
    place = choose_device("auto")
    decisions = _decisions(config, place, "auto", asked, gradient_checkpointing)
    decisions["attention"] = choose_stock_attention(config.architecture, _capability(place))
    source = source_of(config)
    with _hub_access(config, source):
        chosen = {name: made.value for name, made in decisions.items()}
        model = _backbone(source, config.revision, chosen, nf4)
    model.decisions, model.task_kind = decisions, kind
    return model, decisions["quantization"].value != "none"


def assert_trainable_float32(model: nn.Module) -> None:
    """Right before step 1: a float16 parameter cannot be unscaled, a bfloat16 one not on a T4."""
    wrong = [
        f"{name} is {str(parameter.dtype).removeprefix('torch.')}"
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.dtype != torch.float32
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ConfigError(
            f"trainable parameters must be float32, but {shown}; cast adapters and heads to float32"
        )


def _backbone(
    source: str, revision: str | None, chosen: dict[str, str], nf4: Nf4 | None = None
) -> PreTrainedModel:
    """Weights in place, frozen. `chosen` holds the values of the decisions."""
    quantized = chosen["quantization"] == "nf4"
    dtype = getattr(torch, chosen["dtype"])
    if chosen["attention"] == FLASH:
        register_flash()
    backbone, found = AutoModel.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        attn_implementation=chosen["attention"],
        quantization_config=_bitsandbytes(nf4 or Nf4(), dtype) if quantized else None,
        device_map={"": chosen["device"]} if quantized and chosen["device"] == "cuda" else None,
        output_loading_info=True,
    )
    # no hidden state needs the pooler, which published encoders lack
    if absent := sorted(name for name in found["missing_keys"] if "pooler" not in name):
        raise ConfigError(
            f"{source} holds no weights for {len(absent)} tensors of the model, such as {absent[0]}, and the "
            "library fills them at random; give a folder with all of them, under the library's names"
        )
    freeze(backbone, quantized=quantized, checkpointed=chosen["checkpointing"] == "on")
    return backbone.to(chosen["device"])


def freeze(backbone: PreTrainedModel, *, quantized: bool, checkpointed: bool) -> None:
    """What every backbone needs before adapters are attached to it, whoever has loaded it."""
    backbone.requires_grad_(False)
    backbone.config.use_cache = False  # else training would keep every layer's keys and values
    if quantized:
        keep_exact(backbone)
    if checkpointed:
        enable_checkpointing(backbone)


def _bitsandbytes(nf4: Nf4, dtype: torch.dtype) -> BitsAndBytesConfig:
    # the library's default compute dtype is float32, which a T4 runs eight times slower
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=nf4.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, nf4.compute_dtype) if nf4.compute_dtype else dtype,
    )
