"""Which relations are a component's job, and which types training relates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, UnifiedSample
from kaggle_kit.data.candidates import (
    ENOUGH,
    class_weights,
    farthest,
    label_of,
    labelled,
    only_forward,
    seen_types,
)

TYPED = ComponentSpec("links", Kind.RELATIONS, 2, ("CAUSES", "TREATS"))
NESTED = ComponentSpec(
    "contains", Kind.RELATIONS, 2, ("CONTAINS",), relation_type="TLINK", relation_attribute="Type"
)
UNARY = ComponentSpec("when", Kind.RELATIONS, 2, ("BEFORE", "AFTER"), attribute="DocTimeRel")


def link(kind: str, source: str = "a", target: str = "b", **attributes: str) -> Relation:
    return Relation("r", kind, source, target, attributes=attributes)


def sample(*relations: Relation) -> UnifiedSample:
    mentions = (
        Mention("a", ((0, 1),), "Drug", attributes={"DocTimeRel": "BEFORE"}),
        Mention("b", ((2, 3),), "Disease", attributes={"DocTimeRel": "OVERLAP"}),
        Mention("c", ((4, 5),), "Drug", attributes={"Polarity": "NEG"}),
    )
    return UnifiedSample("d", "a b c", "train", Access.PUBLIC, mentions, relations)


def test_a_relation_is_labelled_by_its_type_or_by_an_attribute_of_relations_of_one_type():
    assert label_of(TYPED, link("CAUSES")) == "CAUSES"
    assert label_of(TYPED, link("PREVENTS")) is None
    assert label_of(NESTED, link("TLINK", Type="CONTAINS")) == "CONTAINS"
    assert label_of(NESTED, link("TLINK", Type="BEFORE")) is None
    assert label_of(NESTED, link("ALINK", Type="CONTAINS")) is None
    assert label_of(NESTED, link("CONTAINS")) is None
    assert label_of(UNARY, link("BEFORE")) is None


def test_a_unary_component_labels_mentions_by_their_attribute():
    assert list(labelled(UNARY, sample())) == [(("a",), "BEFORE")]
    assert list(labelled(TYPED, sample(link("TREATS", "c", "b")))) == [(("c", "b"), "TREATS")]


def test_the_types_that_training_relates_keep_their_order():
    train = [
        sample(link("CAUSES"), link("TREATS", "c", "b"), link("PREVENTS", "b", "a")),
        sample(link("TREATS", "a", "c")),
    ]
    assert seen_types(TYPED, train) == (("Drug", "Disease"), ("Drug", "Drug"))
    assert seen_types(UNARY, train) == (("Drug",),)
    assert seen_types(NESTED, train) == ()


def test_relations_are_taken_to_follow_the_text_only_if_enough_do_and_none_does_not():
    forward = [sample(link("CAUSES"))] * ENOUGH
    assert only_forward(TYPED, forward)
    assert not only_forward(TYPED, forward[1:])
    assert not only_forward(TYPED, [*forward, sample(link("TREATS", "c", "b"))])
    assert only_forward(TYPED, [*forward, sample(link("PREVENTS", "c", "b"))])  # not one of its labels
    assert not only_forward(UNARY, forward)


def test_the_farthest_pair_is_that_which_99_of_100_relations_do_not_exceed():
    text = "a b c" + " x" * 40 + " d"
    neighbours = replace(sample(link("CAUSES")), text=text)  # "a b"
    far = Mention("d", ((len(text) - 1, len(text)),), "Disease")
    distant = replace(sample(link("CAUSES", "a", "d")), text=text)
    distant = replace(distant, mentions=(*distant.mentions, far))
    assert farthest(TYPED, [neighbours]) == 1
    assert farthest(TYPED, [neighbours] * 98 + [distant]) == 43  # b, c and 40 x lie between
    assert farthest(TYPED, [neighbours] * 99 + [distant]) == 1
    assert farthest(TYPED, [sample()]) is None and farthest(UNARY, [neighbours]) is None


@pytest.mark.parametrize("share", [0.001, 0.012, 0.125, 0.3, 0.499])
def test_none_weighs_the_root_of_the_odds_of_a_relation_and_the_mean_weight_is_one(share):
    none, relation = class_weights(share)
    assert none / relation == pytest.approx(math.sqrt(share / (1 - share)))
    assert share * relation + (1 - share) * none == pytest.approx(1.0)
    # P(none) < 1/2 under these weights is P(relation) > sqrt(p) / (sqrt(p) + sqrt(1 - p)) in the data
    decided = none / (none + relation)
    assert decided == pytest.approx(math.sqrt(share) / (math.sqrt(share) + math.sqrt(1 - share)))


def test_hand_worked_class_weights():
    assert class_weights(0.2) == pytest.approx((0.5 / 0.6, 1 / 0.6))  # odds 1/4, root 1/2, mean 0.2 + 0.4
    assert class_weights(0.5) == class_weights(0.9) == class_weights(0.0) == class_weights(None) == (1.0, 1.0)
