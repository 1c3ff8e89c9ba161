"""Loading a backbone: from the hub, a local folder or a local build, in the precision the device can do.

loaded = load_backbone(config.model, device="cuda", precision="auto")
loaded.backbone, loaded.tokenizer, loaded.decisions["dtype"].reason
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, KitError, nearest
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.secrets import HUB, read_secret
from kaggle_kit.core.types import Kind
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.decisions import Decision, capability, choose_stock_attention, decide, decide_attention
from kaggle_kit.models.four_bit import keep_exact
from kaggle_kit.models.tiny import build_tiny
from kaggle_kit.models.verify import verify_reading

PROBE = "the patient has 1 pain, المريض يعاني, 患者, пациент"
TASK_TYPES = {"ner": Kind.TOKENS, "re": Kind.RELATIONS, "qa": Kind.RANKING} | {k.value: k for k in Kind}
ALLOWED: Mapping[str, tuple[Any, ...]] = {  # what a quantization dict may say
    "enabled": (True, False),
    "bits": (4,),
    "quant_type": ("nf4",),
    "compute_dtype": ("float16", "bfloat16", "float32"),
    "double_quant": (True, False),
}


@dataclass(frozen=True)
class Loaded:
    """A frozen backbone with its tokenizer, the choices made for it, and the entry it came from."""

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    causal: bool  # false of encoders, and of decoders with strategy.attention=bidirectional
    decisions: dict[str, Decision]
    config: ModelConfig

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
    with _hub_access(config, source):
        own = AutoConfig.from_pretrained(source, revision=config.revision)
        if own.model_type != config.architecture:
            raise ConfigError(
                f"model {config.name}: {source} is of architecture {own.model_type!r}, and the entry says "
                f"{config.architecture!r}; name the folder itself: model={source}"
            )
        tokenizer = load_tokenizer(config)
        decisions["attention"] = decide_attention(config, own, decisions["device"], bidirectional)
        backbone = _backbone(source, config.revision, decisions)
        _assert_reads(tokenizer, backbone, config)
    decoder = config.family == "decoder"
    verify_reading(backbone, causal=decoder, name=config.name)
    return Loaded(backbone, tokenizer, decoder and not bidirectional, decisions, config)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model alone. ConfigError where the place that should hold it does not."""
    source = source_of(config)
    with _hub_access(config, source):
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
    with _hub_access(config, source):
        model = _backbone(source, config.revision, decisions, kind=AutoModelForCausalLM)
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


@contextmanager
def _hub_access(config: ModelConfig, source: str) -> Iterator[None]:
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


def load_model(
    model_name: str,
    task_type: str = "ner",
    quantization: Mapping[str, Any] | None = None,
    gradient_checkpointing: bool = True,
) -> tuple[PreTrainedModel, bool]:
    """Load the frozen backbone of an entry, local folder or hub id; return it and whether it is quantised.

    `task_type` is what a head will predict: ner, re, qa or a `core.types.Kind`. Each of them reads hidden
    states, so the language-model head is left out; `model.task_kind` keeps it. Over 4B parameters are loaded
    in NF4 unless `quantization` says otherwise, a dict with any of enabled, bits, quant_type, compute_dtype
    and double_quant. `model.decisions` holds each choice with its reason. It takes input_ids and a mask as
    any model of the library does; `load_backbone` is for the study's unpadded rows. Raises ConfigError for
    unknown names and values.
    """
    kind = kind_of(task_type)
    requested, nf4 = read_quantization(quantization)
    config = entry_of(model_name)
    decisions = decide(config, "auto", "auto", requested, checkpointing=gradient_checkpointing)
    decisions["attention"] = choose_stock_attention(config.architecture, capability(decisions["device"]))
    source = source_of(config)
    with _hub_access(config, source):
        model = _backbone(source, config.revision, decisions, nf4)
    model.decisions, model.task_kind = decisions, kind
    return model, decisions["quantization"].value != "none"


def read_quantization(requested: Mapping[str, Any] | None) -> tuple[str | None, dict[str, Any]]:
    """Return "nf4", "none", or None for the rule by size, and bitsandbytes' settings. Raises ConfigError."""
    if requested is None:
        return None, {}
    if not isinstance(requested, Mapping):
        raise ConfigError(f"quantization is {requested!r}; give a dict with {', '.join(ALLOWED)}, or None")
    for key, value in requested.items():
        if key not in ALLOWED:
            known = f"{', '.join(ALLOWED)}{nearest(key, ALLOWED)}"
            raise ConfigError(f"unknown key 'quantization.{key}'; allowed: {known}")
        if not any(type(value) is type(one) and value == one for one in ALLOWED[key]):
            allowed = ", ".join(map(repr, ALLOWED[key]))
            raise ConfigError(f"quantization.{key}={value!r} is not offered; allowed: {allowed}")
    names = {"compute_dtype": "bnb_4bit_compute_dtype", "double_quant": "bnb_4bit_use_double_quant"}
    settings = {names[key]: value for key, value in requested.items() if key in names}
    return "nf4" if requested.get("enabled", True) else "none", settings


def kind_of(task_type: str) -> Kind:
    """Return the kind of a task type. Raises ConfigError for an unknown word."""
    if task_type not in TASK_TYPES:
        known = f"{', '.join(TASK_TYPES)}{nearest(task_type, TASK_TYPES)}"
        raise ConfigError(f"task_type is {task_type!r}; allowed: {known}")
    return TASK_TYPES[task_type]


def entry_of(model_name: str) -> ModelConfig:
    """Find the entry of a registry name, or read one off the config.json of a folder or of a hub id.

    A model with a recipe is built first (models/tiny.py), as the pages' default profile builds it. Raises
    ConfigError for a name that is none of these, with the nearest, for an architecture that is not supported
    and for a repository that cannot be reached.
    """
    from kaggle_kit.data.practice import corpus_text

    run = compose(model=model_name)
    if not run.model.recipe:
        return run.model
    place = place_of(run.model) or str(build_tiny(run.model.architecture, corpus_text(run.practice)))
    return replace(run.model, path=place)


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


def _backbone(
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
    backbone, info = kind.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        attn_implementation=values["attention"],
        quantization_config=BitsAndBytesConfig(**settings) if quantized else None,
        device_map={"": values["device"]} if quantized and values["device"] == "cuda" else None,
        output_loading_info=True,
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
