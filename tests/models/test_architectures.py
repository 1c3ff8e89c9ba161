"""What config.json says of a supported backbone, against the library's own model of that configuration."""

from __future__ import annotations

import json

import pytest
import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as OF_PEFT
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from kaggle_kit.core.architectures import ARCHITECTURES, parameters, positions

SMALL = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = SMALL | HEADS | {"num_key_value_heads": 2, "head_dim": 16}
V3 = {"relative_attention": True, "position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
V3 |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}
CASES = [(kind, {}) for kind in ARCHITECTURES] + [
    *((kind, DECODER) for kind, known in ARCHITECTURES.items() if known.family == "decoder"),
    *((kind, DECODER | {"attention_bias": True}) for kind in ("llama", "qwen2", "qwen3", "olmo2")),
    *((kind, DECODER | {"tie_word_embeddings": True}) for kind in ("llama", "qwen3")),
    ("gemma3_text", DECODER | {"head_dim": 32}),
    ("electra", SMALL | HEADS | {"embedding_size": 32}),
    ("deberta-v2", SMALL | HEADS | V3),
]


@pytest.mark.parametrize(("kind", "sizes"), CASES)
def test_parameters_targets_and_positions_are_those_of_the_librarys_own_model(kind, sizes, tmp_path):
    config = AutoConfig.for_model(kind, **sizes)
    config.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    decoder = ARCHITECTURES[kind].family == "decoder"
    with torch.device("meta"):
        model = (AutoModelForCausalLM if decoder else AutoModel).from_config(config)
    model.tie_weights()  # transformers 5.0 does not, on the meta device
    assert parameters(said) == sum(parameter.numel() for parameter in model.parameters())
    linear = {name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "in_features")}
    assert set(ARCHITECTURES[kind].targets) <= linear
    offset = config.pad_token_id + 1 if "roberta" in kind else 0
    assert positions(said) == config.max_position_embeddings - offset


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind in OF_PEFT])
def test_what_peft_would_adapt_is_adapted(kind):
    assert set(OF_PEFT[kind]) <= set(ARCHITECTURES[kind].targets)
