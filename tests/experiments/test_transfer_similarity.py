"""How alike two corpora are: figures by hand, and none of their words."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.types import Access, ComponentSpec, Kind, RankedPair, TaskSpec, UnifiedSample
from kaggle_kit.experiments.transfer_similarity import (
    corpus_table,
    count_words,
    jaccard,
    js_divergence,
    label_schema,
    write_similarity,
)

A, B = "semeval2014t7", "semeval2017t3"


def spec(name: str, *labels: str) -> TaskSpec:
    return TaskSpec(name, (ComponentSpec("ner", Kind.TOKENS, 1, labels),))


SAMPLES = {
    A: [UnifiedSample("1", "Chest pain, severe PAIN", "train", Access.RESTRICTED)],
    B: [
        UnifiedSample(
            "Q", "Pain?", "train", Access.PUBLIC, pairs=(RankedPair("Q", "Q_1", "see chest unit", rank=1),)
        )
    ],
}


def test_words_are_counted_in_lower_case_with_those_of_the_candidates():
    assert count_words(SAMPLES[A]) == {"chest": 1, "pain": 2, "severe": 1}
    assert count_words(SAMPLES[B]) == {"pain": 1, "see": 1, "chest": 1, "unit": 1}


def test_labels_are_a_schema_whatever_their_case():
    assert label_schema(spec(A, "Disorder", "DRUG")) == {"disorder", "drug"}


def test_the_table_of_corpora_counts_words_and_lists_labels():
    table = corpus_table({A: spec(A, "DRUG", "Disorder"), B: spec(B, "relevant")}, SAMPLES)
    assert table.loc[0].to_list() == [A, 4, 3, "disorder, drug"]
    assert table.loc[1].to_list() == [B, 4, 4, "relevant"]


@pytest.mark.parametrize(
    ("a", "b", "overlap"), [({1, 2}, {2, 3}, 1 / 3), ({1}, {1}, 1.0), ({1}, {2}, 0.0), (set(), set(), 0.0)]
)
def test_jaccard_by_hand(a, b, overlap):
    assert jaccard(a, b) == overlap


def test_js_divergence_by_hand():
    assert js_divergence(Counter("aab"), Counter("aab")) == pytest.approx(0, abs=1e-12)
    assert js_divergence(Counter("aa"), Counter("bb")) == pytest.approx(1)
    # P = (1, 0), Q = (½, ½), M = (¾, ¼): ½ log2(4/3) + ½ (½ log2(2/3) + ½ log2 2)
    expected = 0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25
    assert js_divergence(Counter("a"), Counter("ab")) == pytest.approx(expected)


def test_the_file_holds_a_figure_for_every_ordered_pair_and_no_word(tmp_path):
    run = start_run(compose(task=[A, B], strategy="s2_shared"), page="03_transfer_heatmap", runs_dir=tmp_path)
    specs = {A: spec(A, "Disorder", "Drug"), B: spec(B, "drug", "relevant")}
    text = write_similarity(run, specs, SAMPLES).read_text()
    found = json.loads(text)
    assert found["words"] == {A: 4, B: 4}
    assert found["pairs"]["label_overlap"] == {A: {B: 1 / 3}, B: {A: 1 / 3}}
    assert found["pairs"]["vocabulary_jaccard"][A][B] == 2 / 5
    assert found["pairs"]["log_size_ratio"] == {A: {B: 0.0}, B: {A: 0.0}}
    assert not any(word in text.lower() for word in ("pain", "chest", "severe", "unit"))


def test_the_size_ratio_is_of_the_partner_over_the_task(tmp_path):
    run = start_run(compose(task=[A, B], strategy="s2_shared"), page="03_transfer_heatmap", runs_dir=tmp_path)
    samples = {A: SAMPLES[A], B: [UnifiedSample("2", "one two", "train", Access.PUBLIC)]}
    found = json.loads(write_similarity(run, {A: spec(A, "x"), B: spec(B, "x")}, samples).read_text())
    assert found["pairs"]["log_size_ratio"][A][B] == pytest.approx(math.log(2 / 4))
