"""The supported backbones, and what a model's config.json says about one: no torch, no weights.

known = ARCHITECTURES["qwen2"]
known.family, known.targets, parameters(config), positions(config)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QKV = ("query", "key", "value")
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
BEHIND_PADDING = ("roberta", "xlm-roberta")  # they count positions from behind the padding's
ENCODER_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers")
DECODER_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads")


@dataclass(frozen=True)
class Architecture:
    """`targets`: the attention's linear layers, which get LoRA. The rest is for counting parameters."""

    family: str  # decoder | encoder
    targets: tuple[str, ...]
    norms: str = ""  # per decoder layer besides two of the hidden size: four | heads | four heads | wide
    query_bias: bool = False
    tied: bool = False  # whether input and output embeddings are one where the file does not say
    pooler: bool = False


ARCHITECTURES = {
    "bert": Architecture("encoder", QKV, pooler=True),
    "roberta": Architecture("encoder", QKV, pooler=True),
    "xlm-roberta": Architecture("encoder", QKV, pooler=True),
    "electra": Architecture("encoder", QKV),
    "deberta-v2": Architecture("encoder", ("query_proj", "key_proj", "value_proj")),
    "distilbert": Architecture("encoder", ("q_lin", "k_lin", "v_lin")),
    "modernbert": Architecture("encoder", ("Wqkv",)),
    "llama": Architecture("decoder", QKVO),
    "mistral": Architecture("decoder", QKVO),
    "qwen2": Architecture("decoder", QKVO, query_bias=True),
    "qwen3": Architecture("decoder", QKVO, norms="heads"),
    "gemma2": Architecture("decoder", QKVO, norms="four", tied=True),
    "gemma3_text": Architecture("decoder", QKVO, norms="four heads", tied=True),
    "phi3": Architecture("decoder", ("qkv_proj", "o_proj")),
    "smollm3": Architecture("decoder", QKVO, tied=True),
    "olmo2": Architecture("decoder", QKVO, norms="wide"),
}


def positions(config: Mapping[str, Any]) -> int:
    """Return the longest sequence in tokens."""
    most = int(config.get("max_position_embeddings", 512))
    if config["model_type"] in BEHIND_PADDING:
        return most - int(config.get("pad_token_id", 1)) - 1
    return most


def parameters(config: Mapping[str, Any]) -> int:
    """Return the parameter count of a published model: a decoder's with its language-model head.

    Raises KeyError for a file that lacks one of the sizes.
    """
    known = ARCHITECTURES[config["model_type"]]
    if known.family == "decoder":
        return _decoder(config, known)
    return _modernbert(config) if config["model_type"] == "modernbert" else _encoder(config, known)


def _linear(inputs: int, outputs: int, bias: bool | None = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _decoder(config: Mapping[str, Any], known: Architecture) -> int:
    hidden, inner, heads = (config[name] for name in DECODER_SIZES)
    width = config.get("head_dim") or hidden // heads
    queries, keys = heads * width, (config.get("num_key_value_heads") or heads) * width
    attention_bias, mlp_bias = config.get("attention_bias"), config.get("mlp_bias")
    inward, outward = known.query_bias or attention_bias, attention_bias and not known.query_bias
    layer = _linear(hidden, queries + 2 * keys, inward) + _linear(queries, hidden, outward)
    layer += 2 * _linear(hidden, inner, mlp_bias) + _linear(inner, hidden, mlp_bias)
    layer += hidden * (4 if "four" in known.norms else 2) + (2 * width if "heads" in known.norms else 0)
    layer += queries + keys if known.norms == "wide" else 0
    tables = 1 if config.get("tie_word_embeddings", known.tied) else 2
    return tables * config["vocab_size"] * hidden + config["num_hidden_layers"] * layer + hidden


def _encoder(config: Mapping[str, Any], known: Architecture) -> int:
    kind, relative = config["model_type"], bool(config.get("relative_attention"))
    names = ("dim", "hidden_dim", "n_layers") if kind == "distilbert" else ENCODER_SIZES
    hidden, inner, layers = (config[name] for name in names)
    first = config.get("embedding_size") or hidden  # of the embeddings
    rows = config["vocab_size"] + (0 if kind == "distilbert" else config.get("type_vocab_size", 2))
    if not (relative and config.get("position_biased_input") is False):
        rows += config.get("max_position_embeddings", 512)
    count = rows * first + 2 * (hidden if kind == "deberta-v2" else first)
    if first != hidden:
        count += _linear(first, hidden, bias=known.targets == QKV)  # DeBERTa projects without a bias
    layer = 4 * _linear(hidden, hidden) + _linear(hidden, inner) + _linear(inner, hidden) + 4 * hidden
    if relative:
        count += _relative(config, hidden)
        kinds = () if config.get("share_att_key", False) else config.get("pos_att_type") or ()
        layer += sum(_linear(hidden, hidden) for part in ("c2p", "p2c") if part in kinds)
    return count + layers * layer + (_linear(hidden, hidden) if known.pooler else 0)


def _relative(config: Mapping[str, Any], hidden: int) -> int:
    """DeBERTa's table of relative positions with its norm, and the convolution of the largest models."""
    furthest = config.get("max_relative_positions", -1)
    furthest = config.get("max_position_embeddings", 512) if furthest < 1 else furthest
    buckets = config.get("position_buckets", -1)
    count = 2 * (buckets if buckets > 0 else furthest) * hidden
    count += 2 * hidden if "layer_norm" in str(config.get("norm_rel_ebd", "none")) else 0
    kernel = config.get("conv_kernel_size", 0)
    return count + (hidden**2 // config.get("conv_groups", 1) * kernel + 3 * hidden if kernel else 0)


def _modernbert(config: Mapping[str, Any]) -> int:
    hidden, inner, layers = (config[name] for name in ENCODER_SIZES)
    attention_bias, mlp_bias = config.get("attention_bias"), config.get("mlp_bias")
    layer = _linear(hidden, 3 * hidden, attention_bias) + _linear(hidden, hidden, attention_bias)
    layer += _linear(hidden, 2 * inner, mlp_bias) + _linear(inner, hidden, mlp_bias)
    norms = 2 * layers + 1  # two a layer and the last; the first layer's first is the embeddings'
    norm = hidden * (2 if config.get("norm_bias") else 1)
    return config["vocab_size"] * hidden + layers * layer + norms * norm
