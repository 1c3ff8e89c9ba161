"""A run's configuration as plain values, and for each of them the file or argument that set it.

values = plain_values(config)                    # {"strategy": {"rank": 16, …}, "training": {…}, …}
sources = value_sources(values, request)         # {"training.epochs": "argument training.epochs=2", …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from omegaconf import OmegaConf

from kaggle_kit.core.params import shown
from kaggle_kit.core.request import Request
from kaggle_kit.core.schema import RunConfig, filled_ranks, quantization_for

DEFAULT = "default of kaggle_kit/core/schema.py"
FILLED = {  # keys that may be left empty -> what they follow then
    "strategy.rank": "empty: model.lora.rank",
    "strategy.private_rank": "empty: half of strategy.rank (all of it where nothing is shared)",
    "strategy.level1_rank": "empty: half of strategy.rank",
    "strategy.level2_rank": "empty: half of strategy.rank",
    "strategy.quantization": "empty: by model.parameters",
    "training.head_learning_rate": "empty: training.learning_rate",
    "experiment.reference": "empty: the strategy",
}


def plain_values(config: RunConfig) -> dict[str, Any]:
    """Nested dicts, lists and scalars; what follows another value where it is left empty is filled in."""
    strategy = filled_ranks(config.strategy, config.model.lora)
    strategy.quantization = strategy.quantization or quantization_for(config.model.parameters) or "none"
    training = replace(config.training)
    if training.head_learning_rate is None:
        training.head_learning_rate = training.learning_rate
    return asdict(replace(config, strategy=strategy, training=training))


def value_sources(values: Mapping[str, Any], request: Request) -> dict[str, str]:
    """Dotted key -> where the value comes from, for every leaf of `plain_values`; a list is one leaf."""
    said: dict[str, tuple[str, Any]] = {}
    if request.described is not None:
        source = f"config.json of {request.chosen('model')}"
        said |= {key: (source, value) for key, value in _leaves(request.described, "model")}
    for file, package in request.files():
        leaves = _leaves(OmegaConf.to_container(OmegaConf.load(file)), package)
        said |= {key: (shown(file), value) for key, value in leaves}
    sources = {}
    for key, value in _leaves(values):
        source, written = said.get(key, (DEFAULT, None))
        sources[key] = FILLED[key] if key in FILLED and written is None and value is not None else source
    for key, value in request.values:
        argument = f"argument {key}={value}"
        sources |= {inner: argument for inner, _ in _leaves(value, key) if inner in sources}
        sources |= {  # a place in a list
            outer: f"{source}, then {argument}"
            for outer, source in sources.items()
            if key.startswith(f"{outer}.")
        }
    return sources


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all leaves; `defaults` belongs to Hydra and is none."""
    if not isinstance(node, Mapping) or not node:
        yield place, node
        return
    for key, inner in node.items():
        if place or key != "defaults":
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
