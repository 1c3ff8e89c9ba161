"""Layer 2 of the contamination report: the order test is exact, and finds a file that was learnt in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.contamination import SMALL, train_in_order
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Access, Provenance, UnifiedSample
from kaggle_kit.evaluation import contamination as layer
from kaggle_kit.evaluation.contamination import Outcome
from kaggle_kit.models import tiny
from kaggle_kit.models.loading import load_language_model


def texts(seed: int, count: int = 24) -> list[str]:
    rng = np.random.default_rng(seed)
    words = [f"{a}{b}{c}a" for a in "bdfgk" for b in "aeiou" for c in "lmnr"]
    return [" ".join(rng.choice(words, size=14)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | SMALL)
        tokenizer = tiny.train_tokenizer(texts(1) + texts(2))
        model = tiny.random_model("llama", len(tokenizer), seed=0)
    train_in_order(model, tokenizer, texts(2), steps=40, seed=0)
    return model, tokenizer


def order_test(reader, documents: list[str]) -> layer.Exchangeability:
    return layer.exchangeability(layer.order_scores(*reader, documents), np.random.default_rng(0))


def test_a_model_that_learnt_the_file_in_order_is_caught_and_an_untouched_one_is_not(reader):
    model, tokenizer = reader
    assert order_test(reader, texts(1)).outcome == Outcome.NO_SIGN
    before = layer.evidence(*reader, texts(1), texts(3))
    learnt = type(model)(model.config)
    learnt.load_state_dict(model.state_dict())
    train_in_order(learnt, tokenizer, texts(1), steps=150, seed=1)
    test = order_test((learnt, tokenizer), texts(1))
    assert test.outcome == Outcome.SUSPECTED and test.released > test.random.max()
    shuffled = [texts(1)[place] for place in np.random.default_rng(5).permutation(24)]
    assert order_test((learnt, tokenizer), shuffled).outcome == Outcome.NO_SIGN
    after = layer.evidence(learnt, tokenizer, texts(1), texts(3))
    assert before["low"] < 0.5 < after["low"] and abs(before["blind"] - 0.5) < 0.3


def test_an_entry_of_the_order_scores_is_the_log_probability_of_a_beginning_after_an_end(reader):
    model, tokenizer = reader
    documents = texts(1)[:3]
    scores = layer.order_scores(model, tokenizer, documents)
    rows = tokenizer(documents, add_special_tokens=False)["input_ids"]
    end = [
        tokenizer.bos_token_id,
        *rows[2][-layer.EDGE :],
        *tokenizer("\n", add_special_tokens=False)["input_ids"],
    ]
    first = rows[0][: layer.EDGE]
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([end + first])).logits[0].log_softmax(-1)
    expected = sum(logs[len(end) - 1 + n, token].item() for n, token in enumerate(first))
    assert scores.shape == (1, layer.BLOCK, layer.BLOCK)
    assert scores[0, 2, 0] == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(scores).sum() == 6, "three documents make six pairs"


def matrix(size: int) -> np.ndarray:
    scores = np.full((1, layer.BLOCK, layer.BLOCK), np.nan)
    scores[0, :size, :size] = 0.0
    scores[0][np.diag_indices(layer.BLOCK)] = np.nan
    return scores


def test_p_is_the_rank_of_the_released_order():
    """Of three documents one order in six is the released one; where all are alike, p is 1."""
    scores = matrix(3)
    assert layer.exchangeability(scores, np.random.default_rng(0)).p == 1
    scores[0, 0, 1] = scores[0, 1, 2] = 1.0
    test = layer.exchangeability(scores, np.random.default_rng(0), orders=5_999)
    assert test.released == 2 and test.random.max() == 2
    assert test.p == pytest.approx(1 / 6, abs=0.02)


def test_false_alarms_are_as_rare_as_declared():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        scores = rng.normal(size=(2, layer.BLOCK, layer.BLOCK))
        for block in scores:
            np.fill_diagonal(block, np.nan)
        alarms += layer.exchangeability(scores, rng, orders=99).p <= 0.05
    assert alarms <= 32, "5 % of 400 are 20, with a standard deviation of 4.4"


def test_min_k_is_the_mean_of_the_lowest_standardised_log_probabilities(reader):
    model, tokenizer = reader
    (text,) = texts(4, count=1)
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1).double().numpy()
    z = []
    for row, token in zip(logs, ids[1:], strict=True):
        mean = (np.exp(row) * row).sum()
        z.append((row[token] - mean) / np.sqrt((np.exp(row) * (row - mean) ** 2).sum()))
    lowest = sorted(z)[: int(0.2 * len(z))]
    assert layer.min_k(model, tokenizer, [text])[0] == pytest.approx(np.mean(lowest), rel=1e-3)


def test_separation_is_the_area_under_the_curve():
    members, controls = np.array([0.3, 0.9, 0.8, 0.7]), np.array([0.1, 0.4, 0.75, np.nan])
    found = layer.separation(members, controls)
    assert found["AUROC"] == pytest.approx(roc_auc_score([1] * 4 + [0] * 3, [*members, *controls[:3]]))
    assert 0 <= found["low"] < found["AUROC"] < found["high"] <= 1


def test_a_blind_bag_of_words_tells_other_words_apart_and_the_same_words_not():
    assert layer.blind_separation(["a fever again"] * 12, ["some cough now"] * 12) == 1.0
    assert 0.2 < layer.blind_separation(texts(1), texts(3)) < 0.8


def notes(files: int, count: int) -> list[UnifiedSample]:
    return [
        UnifiedSample(str(n), "x", "test", Access.PUBLIC, provenance=Provenance(f"{n % files}.txt"))
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("family", "files", "by_name", "tested"),
    [
        ("decoder", 1, False, True),
        ("decoder", 12, False, False),
        ("decoder", 12, True, True),
        ("encoder", 1, False, False),
    ],
)
def test_only_a_decoder_and_documents_in_an_order_are_tested(family, files, by_name, tested):
    assert (layer.why_untested(family, notes(files, 12), by_name) is None) is tested
    assert layer.why_untested(family, notes(1, 9)) is not None, "too few"


def test_one_suspicion_is_enough_and_what_is_unknown_stays_so():
    assert layer.overall([Outcome.UNKNOWN, Outcome.SUSPECTED]) == "suspected"
    assert layer.overall([Outcome.UNKNOWN, Outcome.NO_SIGN]) == "unknown"
    assert layer.overall([Outcome.NO_SIGN]) == "no sign found"
    rows = [{"task": name, "n": n, "outcome": Outcome.NO_SIGN} for name, n in (("a", 9), ("b", 9), ("c", 0))]
    found = layer.outcome_table(rows, {"a": ["a1"], "b": [], "c": []})
    assert [row["data"] for row in found] == ["suspected", "no sign found", "unknown"]
    assert [row["outcome"] for row in found] == ["suspected", "no sign found", "unknown"]
    assert found[0]["flagged"] == 1


def test_an_encoder_has_no_language_model():
    with pytest.raises(ConfigError, match="minilm is an encoder"):
        load_language_model(compose(model="minilm").model)
