"""Loading: decisions with reasons, the study's rules by size and device, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.experiment import preparation
from kaggle_kit.heads.dropout import set_backbone_dropout
from kaggle_kit.models import attention, decisions, loading
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.attention import PACKED, packed_attention
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.tiny import train_tokenizer
from kaggle_kit.models.unsloth import assert_consistent, probe_states, with_unsloth
from kaggle_kit.models.verify import Probe

T4, A100 = (7, 5), (8, 0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemma2b", "none"),
        ("phi3mini", "none"),
        ("llama3b", "none"),
        ("mistral7b", "nf4"),
        ("llama8b", "nf4"),
    ],
)
def test_more_than_four_billion_parameters_are_quantised(model, expected):
    decision = decisions.choose_quantization(compose(model=model).model)
    assert decision.value == expected
    assert ("not more than 4B" in decision.reason) == (expected == "none")


@pytest.mark.parametrize(
    ("device", "capability", "expected", "why"),
    [
        ("cpu", None, "float32", "half precision is slower"),
        ("cuda", T4, "float16", "7.5: bfloat16 is only emulated"),
        ("cuda", A100, "float16", "8.0: as on the T4"),
    ],
)
def test_precision_follows_the_device(device, capability, expected, why):
    decision = decisions.choose_dtype(device, "auto", capability)
    assert decision.value == expected
    assert why in decision.reason


@pytest.mark.parametrize(
    ("model", "device", "asked", "expected"),
    [
        ("mistral7b", "cuda", False, "on"),
        ("biomistral", "cuda", False, "on"),
        ("llama3b", "cuda", False, "off"),
        ("llama3b", "cuda", True, "on"),
        ("llama8b", "cpu", True, "off"),
    ],
)
def test_seven_billion_and_more_are_always_checkpointed_on_a_gpu(model, device, asked, expected):
    assert decisions.choose_checkpointing(compose(model=model).model, device, asked).value == expected


def test_flash_attention_is_not_even_tried_on_a_t4(monkeypatch):
    monkeypatch.setattr(attention, "probe", lambda *_: pytest.fail("probed"))
    decision = decisions.choose_attention("llama", T4, 128)
    assert decision.value == PACKED
    assert "compute capability 7.5: FlashAttention-2 needs 8.0" in decision.reason


def test_gemma2_stays_eager_on_every_device(monkeypatch):
    monkeypatch.setattr(attention, "probe", lambda *_: None)
    assert decisions.choose_attention("gemma2", (9, 0), 256).value == PACKED
    assert decisions.choose_attention("llama", (9, 0), 128).value == attention.FLASH


@pytest.mark.parametrize(("width", "taken"), [(32, False), (40, False), (64, True), (96, True), (256, False)])
def test_flash_attention_is_not_taken_at_a_head_width_that_was_never_probed(monkeypatch, width, taken):
    monkeypatch.setattr(attention, "probe", lambda *_: None)
    decision = decisions.choose_attention("llama", A100, width)
    assert decision.value == (attention.FLASH if taken else PACKED)
    assert taken or f"heads are {width} wide, and it is probed at 64, 96, 128 only" in decision.reason


def test_attention_is_chosen_by_the_head_width_of_the_model_that_is_loaded(toys, monkeypatch):
    widths = []
    plain = decisions.choose_attention
    monkeypatch.setattr(
        decisions, "choose_attention", lambda *given: widths.append(given[2]) or plain(*given)
    )
    assert [toys.loaded(name).backbone.config.head_dim for name in ("llama", "gemma2")] == widths


@pytest.mark.parametrize("why", ["the probe failed: off by 7.0% from the reference", None])
def test_flash_attention_is_taken_where_its_probe_passes(monkeypatch, why):
    monkeypatch.setattr(attention, "probe", lambda *_: why)
    assert attention.why_no_flash(A100) == why


def test_one_width_or_window_where_flash_attention_is_wrong_is_enough_not_to_take_it(monkeypatch):
    monkeypatch.setattr(attention, "probe", lambda *given: "off" if given[3] == (96, False, 16) else None)
    assert attention.why_no_flash(A100) == "off"


def test_a_probe_that_raises_is_a_reason_not_an_error(monkeypatch):
    def raising(*_):
        raise RuntimeError("no kernel image is available\nfor execution")

    monkeypatch.setattr(attention, "probe", raising)
    assert attention.why_no_flash(A100) == "the probe failed: RuntimeError: no kernel image is available"


def test_the_probe_compares_values_and_gradients_with_the_reference():
    assert all(
        attention.probe(packed_attention, "cpu", torch.float32, case) is None for case in attention.PROBED
    )

    def ignoring_sequences(module, query, key, value, mask, packed=None, sliding_window=None):
        key, value = (tensor.repeat_interleave(2, 1) for tensor in (key, value))
        return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2), None

    assert "from the reference" in attention.probe(ignoring_sequences, "cpu", torch.float32)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 4])
def test_flash_attention_hands_the_kernel_the_sequences_of_the_row(monkeypatch, causal, window):
    """A stand-in with the kernel's own conventions: offsets, (left, right) windows, grouped heads."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")

    def kernel(query, key, value, starts, _, longest, __, *, scale, window_size, enable_gqa):
        assert starts.dtype == torch.int32
        outputs = []
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            assert last - first <= longest
            parts = [tensor[first:last].transpose(0, 1) for tensor in (query, key, value)]
            behind = torch.arange(last - first)[:, None] - torch.arange(last - first)
            left, right = (last if side < 0 else side for side in window_size)
            mask = (behind <= left) & (-behind <= right)
            mixed = F.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale, enable_gqa=enable_gqa)
            outputs.append(mixed.transpose(0, 1))
        return torch.cat(outputs)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    layout = PackedLayout.of((9, 7, 4), causal=causal)
    rows = [torch.randn(1, heads, 20, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    mine, _ = attention.flash_attention(None, *rows, None, sliding_window=window, packed=layout)
    reference, _ = packed_attention(None, *rows, None, sliding_window=window, packed=layout)
    torch.testing.assert_close(mine, reference)


def test_a_backbone_loads_with_flash_attention_by_its_name(toys, monkeypatch):
    taken = decisions.Decision(attention.FLASH, "FlashAttention-2: forward and backward probe passed")
    monkeypatch.setattr(decisions, "choose_attention", lambda *_: taken)
    assert toys.loaded("llama").backbone.config._attn_implementation == attention.FLASH


def test_flash_attention_leaves_rows_that_share_a_beginning_to_the_other_path():
    layout = PackedLayout.of((9, 7), causal=True, prefixes=(WHOLE, Prefix(0, 5)))
    rows = [torch.randn(1, 2, 11, 8, dtype=torch.float64) for _ in range(3)]
    mine, _ = attention.flash_attention(None, *rows, None, packed=layout)
    reference, _ = packed_attention(None, *rows, None, packed=layout)
    torch.testing.assert_close(mine, reference)


def test_trainable_parameters_must_be_float32_and_the_others_need_not():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half())
    with pytest.raises(
        ConfigError, match="must be float32, but 1.weight is float16; 1.bias is float16; cast"
    ):
        loading.assert_trainable_float32(model)
    model[1].requires_grad_(False)
    loading.assert_trainable_float32(model)


def test_checkpointed_adapters_get_gradients_without_input_gradients(toys):
    loaded = toys.loaded("llama")
    loading.enable_checkpointing(loaded.backbone)
    model = toys.model(loaded=loaded, kind="shared").train()
    toys.loss(model, "entities").backward()
    ups = [layer.lora_B["shared"].weight.grad for layer in model.lora.layers]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in ups)


