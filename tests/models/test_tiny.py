"""The tiny decoder: four architectures, its tokenizer, its cache, and that pre-training teaches it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models import tiny

TEXTS = ["The patient has a mild fever and was given aspirin.", "No known allergies — naïve, 37 °C."] * 20
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A model of two narrow layers, few and short training sequences, a cache of its own."""
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))
    monkeypatch.setattr(tiny, "SHAPE", tiny.SHAPE | SMALL)
    monkeypatch.setattr(tiny, "SEQUENCES", 4)
    monkeypatch.setattr(tiny, "LENGTH", 24)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.train_tokenizer(TEXTS)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_loads_as_a_headless_backbone_of_its_kind(architecture):
    folder = tiny.build_tiny(architecture, TEXTS, steps=0)
    model = AutoModel.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == architecture
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 32)
    ids = torch.tensor([tokenizer("mild fever")["input_ids"]])
    hidden = model(input_ids=ids).last_hidden_state
    assert hidden.shape == (1, ids.shape[1], 32)
    assert hidden.isfinite().all()


@pytest.mark.parametrize("text", [*TEXTS[:2], "unseen: Ωmega\t42", " leading blank", ""])
def test_a_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


def test_offsets_leave_out_the_blank_before_a_word(tokenizer):
    text = TEXTS[0]
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[0] == (0, 0)  # the begin token stands for no character
    pieces = [text[start:end] for start, end in offsets[1:]]
    assert "fever" in pieces
    assert pieces == [piece.strip() for piece in pieces]
    assert "".join(pieces) == text.replace(" ", "")


def test_special_tokens_have_the_numbers_that_the_model_is_told(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len(tokenizer) <= tiny.VOCABULARY


def test_the_folder_follows_the_content_of_texts_and_recipe():
    folder = tiny.build_tiny("llama", TEXTS, steps=0)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert tiny.build_tiny("llama", list(TEXTS), steps=0) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    others = [
        tiny.build_tiny("llama", [*TEXTS, "more"], steps=0),
        tiny.build_tiny("llama", ["".join(TEXTS)], steps=0),
        tiny.build_tiny("llama", TEXTS, steps=1),
        tiny.build_tiny("llama", TEXTS, steps=0, seed=1),
        tiny.build_tiny("mistral", TEXTS, steps=0),
    ]
    assert len({folder, *others}) == 6


def test_the_same_recipe_gives_the_same_weights_in_another_cache(tmp_path, monkeypatch):
    folders = []
    for name in ("here", "there"):
        monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / name))
        folders.append(tiny.build_tiny("llama", TEXTS, steps=2))
    first, again = (AutoModel.from_pretrained(folder).state_dict() for folder in folders)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_global_torch_generator_is_left_alone():
    before = torch.random.get_rng_state()
    tiny.build_tiny("llama", TEXTS, steps=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_unknown_architecture_is_named_with_the_allowed_ones():
    with pytest.raises(ConfigError, match="no tiny 'qwen'; allowed: llama, mistral, phi3, gemma2"):
        tiny.build_tiny("qwen", TEXTS)


def test_too_little_text_is_refused_and_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="tokens of text are too few to pre-train on; need 26"):
        tiny.build_tiny("llama", ["short"], steps=1)
    assert not [entry for entry in (tmp_path / "tiny").iterdir() if entry.is_dir()]


def test_pretraining_lowers_the_loss():
    random, trained = (
        next_token_loss(tiny.build_tiny("llama", TEXTS, steps=steps), TEXTS[0]) for steps in (0, 120)
    )
    assert trained < 0.5 * random


def next_token_loss(folder, text: str) -> float:
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
    return F.cross_entropy(logits[0, :-1], ids[0, 1:]).item()
