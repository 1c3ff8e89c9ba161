"""The relation head: pairs from one encoding, the document as a node, negatives that weigh half."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.models.heads import build_head
from kaggle_kit.models.heads.relation import DISTANCES, NONE_WEIGHT

LINKS = ComponentSpec(
    "links", Kind.RELATIONS, 2, ("CAUSES", "TREATS"), candidates=(("Drug", "Disease"), ("Drug", "Drug"))
)


def head_of(component: ComponentSpec = LINKS):
    torch.manual_seed(0)
    return build_head(component, 8, decoder=True).eval()


def targets_of(candidates, mentions=((0, 1, 0), (2, 2, 1), (4, 6, 1))) -> dict[str, torch.Tensor]:
    """Mentions (first, last, type); candidates (source, target, distance, label)."""
    listed = torch.tensor(mentions, dtype=torch.long).reshape(-1, 3).T
    pairs = torch.tensor(candidates, dtype=torch.long).reshape(-1, 4).T
    names = ("source", "target", "distance", "labels")
    return dict(zip(("first", "last", "types"), listed, strict=True)) | dict(zip(names, pairs, strict=True))


HIDDEN = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))


def test_every_candidate_is_scored_from_its_own_two_mentions_alone():
    head = head_of()
    all_pairs = [(a, b, 1, 0) for a in range(3) for b in range(3) if a != b]
    logits = head(HIDDEN, targets_of(all_pairs))
    assert logits.shape == (6, 3)
    alone = torch.cat([head(HIDDEN, targets_of([pair])) for pair in all_pairs])
    assert torch.allclose(logits, alone, atol=1e-6)
    changed = HIDDEN.clone()
    changed[[3, 5, 7]] += 1.0  # neither first nor last token of any mention
    assert torch.equal(head(changed, targets_of(all_pairs)), logits)


@pytest.mark.parametrize("change", [{"first": 1}, {"last": 3}, {"types": 0}])
def test_first_token_last_token_and_type_all_speak(change):
    head, targets = head_of(), targets_of([(0, 2, 3, 0)])
    before = head(HIDDEN, targets)
    ((name, value),) = change.items()
    targets[name] = targets[name].clone()
    targets[name][2] = value
    assert not torch.allclose(head(HIDDEN, targets), before, atol=1e-4)


def test_order_and_distance_matter():
    head = head_of()
    forth, back, far = (
        head(HIDDEN, targets_of([pair])) for pair in ((0, 1, 2, 0), (1, 0, 2, 0), (0, 1, 40, 0))
    )
    assert not torch.allclose(forth, back, atol=1e-4) and not torch.allclose(forth, far, atol=1e-4)
    near, same_class = (head(HIDDEN, targets_of([(0, 1, words, 0)])) for words in (5, 7))
    assert torch.equal(near, same_class)  # both between 4 and 7 words


def test_each_distance_falls_into_its_own_class():
    head = head_of()
    words = torch.tensor([-99, -33, -32, -1, 0, 1, 3, 4, 31, 32, 99]).float()
    classes = (torch.bucketize(words, head.distances, right=True) - 1).tolist()
    assert classes == [0, 0, 1, 5, 6, 7, 8, 9, 11, 12, 12] and len(DISTANCES) == 13


def test_the_document_is_a_learnt_node_behind_the_last_mention():
    head = head_of(replace(LINKS, attribute="DocTimeRel", candidates=(("Disease",), ("Drug",))))
    targets = targets_of([(0, 3, 0, 1), (2, 3, 0, 2)])
    before = head(HIDDEN, targets)
    head.loss(before, targets).backward()
    assert head.document.grad.abs().sum() > 0
    with torch.no_grad():
        head.document += 1.0
    assert not torch.allclose(head(HIDDEN, targets), before, atol=1e-4)


def test_no_relation_weighs_half_of_a_relation():
    head = head_of()
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    total = math.log(1 + math.e + math.e**2)
    loss = head.loss(logits, targets_of([(0, 1, 1, 0), (0, 2, 1, 2)]))
    assert loss.item() == pytest.approx(NONE_WEIGHT * total + (total - 2.0), rel=1e-6)


def test_the_weight_moves_the_decision_to_a_probability_of_one_third():
    # the best constant score for data in which a share p of the candidates is positive
    for share, decided in ((0.3, False), (0.36, True)):
        score = torch.zeros(1, requires_grad=True)
        weights = torch.tensor([1 - share, share]) * torch.tensor([NONE_WEIGHT, 1.0])
        optimizer = torch.optim.LBFGS([score], max_iter=50)

        def closure(score=score, weights=weights, optimizer=optimizer):
            optimizer.zero_grad()
            logits = torch.cat([torch.zeros(1), score]).log_softmax(0)
            loss = -(weights * logits).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert (score.item() > 0) is decided


def test_a_micro_batch_without_candidates_gives_no_loss_and_no_wrong_gradient():
    head = head_of()
    targets = targets_of([], mentions=())
    logits = head(HIDDEN, targets)
    assert logits.shape == (0, 3)
    loss = head.loss(logits, targets)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in head.parameters())
