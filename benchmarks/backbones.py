"""How far each architecture's hidden states are from the library's own, for each way that strategies read it.

    python -m benchmarks.backbones            # prints the table
    python -m benchmarks.backbones --write    # and puts it into docs/models.md

Every backbone is tiny, random and built on the spot. The difference is that of `models/verify.py`, which
every run measures on its own backbone before it trains.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModel, PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.decisions import choose_padded_attention
from kaggle_kit.models.reading import Reader, Stages, class_of, packable
from kaggle_kit.models.verify import verify_reading, verify_stages

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
DEPTH, WINDOW = 4, 5
COMMON = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
DEBERTA = {"model_type": "deberta-v2", "relative_attention": True, "position_biased_input": False}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "norm_rel_ebd": "layer_norm"}
DEBERTA |= {"position_buckets": 8, "share_att_key": True}
GROUPED = {"num_key_value_heads": 2}
SLIDING = {"sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8}
ENCODERS = {
    "BERT": {"model_type": "bert"},
    "RoBERTa": {"model_type": "roberta", "type_vocab_size": 1},
    "XLM-R": {"model_type": "xlm-roberta", "type_vocab_size": 1},
    "ELECTRA": {"model_type": "electra", "embedding_size": 16},
    "DeBERTa-v2": DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu"},
    "DeBERTa-v3": DEBERTA,
    "ModernBERT": {"model_type": "modernbert", "local_attention": 2 * WINDOW, "cls_token_id": 0},
    "DistilBERT": {"model_type": "distilbert", "dim": 32, "hidden_dim": 48, "n_layers": DEPTH, "n_heads": 4},
}
ENCODERS["ModernBERT"] |= {"sep_token_id": 2, "global_attn_every_n_layers": 2}
DECODERS = {
    "Llama": {"model_type": "llama", **GROUPED},
    "Mistral": {"model_type": "mistral", "sliding_window": WINDOW, **GROUPED},
    "Qwen2": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": WINDOW, **GROUPED},
    "Qwen3": {"model_type": "qwen3", "head_dim": 8, **GROUPED},
    "Gemma-2": {"model_type": "gemma2", "attn_logit_softcapping": 1.0, **SLIDING, **GROUPED},
    "Gemma-3": {"model_type": "gemma3_text", **SLIDING, **GROUPED},
    "Phi-3": {"model_type": "phi3", "sliding_window": WINDOW, **GROUPED},
    "SmolLM3": {"model_type": "smollm3", **GROUPED},
    "OLMo-2": {"model_type": "olmo2", **GROUPED},
}
DECODERS["Qwen2"]["max_window_layers"] = 2
DECODERS["Gemma-3"]["layer_types"] = ["sliding_attention", "full_attention"] * (DEPTH // 2)


def toy_backbone(name: str, **changes: object) -> PreTrainedModel:
    """A frozen backbone of the architecture with weights large enough for attention to be far from even."""
    own = (ENCODERS | DECODERS)[name]
    shape = COMMON if own["model_type"] != "distilbert" else {k: COMMON[k] for k in list(COMMON)[-5:]}
    shape = shape | ({"vocab_size": 60} if own["model_type"] == "distilbert" else {})
    config = AutoConfig.for_model(**shape | own | changes)
    kind = class_of(config)
    attention = PACKED if packable(kind) else choose_padded_attention(kind).value
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.config.use_cache = False
    return model.requires_grad_(False)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Architecture, way, difference read together, largest difference over all cuts."""
    for name in ENCODERS | DECODERS:
        backbone, causal = toy_backbone(name), name in DECODERS
        reader = Reader(backbone)
        together = _measured(lambda b=backbone, c=causal: verify_reading(b, causal=c))
        cut = _measured(
            lambda r=reader, c=causal: max(verify_stages(Stages(r, at), causal=c) for at in range(1, DEPTH))
        )
        yield name, "packed" if reader.packs else "padded", together, cut


def _measured(measure: Callable[[], float]) -> str:
    try:
        return f"{far:.0e}" if (far := measure()) else "0"
    except ConfigError as error:
        return f"refused: {str(error).splitlines()[0]}"


def table() -> str:
    lines = [
        "| architecture | rows | S1, S2, A2, S3a, S4 | S3b |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows()),
        "",
        f"Measured with transformers {transformers.__version__} in float32.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    made = table()
    if parser.parse_args().write:
        text = PAGE.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
    print(made)  # noqa: T201


if __name__ == "__main__":
    main()
