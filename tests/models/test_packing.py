"""A packed row gives what each sequence gives alone in the stock implementation, gradients included."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models import attention as attentions
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.packing import PackedLayout, attention_padding

LENGTHS = (13, 12, 12, 7, 3, 1)  # groups: 13 12 12 | 7 | 3 | 1
WINDOW = 5
COMMON = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
DECODER = {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHAPES = {
    "bert": {"model_type": "bert", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "llama": {"model_type": "llama", **DECODER},
    "mistral": {"model_type": "mistral", "sliding_window": None, **DECODER},
    "mistral_windowed": {"model_type": "mistral", "sliding_window": WINDOW, **DECODER},
    "phi3": {"model_type": "phi3", "sliding_window": None, **DECODER},
    "phi3_windowed": {"model_type": "phi3", "sliding_window": WINDOW, **DECODER},
    # every second layer slides; a soft cap of 1 bites at this size, the real one is 50
    "gemma2": {
        "model_type": "gemma2",
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 1.0,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        **DECODER,
    },
}


@pytest.fixture(params=["written out", "fused kernel"], autouse=True)
def attention(request, monkeypatch):
    """Every test runs both ways that short text may take."""
    if request.param == "fused kernel":
        monkeypatch.setattr(attentions, "SHORT", 0)


def model_of(name: str, attention: str):
    config = AutoConfig.for_model(**COMMON, **SHAPES[name])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config, attn_implementation=attention)
    # weights large enough for attention to be far from uniform
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
    return model.eval()


def sequences() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 50, (length,), generator=generator) for length in LENGTHS]


def gradients(model, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a sum with random weights, so that every place of the output matters differently."""
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    (hidden * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def see_all(name: str, length: int):
    """A 4-D mask under which a stock decoder looks both ways, as far as its window reaches."""
    place = torch.arange(length)
    masks = {}
    for kind, window in (("full_attention", None), ("sliding_attention", WINDOW)):
        allowed = torch.ones(length, length, dtype=torch.bool)
        if window is not None:
            allowed = (place[:, None] - place).abs() < window
        bias = torch.zeros(length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)
        masks[kind] = bias[None, None]
    if name == "gemma2":
        return masks
    return masks["sliding_attention" if name.endswith("windowed") else "full_attention"]


def one_at_a_time(name: str, causal: bool):
    model = model_of(name, "eager")
    outputs = []
    for ids in sequences():
        extra = {} if causal or name == "bert" else {"attention_mask": see_all(name, len(ids))}
        if name != "bert":
            extra["use_cache"] = False
        outputs.append(model(input_ids=ids[None], **extra).last_hidden_state[0])
    hidden = torch.cat(outputs)
    return hidden.detach(), gradients(model, hidden)


def all_in_one_row(name: str, causal: bool, rows: list[torch.Tensor] | None = None, prefixes=()):
    rows = rows or sequences()
    model = model_of(name, PACKED)
    layout = PackedLayout.of([len(row) for row in rows], causal=causal, prefixes=prefixes)
    inputs = {"input_ids": layout.fold(torch.cat(rows)), "position_ids": layout.position_ids}
    row = {key: value[None] for key, value in inputs.items()}
    hidden = layout.unfold(model(**row, packed=layout).last_hidden_state[0])
    return hidden.detach(), gradients(model, hidden)


@pytest.mark.parametrize(
    ("name", "causal"),
    [("bert", False), *((name, causal) for name in SHAPES if name != "bert" for causal in (True, False))],
)
def test_packed_sequences_give_the_stock_outputs_and_gradients_of_each_alone(name, causal):
    hidden, wanted = all_in_one_row(name, causal)
    alone, reference = one_at_a_time(name, causal)
    assert torch.allclose(hidden, alone, atol=1e-5)
    assert wanted.keys() == reference.keys()
    for parameter, gradient in reference.items():
        # BERT's key biases have no gradient at all: shifting every score of a row changes no softmax
        error = (wanted[parameter] - gradient).norm() / gradient.norm().clamp_min(1.0)
        assert error < 1e-5, parameter


def alike() -> tuple[list[torch.Tensor], tuple[Prefix, ...]]:
    """Two questions of nine and seven tokens with their candidates, of which one begins as another does."""
    first, other, *ends = sequences()
    first, other = first[:9], other[:7]
    rows = [
        torch.cat([first, ends[0]]),
        torch.cat([first, ends[0][:6], ends[1]]),
        torch.cat([other, ends[1]]),
    ]
    rows += [torch.cat([other, ends[2]]), torch.cat([first, ends[3]]), torch.cat([other, ends[3]])]
    return rows, (WHOLE, Prefix(0, 15), WHOLE, Prefix(2, 7), Prefix(0, 9), Prefix(2, 7))


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "bert"])
def test_a_beginning_read_once_gives_the_states_and_gradients_of_reading_it_each_time(name):
    rows, prefixes = alike()
    assert [prefix.tokens for prefix in prefixes] == [0, 15, 0, 7, 9, 7]
    once, gradient = all_in_one_row(name, True, rows, prefixes)
    each, reference = all_in_one_row(name, True, rows)
    assert once.shape == each.shape and torch.allclose(once, each, atol=1e-5)
    for parameter, wanted in reference.items():
        assert (gradient[parameter] - wanted).norm() / wanted.norm().clamp_min(1.0) < 1e-5, parameter


