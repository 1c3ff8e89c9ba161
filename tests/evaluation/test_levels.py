"""How S3b's levels work together: the way through the layers, attention across, relations within reach."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.core.types import Access, Mention, Relation, UnifiedSample
from kaggle_kit.evaluation.levels import (
    cross_level_figures,
    layer_passes,
    relations_reached,
    sentence_attention,
)
from tests.experiment.test_experiment import opened  # noqa: F401
from tests.experiment.test_rounds import NER, RANKING, small_models  # noqa: F401

RELATING = "semeval2021t6"


@pytest.fixture
def hierarchy(opened):  # noqa: F811
    return opened("s3b_hierarchical", "s3b_hierarchical", task=f"{NER},{RELATING},{RANKING}")


def test_the_trunk_runs_once_and_the_top_once_for_each_level_of_the_task(hierarchy):
    model, cut, depth = hierarchy.model, hierarchy.model.stages.cut, len(hierarchy.model.stages.layers)
    batches = hierarchy.batches("dev", 1)
    trunk = [(layer, ("shared",)) for layer in range(cut)]
    tops = {
        level: [(layer, ("shared", level)) for layer in range(cut, depth)] for level in ("level1", "level2")
    }
    expected = {NER: [*trunk, *tops["level1"]], RANKING: [*trunk, *tops["level1"], *tops["level2"]]}
    for task, wanted in expected.items():
        with layer_passes(model) as passes:
            model.states(batches[task][0])
        assert passes == wanted
        model.states(batches[task][0])
        assert passes == wanted, "outside the block nothing is noted"


def test_without_a_query_attention_is_even_and_mentions_get_their_share(hierarchy):
    model = hierarchy.model
    model.cross.query.weight.data.zero_()
    found = cross_level_figures(model, hierarchy.batches("dev", 2))
    assert list(found) == [RELATING, RANKING]  # the task of level 1 alone never crosses
    for figures in found.values():
        assert figures["size"] == 0.0
        assert figures["entropy"] == pytest.approx(1.0, abs=1e-5)
    relating = found[RELATING]
    assert 0 < relating["share of mentions"] < 1
    assert relating["mentions"] == pytest.approx(relating["share of mentions"], abs=1e-5)
    assert "mentions" not in found[RANKING]


def test_what_crosses_is_measured_against_the_trunk(hierarchy):
    model = hierarchy.model
    model.cross.forward = lambda hidden, *_: 0.25 * hidden
    found = cross_level_figures(model, hierarchy.batches("dev", 1))
    assert all(figures["size"] == pytest.approx(0.25, abs=1e-6) for figures in found.values())


def test_a_sentences_attention_is_a_row_of_weights_for_each_token(hierarchy):
    batch = hierarchy.batches("dev", 1)[RELATING][0]
    weights = sentence_attention(hierarchy.model, batch)
    assert weights.shape == (batch.lengths[0], batch.lengths[0])
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch.lengths[0]))
    if hierarchy.model.is_causal(RELATING):
        assert torch.equal(weights, weights.tril())


def note(*spans: tuple[int, int], relations: tuple[tuple[int, int], ...] = ()) -> UnifiedSample:
    mentions = tuple(Mention(f"T{n}", (span,), "Sign") for n, span in enumerate(spans))
    links = tuple(Relation(f"R{n}", "CAUSES", f"T{a}", f"T{b}") for n, (a, b) in enumerate(relations))
    return UnifiedSample("d", "x" * 40, "dev", Access.PUBLIC, mentions, links)


def test_a_relation_is_within_reach_only_where_both_its_mentions_are_found():
    gold = note((0, 3), (5, 8), (10, 13), relations=((0, 1), (1, 2), (1, 0)))
    predicted = note((5, 8), (0, 3), (20, 23), relations=((1, 0), (0, 2)))  # ids are the model's own
    assert relations_reached([gold], [predicted]) == {
        "relations": 3,
        "both mentions found": 2,
        "relation found": 1,
    }
