"""Which linear layers a backbone has, known without loading it.

linears = linear_shapes(SHAPES["gemma2b"], ["q_proj", "down_proj"])    # one layer's (in, out) pairs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_kit.core.errors import ConfigError


@dataclass(frozen=True)
class Shape:
    """The numbers of a transformers config that decide parameter counts, under the library's names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int


# The study's six models, from the config.json of their repositories.
SHAPES = {
    "gemma2b": Shape(2304, 9216, 26, 8, 4, 256),
    "phi3mini": Shape(3072, 8192, 32, 32, 32, 96),
    "llama3b": Shape(3072, 8192, 28, 24, 8, 128),
    "mistral7b": Shape(4096, 14336, 32, 32, 8, 128),
    "llama8b": Shape(4096, 14336, 32, 32, 8, 128),
    "biomistral": Shape(4096, 14336, 32, 32, 8, 128),
}


def shape_of(config: Any) -> Shape:
    """The shape of a transformers config, of a decoder or a BERT encoder."""
    heads = config.num_attention_heads
    return Shape(
        config.hidden_size,
        getattr(config, "intermediate_size", None) or config.hidden_dim,
        config.num_hidden_layers,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        head_width(config),
    )


def head_width(config: Any) -> int:
    """The width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def linear_shapes(shape: Shape, targets: Sequence[str]) -> list[tuple[int, int]]:
    """(in, out) of each targeted layer of one transformer block. Raises ConfigError for unknown names."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    known = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
        "qkv_proj": (hidden, queries + 2 * keys),  # Phi-3 fuses these two
        "gate_up_proj": (hidden, 2 * inner),
        "Wqkv": (hidden, 3 * queries),  # ModernBERT
        # BERT and its like, DeBERTa, DistilBERT
        **dict.fromkeys(("query", "key", "value"), (hidden, queries)),
        **dict.fromkeys(("query_proj", "key_proj", "value_proj"), (hidden, queries)),
        **dict.fromkeys(("q_lin", "k_lin", "v_lin"), (hidden, queries)),
    }
    if unknown := [target for target in targets if target not in known]:
        raise ConfigError(f"no shape is known of {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[target] for target in targets]
