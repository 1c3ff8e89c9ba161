"""load_model: a backbone by a name alone, for whoever wants a stock model and no run.

model, is_quantized = load_model("llama3b", "ner")       # an entry of params/model, a folder or a hub id
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.types import Kind
from kaggle_kit.data.practice import corpus_text
from kaggle_kit.models.decisions import capability, choose_stock_attention, decide
from kaggle_kit.models.loading import frozen_backbone, hub_access, place_of, source_of
from kaggle_kit.models.tiny import build_tiny

TASK_TYPES = {"ner": Kind.TOKENS, "re": Kind.RELATIONS, "qa": Kind.RANKING} | {k.value: k for k in Kind}
ALLOWED: Mapping[str, tuple[Any, ...]] = {  # what a quantization dict may say
    "enabled": (True, False),
    "bits": (4,),
    "quant_type": ("nf4",),
    "compute_dtype": ("float16", "bfloat16", "float32"),
    "double_quant": (True, False),
}


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
    with hub_access(config, source):
        model = frozen_backbone(source, config.revision, decisions, nf4)
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
    run = compose(model=model_name)
    if not run.model.recipe:
        return run.model
    place = place_of(run.model) or str(build_tiny(run.model.architecture, corpus_text(run.practice)))
    return replace(run.model, path=place)