def test_a_missing_unsloth_says_what_to_do(toys):
    with pytest.raises(ConfigError, match="cannot be imported .*set strategy.unsloth=false"):
        with_unsloth(toys.loaded("llama"))


def test_another_backbone_passes_only_if_its_hidden_states_agree(toys):
    reference, same = (toys.loaded("llama").backbone for _ in range(2))
    probe = Probe.of(reference)
    expected = probe_states(reference, probe)
    assert_consistent(probe_states(same, probe), expected)
    same.layers[0].mlp.down_proj.weight.data.mul_(2)
    with pytest.raises(ConfigError, match="differ from the standard path by"):
        assert_consistent(probe_states(same, probe), expected)


@pytest.mark.parametrize("mixing", ["nothing", "sequences", "beginnings"])
def test_unsloth_is_held_against_the_standard_path_although_it_patches_the_class(toys, monkeypatch, mixing):
    reference, same = toys.loaded("llama"), toys.loaded("llama").backbone
    plain = LlamaModel.forward

    def patched(self, *args, packed=None, **kwargs):
        read_as = {
            "nothing": packed,
            "sequences": PackedLayout.of([sum(packed.lengths)], causal=True),  # one where there were several
            "beginnings": PackedLayout.of(packed.lengths, causal=True),  # each with its own tokens alone
        }
        return plain(self, *args, packed=read_as[mixing], **kwargs)

    def from_pretrained(source, **options):
        monkeypatch.setattr(LlamaModel, "forward", patched)  # for the reference as well
        return SimpleNamespace(model=same), None

    library = SimpleNamespace(FastLanguageModel=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "unsloth", library)
    if mixing != "nothing":
        with pytest.raises(ConfigError, match="differ from the standard path by"):
            with_unsloth(reference)
    else:
        assert with_unsloth(reference).backbone is same