def test_only_causal_attention_reads_a_beginning_once():
    rows, prefixes = alike()
    lengths = [len(row) for row in rows]
    causal, both_ways = (
        PackedLayout.of(lengths, causal=causal, prefixes=prefixes) for causal in (True, False)
    )
    assert len(causal.position_ids) == sum(lengths) - sum(prefix.tokens for prefix in prefixes)
    assert len(both_ways.position_ids) == sum(lengths) and not both_ways.shares
    assert attention_padding([lengths], [prefixes]) == [
        sum(group.queries.numel() - int(group.own.sum()) for group in causal.groups)
    ]


def test_heads_are_expanded_and_never_left_to_the_kernel(monkeypatch):
    """Grouped heads without a mask fall back to the quadratic math kernel on a T4."""
    seen = []
    fused = attentions.F.scaled_dot_product_attention

    def spy(query, key, value, **options):
        seen.append((query.shape[1] == key.shape[1] == value.shape[1], options.get("enable_gqa", False)))
        return fused(query, key, value, **options)

    monkeypatch.setattr(attentions, "SHORT", 0)
    monkeypatch.setattr(attentions.F, "scaled_dot_product_attention", spy)
    all_in_one_row("llama", causal=True)
    assert seen and set(seen) == {(True, False)}


@pytest.mark.parametrize("name", ["mistral_windowed", "gemma2"])
def test_the_window_and_the_cap_change_the_outcome_at_this_size(name):
    shape = dict(SHAPES[name])
    SHAPES["changed"] = {**shape, "sliding_window": 64} | (
        {"attn_logit_softcapping": 50.0} if name == "gemma2" else {}
    )
    try:
        changed, _ = all_in_one_row("changed", causal=True)
    finally:
        del SHAPES["changed"]
    assert not torch.allclose(changed, all_in_one_row(name, causal=True)[0], atol=1e-3)


def test_causal_and_bidirectional_attention_differ_and_neither_crosses_a_sequence():
    both = {causal: all_in_one_row("llama", causal)[0] for causal in (True, False)}
    assert not torch.allclose(both[True][:13], both[False][:13], atol=1e-3)
    # a sequence of one token sees only itself either way
    assert torch.allclose(both[True][-1], both[False][-1], atol=1e-5)


def test_sequences_of_like_length_share_a_group_and_little_padding():
    layout = PackedLayout.of(LENGTHS, causal=True)
    assert [tuple(group.keys.shape) for group in layout.groups] == [(3, 13), (1, 7), (1, 3), (1, 1)]
    assert attention_padding([LENGTHS], [()]) == [39 + 7 + 3 + 1 - sum(LENGTHS)]
    assert layout.position_ids.tolist() == [place for length in LENGTHS for place in range(length)]


def test_any_order_of_lengths_is_legal():
    layout = PackedLayout.of((3, 13, 12), causal=False)
    assert [group.own.tolist() for group in layout.groups] == [[3], [13, 12]]


def test_a_backbone_without_a_layout_says_what_is_missing():
    with pytest.raises(ValueError, match="pass a PackedLayout to the backbone"):
        model_of("llama", PACKED)(input_ids=torch.tensor([[3, 4]]), use_cache=False)
