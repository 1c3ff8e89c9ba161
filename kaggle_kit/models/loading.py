"""Loading a backbone: from the hub or a local folder, in the precision the device can do.

loaded = load_backbone(config.model, device="cuda", precision="auto")
loaded.backbone, loaded.tokenizer, loaded.decisions["dtype"].reason
"""

import os
import re
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
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from kaggle_kit.core.architectures import BEHIND_PADDING
from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.secrets import HUB, read_secret
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.decisions import (
    Decision,
    capability,
    choose_stock_attention,
    decide,
    decide_attention,
    stored_quantization,
)
from kaggle_kit.models.four_bit import keep_exact
from kaggle_kit.models.verify import verify_reading

PROBE = "the patient has 1 pain, المريض يعاني, 患者, пациент"


@dataclass(frozen=True)
class Loaded:
    """A backbone with its tokenizer, the choices made for it, and the entry it came from.

    It is frozen; `whole` says that the model built on it is to train all of it.
    """

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    causal: bool  # false of encoders, and of decoders with strategy.attention=bidirectional
    decisions: dict[str, Decision]
    config: ModelConfig
    whole: bool = False

    @property
    def source(self) -> str:
        """Return the folder or the hub id that the weights came from."""
        return source_of(self.config)

    @property
    def decoder(self) -> bool:
        """Return whether the model was pre-trained to look backwards only, whichever way it looks now."""
        return self.config.family == "decoder"


def source_of(config: ModelConfig) -> str:
    """Return the place of the weights: `model.path`, `KAGGLE_KIT_MODEL_<NAME>`, else the hub id."""
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


def place_of(model: ModelConfig) -> str | None:
    """Return the folder that the entry or the environment gives: `model.path`, `KAGGLE_KIT_MODEL_<NAME>`."""
    return model.path or os.environ.get(variable_of(model))


def variable_of(model: ModelConfig) -> str:
    """Return the environment variable of a model's folder: its name in capitals, other characters as `_`."""
    return f"KAGGLE_KIT_MODEL_{re.sub(r'[^A-Z0-9]', '_', model.name.upper())}"


def load_backbone(
    config: ModelConfig,
    *,
    device: str = "auto",
    precision: str = "auto",
    quantization: str | None = None,
    bidirectional: bool = False,
) -> Loaded:
    """Load the frozen backbone without its language-model head, and its tokenizer; record each decision.

    Raises ConfigError where sequences read together do not get the states that the library gives each alone.
    """
    decisions = decide(config, device, precision, quantization, checkpointing=False)
    source = source_of(config)
    with hub_access(config, source):
        own = AutoConfig.from_pretrained(source, revision=config.revision)
        if own.model_type != config.architecture:
            raise ConfigError(
                f"model {config.name}: {source} is of architecture {own.model_type!r}, and the entry says "
                f"{config.architecture!r}; name the folder itself: model={source}"
            )
        decisions["quantization"] = stored_quantization(own) or decisions["quantization"]
        tokenizer = load_tokenizer(config)
        decisions["attention"] = decide_attention(config, own, decisions["device"], bidirectional)
        backbone = frozen_backbone(source, config.revision, decisions)
        _assert_reads(tokenizer, backbone, config)
    decoder = config.family == "decoder"
    verify_reading(backbone, causal=decoder, name=config.name)
    return Loaded(backbone, tokenizer, decoder and not bidirectional, decisions, config)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model alone. ConfigError where the place that should hold it does not."""
    source = source_of(config)
    with hub_access(config, source):
        return AutoTokenizer.from_pretrained(source, revision=config.revision, use_fast=True)


def load_language_model(
    config: ModelConfig, device: str = "auto", precision: str = "auto", quantization: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a decoder with its language-model head, to read likelihoods off it; and its tokenizer.

    Raises ConfigError for an encoder, which gives no likelihood of a text.
    """
    if config.family != "decoder":
        raise ConfigError(f"model {config.name} is an encoder, without likelihoods of a text; name a decoder")
    decisions = decide(config, device, precision, quantization, checkpointing=False)
    decisions["attention"] = choose_stock_attention(config.architecture, capability(decisions["device"]))
    source = source_of(config)
    with hub_access(config, source):
        model = frozen_backbone(source, config.revision, decisions, kind=AutoModelForCausalLM)
    return model.eval(), load_tokenizer(config)


