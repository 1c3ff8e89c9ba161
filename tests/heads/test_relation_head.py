"""The relation head: pairs from one encoding that read their passage, and start by what they read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import build_head
from kaggle_kit.heads.pair_reader import BLOCK, PairGrid, layout
from kaggle_kit.heads.relations import DISTANCES, marked

LINKS = ComponentSpec(
    "links", Kind.RELATIONS, 2, ("CAUSES", "TREATS"), candidates=(("Drug", "Disease"), ("Drug", "Drug"))
)
WHEN = replace(LINKS, attribute="DocTimeRel", candidates=(("Disease",), ("Drug",)))
HIDDEN = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
MENTIONS = ((0, 1, 0), (2, 2, 1), (4, 6, 1))  # first, last, type


def head_of(component: ComponentSpec = LINKS):
    torch.manual_seed(0)
    return build_head(component, 8, decoder=True).eval()


def targets_of(candidates, mentions=MENTIONS, sizes=None, lengths=(8, 4)) -> dict[str, torch.Tensor]:
    """Candidates (source, target, distance, label), all of the first of two passages unless `sizes` says."""
    listed = torch.tensor(mentions, dtype=torch.long).reshape(-1, 3).T
    pairs = torch.tensor(candidates, dtype=torch.long).reshape(-1, 4).T
    targets = dict(zip(("first", "last", "types"), listed, strict=True))
    targets |= dict(zip(("source", "target", "distance", "labels"), pairs, strict=True))
    lengths = torch.tensor(lengths)
    targets |= {"starts": lengths.cumsum(0) - lengths, "lengths": lengths, "weights": torch.ones(2)}
    return laid_out(targets | {"sizes": torch.tensor(sizes or (len(candidates), 0))})


def laid_out(targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return targets | marked(targets) | layout(targets)


def test_a_pair_is_scored_alike_alone_and_among_others():
    head = head_of()
    pairs = [(a, b, 1, 0) for a in range(3) for b in range(3) if a != b]
    logits = head(HIDDEN, targets_of(pairs))
    assert logits.shape == (6, 3)
    alone = torch.cat([head(HIDDEN, targets_of([pair])) for pair in pairs])
    assert torch.allclose(logits, alone, atol=1e-5)


def test_blocks_of_pairs_change_nothing():
    """More pairs than a block holds, in both passages, give what each gives alone."""
    head = head_of()
    mentions = (*MENTIONS, (8, 8, 0), (10, 11, 1))
    first = [(a, b, d, 0) for a in range(3) for b in range(3) if a != b for d in range(BLOCK // 4)]
    second = [(3, 4, 2, 0), (4, 3, -2, 0)]
    assert len(first) > BLOCK
    logits = head(HIDDEN, targets_of([*first, *second], mentions, (len(first), 2)))
    for number in (0, BLOCK - 1, BLOCK, len(first) - 1):
        alone = head(HIDDEN, targets_of([first[number]], mentions))
        assert torch.allclose(logits[number], alone[0], atol=1e-5)
    alone = head(HIDDEN, targets_of(second[1:], mentions, (0, 1)))
    assert torch.allclose(logits[-1], alone[0], atol=1e-5)


def test_a_pair_reads_its_whole_passage_and_nothing_else():
    head, targets = head_of(), targets_of([(0, 1, 1, 0)])
    before = head(HIDDEN, targets)
    for token in range(12):
        changed = HIDDEN.clone()
        changed[token] += torch.randn(8, generator=torch.Generator().manual_seed(token))
        same = torch.allclose(head(changed, targets), before, atol=1e-6)
        assert same is (token >= 8), token


def test_every_token_is_known_by_where_it_stands_from_both_mentions():
    grid = PairGrid.of(targets_of([(0, 2, 1, 0)]), head_of().places)
    source, target = grid.places[0, 0] // len(DISTANCES), grid.places[0, 0] % len(DISTANCES)
    # mentions at 0-1 and 4-6; class 6 is inside, 7 and 5 one token off, 8 and 4 two, 9 and 3 three or four
    assert source.tolist() == [6, 6, 7, 8, 9, 9, 10, 10]
    assert target.tolist() == [3, 3, 4, 5, 6, 6, 6, 7]
    assert grid.tokens[0].tolist() == list(range(8)) and not grid.outside.any()


@pytest.mark.parametrize("change", [{"first": 1}, {"last": 3}, {"types": 0}])
def test_first_token_last_token_and_type_all_speak(change):
    head, targets = head_of(), targets_of([(0, 2, 3, 0)])
    before = head(HIDDEN, targets)
    ((name, value),) = change.items()
    targets[name] = targets[name].clone()
    targets[name][2] = value
    assert not torch.allclose(head(HIDDEN, laid_out(targets)), before, atol=1e-4)


def test_the_types_of_other_mentions_mark_their_tokens():
    head, targets = head_of(), targets_of([(0, 1, 3, 0)])
    before = head(HIDDEN, targets)
    targets["types"] = torch.tensor([0, 1, 0])
    assert not torch.allclose(head(HIDDEN, laid_out(targets)), before, atol=1e-5)


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


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_at_the_start_a_pair_is_its_mentions_and_not_its_distance(scale):
    """Of the variance over pairs, whatever the scale of the hidden states."""
    torch.manual_seed(0)
    head = build_head(LINKS, 64, decoder=False).eval()
    generator = torch.Generator().manual_seed(2)
    hidden = scale * torch.randn(400, 64, generator=generator)
    mentions = [(2 * n, 2 * n + 1, n % 2) for n in range(200)]
    pairs = [(n, n + 1, (n * 7) % 90 - 45, 0) for n in range(199)]
    targets = targets_of(pairs, mentions, (199,), (400,))
    with torch.no_grad():
        tokens = head.token(head.norm(hidden)) + head._markers(hidden, targets)
        whole = head._pairs(head._nodes(tokens, targets), targets)
        bucket = torch.bucketize(targets["distance"].float(), head.distances, right=True) - 1
        distance = head.distance(bucket)
    share = distance.var(0).sum() / whole.var(0).sum()
    assert 0.01 < share < 0.25  # it was 0.935


def test_the_first_gradient_of_relations_on_the_states_is_on_the_scale_of_entities():
    """It was 46 times smaller, with states of the scale that MiniLM gives (0.05)."""
    torch.manual_seed(0)
    tags = ComponentSpec("ner", Kind.TOKENS, 1, ("Drug", "Disease"))
    norms = {}
    for name, component in (("ner", tags), ("links", LINKS)):
        hidden = (0.05 * torch.randn(200, 64, generator=torch.Generator().manual_seed(3))).requires_grad_()
        head = build_head(component, 64, decoder=False).eval()
        if name == "ner":
            labels = torch.arange(200) % 5
            targets = {"index": torch.arange(200), "labels": labels}
        else:
            pairs = [(n, n + 1, 1, n % 3) for n in range(99)]
            targets = targets_of(pairs, [(2 * n, 2 * n + 1, n % 2) for n in range(100)], (99,), (200,))
        (head.loss(head(hidden, targets), targets) / len(targets["labels"])).backward()
        norms[name] = hidden.grad.norm().item()
    assert norms["links"] > norms["ner"] / 3


def test_the_document_is_a_learnt_node_that_stands_everywhere():
    head = head_of(WHEN)
    targets = targets_of([(0, 3, 0, 1), (2, 3, 0, 2)])
    grid = PairGrid.of(targets, head.places)
    assert (grid.places % len(DISTANCES) == 6).all()  # no token stands outside of it
    before = head(HIDDEN, targets)
    head.loss(before, targets).backward()
    assert head.document.grad.abs().sum() > 0
    with torch.no_grad():
        head.document += torch.randn(256, generator=torch.Generator().manual_seed(5))
    assert not torch.allclose(head(HIDDEN, targets), before, atol=1e-4)


def test_a_candidate_weighs_what_its_targets_say():
    head = head_of()
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    targets = targets_of([(0, 1, 1, 0), (0, 2, 1, 2)]) | {"weights": torch.tensor([0.8, 2.0])}
    total = math.log(1 + math.e + math.e**2)
    assert head.loss(logits, targets).item() == pytest.approx(0.8 * total + 2.0 * (total - 2.0), rel=1e-6)
    targets["weights"] = torch.ones(2)
    plain = F.cross_entropy(logits, targets["labels"], reduction="sum")
    assert torch.allclose(head.loss(logits, targets), plain)


def test_a_micro_batch_without_candidates_gives_no_loss_and_no_wrong_gradient():
    head = head_of()
    targets = targets_of([], mentions=())
    logits = head(HIDDEN, targets)
    assert logits.shape == (0, 3)
    loss = head.loss(logits, targets)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in head.parameters())