def test_a_backbone_of_unsloth_is_prepared_as_any_other_and_its_decisions_say_what_it_does(toys, monkeypatch):
    toys.loaded("llama")
    asked = {}

    def from_pretrained(source, **options):
        asked.update(options, source=source)
        backbone = toys.loaded("llama", "nf4").backbone.requires_grad_(False)
        backbone.gradient_checkpointing_disable()
        backbone.config.use_cache = True
        backbone.layers[0].mlp.noise = nn.Dropout(0.5)
        backbone.layers[0].mlp.support_avx512bf16_for_cpu = True
        return SimpleNamespace(model=backbone), None

    library = SimpleNamespace(FastLanguageModel=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "unsloth", library)
    taken = decisions.Decision(attention.FLASH, "FlashAttention-2: forward and backward probe passed")
    monkeypatch.setattr(decisions, "choose_attention", lambda *_: taken)
    monkeypatch.setattr(decisions, "choose_checkpointing", lambda *_: decisions.Decision("on", "asked for"))
    changes = ("strategy.unsloth=true", "strategy.quantization=nf4", "model.unsloth.compatible=true")
    changes += ("model.revision=abc", f"model.path={toys.saved['llama']}", "training.backbone_dropout=0.2")
    loaded = preparation.open_backbone(compose(strategy="s1_single", overrides=changes))
    assert (
        asked["source"] == str(toys.saved["llama"]) and asked["revision"] == "abc" and asked["load_in_4bit"]
    )
    assert loaded.decisions["attention"].value == loaded.backbone.config._attn_implementation == PACKED
    assert "unsloth" in loaded.decisions["attention"].reason
    block = loaded.backbone.layers[0].mlp
    assert block.noise.p == 0.2 and not block.support_avx512bf16_for_cpu
    assert loaded.backbone.layers[0].gradient_checkpointing and not loaded.backbone.config.use_cache
    assert not any(parameter.requires_grad for parameter in loaded.backbone.parameters())


@pytest.fixture
def bert() -> BertModel:
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertModel(config, add_pooling_layer=False).train()


def dropouts(model: nn.Module) -> set[float]:
    return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}


def test_a_backbone_without_dropout_repeats_itself_while_that_of_its_adapters_stays(bert):
    tokens = torch.arange(1, 13)[None]
    assert not torch.equal(bert(tokens).last_hidden_state, bert(tokens).last_hidden_state)

    set_backbone_dropout(bert, 0.0)
    torch.testing.assert_close(bert(tokens).last_hidden_state, bert(tokens).last_hidden_state, rtol=0, atol=0)
    lora = SharedPrivateLoRA(
        bert, LoraSettings(rank=2, alpha=4, dropout=0.05, targets=["query"]), {"single": 2}
    )
    assert dropouts(lora) == {0.0, 0.05}


