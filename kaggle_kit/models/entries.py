"""From any name to a model's entry: one of params/model, a local folder, or a repository of the hub.

config, quantization, nf4 = entry_of("google/gemma-2-2b"), *read_quantization({"bits": 4})
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from kaggle_kit.core.config import compose, members, params_dir
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.schema import LoraSettings, ModelConfig, PracticeConfig, quantization_for
from kaggle_kit.core.types import Kind
from kaggle_kit.models.tiny import build_tiny

TASK_TYPES = {"ner": Kind.TOKENS, "re": Kind.RELATIONS, "qa": Kind.RANKING} | {k.value: k for k in Kind}
LORA_TARGETS = {"bert": ["query", "key", "value"], "phi3": ["qkv_proj", "o_proj"]}
ATTENTION_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALLOWED: Mapping[str, tuple[Any, ...]] = {  # what a quantization dict may say
    "enabled": (True, False),
    "bits": (4,),
    "quant_type": ("nf4",),
    "compute_dtype": ("float16", "bfloat16", "float32"),
    "double_quant": (True, False),
}


@dataclass(frozen=True)
class Nf4:
    """How 4-bit weights are kept and multiplied; without a dtype, in that of the other weights."""

    compute_dtype: str | None = None
    double_quant: bool = True


def read_quantization(said: Mapping[str, Any] | None) -> tuple[str | None, Nf4]:
    """("nf4", "none", or None for the rule by size) and its settings. ConfigError for what it may not say."""
    if said is None:
        return None, Nf4()
    if not isinstance(said, Mapping):
        raise ConfigError(f"quantization is {said!r}; give a dict with {', '.join(ALLOWED)}, or None")
    for key, value in said.items():
        if key not in ALLOWED:
            raise ConfigError(
                f"unknown key 'quantization.{key}'; allowed: {', '.join(ALLOWED)}{nearest(key, ALLOWED)}"
            )
        if not any(value is one or (type(value) is type(one) and value == one) for one in ALLOWED[key]):
            allowed = ", ".join(map(repr, ALLOWED[key]))
            raise ConfigError(f"quantization.{key}={value!r} is not offered; allowed: {allowed}")
    settings = Nf4(said.get("compute_dtype"), said.get("double_quant", True))
    return "nf4" if said.get("enabled", True) else "none", settings


def kind_of(task_type: str) -> Kind:
    """What a head on the model will predict. ConfigError for an unknown word."""
    if task_type not in TASK_TYPES:
        known = f"{', '.join(TASK_TYPES)}{nearest(task_type, TASK_TYPES)}"
        raise ConfigError(f"task_type is {task_type!r}; allowed: {known}")
    return TASK_TYPES[task_type]


def entry_of(model_name: str) -> ModelConfig:
    """The entry of a registry name, of a hub id that has one, or one read off the model's own config.

    A model with a recipe is built first (models/tiny.py). Raises ConfigError for a name that is none of
    these, with the nearest, and for a repository that cannot be reached.
    """
    names = members("model")
    hub_ids = (OmegaConf.load(params_dir() / "model" / f"{name}.yaml").get("hub_id") for name in names)
    known = dict(zip(hub_ids, names, strict=True)) | {name: name for name in names}
    if model_name in known:
        run = compose(model=known[model_name])
        return _built(run.model, run.practice) if run.model.recipe else run.model
    folder = Path(model_name).expanduser()
    if not folder.is_dir() and model_name.count("/") != 1:
        raise ConfigError(
            f"no model {model_name!r}: it is no folder, no hub id such as google/gemma-2-2b, and none of "
            f"{', '.join(names)}{nearest(model_name, names)}"
        )
    return _described(model_name, str(folder) if folder.is_dir() else None)


def _built(model: ModelConfig, practice: PracticeConfig) -> ModelConfig:
    """The entry with the folder of the build that the pages' default profile also takes."""
    from kaggle_kit.data.practice import corpus_text

    return replace(model, path=place_of(model) or str(build_tiny(model.architecture, corpus_text(practice))))


def place_of(model: ModelConfig) -> str | None:
    """The folder that the entry or the environment gives: `model.path`, else `KAGGLE_KIT_MODEL_<NAME>`."""
    return model.path or os.environ.get(f"KAGGLE_KIT_MODEL_{model.name.upper()}")


def _described(source: str, folder: str | None) -> ModelConfig:
    try:
        config = AutoConfig.from_pretrained(folder or source)
    except (OSError, ValueError) as error:
        where = "folder holds" if folder else "hub gives"
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model {source!r}: the {where} no config.json of a known kind ({reason})"
        ) from error
    mappings = (AutoModelForCausalLM._model_mapping, AutoModelForMaskedLM._model_mapping)
    causal, masked = (type(config) in mapping for mapping in mappings)
    if config.is_encoder_decoder or not (causal or masked):
        raise ConfigError(
            f"model {source!r} is of kind {config.model_type!r}; allowed: decoders and encoders"
        )
    decoder = causal and not masked
    with torch.device("meta"):  # counted, not allocated; with the head that a published count includes
        model = (AutoModelForCausalLM if decoder else AutoModel).from_config(config)
    size = sum(parameter.numel() for parameter in model.parameters())
    rank = 32 if quantization_for(size) else 16
    return ModelConfig(
        name=Path(source).name,
        title=source,
        hub_id=None if folder else source,
        path=folder,
        family="decoder" if decoder else "encoder",
        architecture=config.model_type,
        parameters=size,
        max_positions=getattr(config, "max_position_embeddings", 512),
        lora=LoraSettings(rank, 2 * rank, 0.05, LORA_TARGETS.get(config.model_type, ATTENTION_TARGETS)),
    )