def _assert_reads(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, config: ModelConfig) -> None:
    """ConfigError for a tokenizer that knows no word, as the library makes up for a folder without one."""
    ids = {*tokenizer(PROBE, add_special_tokens=False)["input_ids"]} - {tokenizer.unk_token_id}
    rows = backbone.get_input_embeddings().num_embeddings
    if not ids or tokenizer.vocab_size > rows:
        fault = f"has {tokenizer.vocab_size} words, and the model {rows}" if ids else "knows no word"
        raise ConfigError(
            f"model {config.name}: its tokenizer {fault}; put the model's own tokenizer beside the weights"
        )
    if config.architecture in BEHIND_PADDING and backbone.config.type_vocab_size > 1:
        places = backbone.get_parameter("embeddings.position_embeddings.weight")
        if places[backbone.config.pad_token_id].any():  # the library's own is zero there, and stays so
            raise ConfigError(
                f"model {config.name}: its config.json says {config.architecture}, which has no position "
                f"{backbone.config.pad_token_id}, and the weights have one, as BERT's do; correct model_type"
            )


@contextmanager
def hub_access(config: ModelConfig, source: str) -> Iterator[None]:
    """Hand the hub its token, if there is one and the weights come from the hub.

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
        first = next(iter(str(error).strip().splitlines()), "")
        if not (isinstance(error, OSError) and source == config.hub_id) or (token and config.gated):
            reason = (
                f"{source} cannot be loaded ({type(error).__name__}: {first}); give a whole model with its "
                "tokenizer, as save_pretrained writes them"
            )
        elif config.gated:
            reason = (
                f"{source} is gated and {HUB} was not found; accept its licence on the hub, then attach "
                f"{HUB} as a Kaggle secret or set the variable, or give model.path"
            )
        else:
            reason = (
                f"{source} could not be had from the hub ({first}); give a folder that holds it as "
                f"model.path or {variable_of(config)}"
            )
        raise ConfigError(f"model {config.name}: {reason}") from error


def assert_trainable_float32(model: nn.Module) -> None:
    """Raise ConfigError unless all that trains is float32: float16 has no unscaling, nor bfloat16 on a T4."""
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


def frozen_backbone(
    source: str,
    revision: str | None,
    decisions: Mapping[str, Decision],
    nf4: dict[str, Any] | None = None,
    kind: Any = AutoModel,
) -> PreTrainedModel:
    """Weights in place, frozen. `nf4` are settings for bitsandbytes that replace the library's own."""
    values = {name: decision.value for name, decision in decisions.items()}
    quantized, dtype = values["quantization"] == "nf4", getattr(torch, values["dtype"])
    # bitsandbytes' default compute dtype is float32, which a T4 runs eight times slower
    settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"} | (nf4 or {})
    settings = {"bnb_4bit_compute_dtype": dtype, "bnb_4bit_use_double_quant": True} | settings
    # a None in its place would hide what a folder says of its own quantisation
    asked = {"quantization_config": BitsAndBytesConfig(**settings)} if quantized else {}
    backbone, info = kind.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        attn_implementation=values["attention"],
        device_map={"": values["device"]} if quantized and values["device"] == "cuda" else None,
        output_loading_info=True,
        **asked,
    )
    # no hidden state needs the pooler, which published encoders lack
    if absent := sorted(name for name in info["missing_keys"] if "pooler" not in name):
        raise ConfigError(
            f"{source} holds no weights for {len(absent)} tensors of the model, such as {absent[0]}, and the "
            "library fills them at random; give a folder with all of them, under the library's names"
        )
    freeze(backbone, quantized=quantized, checkpointed=values["checkpointing"] == "on")
    return backbone.to(values["device"])


def freeze(backbone: PreTrainedModel, *, quantized: bool, checkpointed: bool) -> None:
    """Freeze a backbone and prepare it for adapters, whoever has loaded it."""
    backbone.requires_grad_(False)
    backbone.config.use_cache = False  # else training would keep every layer's keys and values
    if quantized:
        keep_exact(backbone)
    if checkpointed:
        enable_checkpointing(backbone)
