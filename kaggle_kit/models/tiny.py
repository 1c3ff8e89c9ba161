"""A decoder small enough to build on the spot: tokenizer, random weights, a minute of pre-training.

    folder = build_tiny("llama", texts)        # cached by the content of the texts and of this recipe

It has the real architectures (Llama, Gemma-2, Phi-3, Mistral) at toy size, so that everything the
study does to a 3B model can be run in seconds without a download. Nothing it scores means anything.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.errors import ConfigError

VERSION = 1  # raise when the same texts would give another model
VOCABULARY = 2048
SHAPE = {
    "hidden_size": 160,
    "intermediate_size": 480,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "phi3": {"model_type": "phi3", "sliding_window": None},
    "gemma2": {"model_type": "gemma2", "head_dim": 40, "query_pre_attn_scalar": 40, "sliding_window": 512},
}
BEGIN, END, PAD = "<s>", "</s>", "<pad>"
PRETRAINING_STEPS = 200
SEQUENCES, LENGTH = 16, 96  # per pre-training step
LEARNING_RATE = 3e-3


def build_tiny(
    architecture: str, texts: Sequence[str], *, steps: int = PRETRAINING_STEPS, seed: int = 0
) -> Path:
    """Return the folder of a pre-trained tiny model, built unless the same one is in the cache.

    With the default steps it takes under a minute on two CPU cores. Raises ConfigError for an
    architecture that is none of `ARCHITECTURES` and for texts too short to learn from.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"no tiny {architecture!r}; allowed: {', '.join(ARCHITECTURES)}")
    recipe = [VERSION, architecture, SHAPE, VOCABULARY, steps, SEQUENCES, LENGTH, LEARNING_RATE, seed]
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    folder = cache_dir("tiny") / f"{architecture}-{digest.hexdigest()[:16]}"
    return build_once(folder, lambda out: _build(out, architecture, texts, steps, seed))


def _build(folder: Path, architecture: str, texts: Sequence[str], steps: int, seed: int) -> None:
    tokenizer = train_tokenizer(texts)
    model = random_model(architecture, len(tokenizer), seed)
    _pretrain(model, tokenizer, texts, steps, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; its offsets leave out the blank before a word."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    begins = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, core.token_to_id(BEGIN))]
    )
    core.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), begins])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=PAD)


def random_model(architecture: str, vocabulary: int, seed: int) -> PreTrainedModel:
    """Build the architecture at toy size with random weights; leave the global torch generator alone."""
    config = AutoConfig.for_model(
        **ARCHITECTURES[architecture],
        **SHAPE,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def _pretrain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], steps: int, seed: int
) -> None:
    """Next-token training on random stretches of the texts, end to end."""
    stream = torch.tensor([token for text in texts for token in (*tokenizer(text)["input_ids"], 2)])
    if steps and len(stream) <= LENGTH + 1:
        raise ConfigError(f"{len(stream)} tokens of text are too few to pre-train on; need {LENGTH + 2}")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=max(1, steps), pct_start=0.1
    )
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(stream) - LENGTH - 1, (SEQUENCES, 1), generator=generator)
        window = stream[starts + torch.arange(LENGTH + 1)]  # (SEQUENCES, LENGTH + 1)
        logits = model(input_ids=window[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