def test_an_encoder_keeps_the_dropout_that_its_own_configuration_declares(bert):
    set_backbone_dropout(bert, None)
    assert dropouts(bert) == {0.1}


def test_the_attention_of_a_decoder_takes_the_dropout_that_it_is_given():
    shape = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    llama = LlamaModel(LlamaConfig(**shape, num_attention_heads=2)).train()
    tokens = torch.arange(1, 13)[None]
    assert torch.equal(llama(tokens).last_hidden_state, llama(tokens).last_hidden_state)
    set_backbone_dropout(llama, 0.3)
    assert not torch.equal(llama(tokens).last_hidden_state, llama(tokens).last_hidden_state)


def test_dropout_is_refused_on_a_backbone_that_has_none():
    with pytest.raises(ConfigError, match="training.backbone_dropout is 0.1"):
        set_backbone_dropout(nn.Sequential(nn.Linear(2, 2)), 0.1)


@pytest.mark.parametrize(("asked", "found"), [("null", {0.1}), ("0", {0.0}), ("0.2", {0.2})])
def test_a_run_opens_its_encoder_with_the_dropout_that_it_asks_for(tmp_path, asked, found):
    config = BertConfig(
        vocab_size=2048, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about nothing"]).save_pretrained(tmp_path)
    overrides = [f"model.path='{tmp_path}'", "profile.device=cpu", f"training.backbone_dropout={asked}"]
    loaded = preparation.open_backbone(compose(model="minilm", overrides=overrides))
    assert dropouts(loaded.backbone) == found


def test_a_gated_model_without_a_token_says_what_to_do(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("You are trying to access a gated repo.")

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", refuse)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="is gated and HF_TOKEN was not found; accept its licence"):
        loading.load_backbone(compose(model="llama3b").model, device="cpu")
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    with pytest.raises(ConfigError, match="gated repo"):  # the hub's own words on a token that it refuses
        loading.load_backbone(compose(model="llama3b").model, device="cpu")


def spoil_config(folder: Path, **changes: int) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | changes))


def rename_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({f"module.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")


SPOILT = {
    "more layers than there are weights": lambda folder: spoil_config(folder, num_hidden_layers=3),
    "weights under other names": rename_weights,
    "weights of other sizes": lambda folder: spoil_config(folder, hidden_size=32),
    "weights cut off": lambda folder: (folder / "model.safetensors").write_bytes(b"cut"),
    "no weights but garbage": lambda folder: (folder / "model.safetensors").rename(
        folder / "pytorch_model.bin"
    ),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no tokenizer": lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
    "half a tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_folder_that_holds_no_whole_model_is_refused_by_its_name(tmp_path, spoil):
    """The library fills what is missing at random, and makes up a tokenizer that knows no word."""
    config = BertConfig(
        vocab_size=2048, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about the patient"]).save_pretrained(tmp_path)
    entry = compose(overrides=[f"model={tmp_path}"]).model
    assert loading.load_backbone(entry, device="cpu").backbone.config.hidden_size == 16
    spoil(tmp_path)
    with pytest.raises(ConfigError) as caught:
        loading.load_backbone(entry, device="cpu")
    assert tmp_path.name in str(caught.value)


def test_weights_of_bert_under_the_name_of_roberta_are_refused(tmp_path):
    """Its positions would be wrong by one and nobody would see it; the names of the tensors are the same."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=2048, **sizes)).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about the patient"]).save_pretrained(tmp_path)
    spoil_config(tmp_path, model_type="roberta", architectures=["RobertaModel"])
    with pytest.raises(ConfigError, match="says roberta, which has no position 0, and the weights have one"):
        loading.load_backbone(compose(overrides=[f"model={tmp_path}"]).model, device="cpu")


def test_a_tokenizer_of_more_words_than_the_model_has_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    train_tokenizer(["an invented note about the patient"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="and the model 8"):
        loading.load_backbone(compose(overrides=[f"model={tmp_path}"]).model, device="cpu")
