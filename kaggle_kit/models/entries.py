"""From any name to a model's entry: one of params/model, a local folder, or a repository of the hub.

config, quantization, nf4 = entry_of("google/gemma-2-2b"), *read_quantization({"bits": 4})
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.schema import ModelConfig, PracticeConfig
from kaggle_kit.core.types import Kind
from kaggle_kit.models.tiny import build_tiny

TASK_TYPES = {"ner": Kind.TOKENS, "re": Kind.RELATIONS, "qa": Kind.RANKING} | {k.value: k for k in Kind}
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
    """The entry of a registry name, or one read off the config.json of a folder or of a hub id.

    A model with a recipe is built first (models/tiny.py). Raises ConfigError for a name that is none of
    these, with the nearest, for an architecture that is not supported and for a repository that cannot be
    reached.
    """
    run = compose(model=model_name)
    return _built(run.model, run.practice) if run.model.recipe else run.model


def _built(model: ModelConfig, practice: PracticeConfig) -> ModelConfig:
    """The entry with the folder of the build that the pages' default profile also takes."""
    from kaggle_kit.data.practice import corpus_text

    return replace(model, path=place_of(model) or str(build_tiny(model.architecture, corpus_text(practice))))


def place_of(model: ModelConfig) -> str | None:
    """The folder that the entry or the environment gives: `model.path`, else `KAGGLE_KIT_MODEL_<NAME>`."""
    return model.path or os.environ.get(variable_of(model))


def variable_of(model: ModelConfig) -> str:
    """The environment variable of a model's folder; what no variable's name may hold is an underscore."""
    return f"KAGGLE_KIT_MODEL_{re.sub(r'[^A-Z0-9]', '_', model.name.upper())}"
