"""Ranking: what is pooled, and a loss of a label part and an order part worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import build_head

COMPONENT = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))


def targets_of(labels, group, lengths=None) -> dict[str, torch.Tensor]:
    ends = torch.tensor(lengths or [1] * len(labels)).cumsum(0)
    return {
        "first": torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]]),
        "last": ends - 1,
        "labels": torch.tensor(labels),
        "known": torch.tensor(labels).ge(0).nonzero().squeeze(1),
        "group": torch.tensor(group),
    }


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_decoders_pool_the_last_token_and_encoders_the_mean():
    targets = targets_of([1, 0], [0, 0], [2, 3])
    hidden = torch.arange(10.0).reshape(5, 2)
    for decoder, pooled in (
        (True, hidden[[1, 4]]),
        (False, torch.stack([hidden[:2].mean(0), hidden[2:].mean(0)])),
    ):
        head = build_head(COMPONENT, 2, decoder=decoder).eval()
        assert torch.allclose(head(hidden, targets), head.score(pooled).squeeze(-1))


def test_the_loss_is_cross_entropy_plus_the_hinge_of_each_questions_pairs():
    head = build_head(COMPONENT, 2, decoder=True)
    scores = torch.tensor([0.5, 0.2, -1.0, 3.0, 0.0])
    targets = targets_of([1, 0, 0, 1, 0], [7, 7, 7, 8, 8])
    label_part = softplus(-0.5) + softplus(0.2) + softplus(-1.0) + softplus(-3.0) + softplus(0.0)
    # question 7: hinges 1 - 0.3 and max(0, 1 - 1.5), mean 0.35 over two pairs, times three candidates;
    # question 8: one pair, three apart
    assert head.loss(scores, targets) == pytest.approx(label_part + 3 * 0.35, rel=1e-6)


def test_candidates_of_different_questions_are_never_compared():
    head = build_head(COMPONENT, 2, decoder=True)
    scores = torch.tensor([-5.0, 5.0])
    apart = head.loss(scores, targets_of([1, 0], [0, 1]))
    together = head.loss(scores, targets_of([1, 0], [0, 0]))
    assert apart == pytest.approx(2 * softplus(5.0), rel=1e-6)
    assert together == pytest.approx(2 * softplus(5.0) + 2 * 11.0, rel=1e-6)


def test_unknown_labels_take_no_part():
    head = build_head(COMPONENT, 2, decoder=True)
    known = head.loss(torch.tensor([0.5, 0.2]), targets_of([1, 0], [0, 0]))
    more = head.loss(torch.tensor([0.5, 9.0, 0.2]), targets_of([1, -1, 0], [0, 0, 0]))
    assert more == pytest.approx(float(known), rel=1e-6)
    assert head.loss(torch.tensor([0.5]), targets_of([-1], [0])) == 0.0


def test_the_order_part_pulls_a_relevant_candidate_over_an_irrelevant_one_and_then_stops():
    head = build_head(COMPONENT, 2, decoder=True)
    for gap, pull in ((0.5, 1.0), (1.5, 0.0)):
        scores = torch.tensor([gap, 0.0], requires_grad=True)
        head.loss(scores, targets_of([1, 0], [0, 0])).backward()
        label_part = -1 / (1 + math.exp(gap))
        assert scores.grad[0] == pytest.approx(label_part - 2 * pull, rel=1e-5)
