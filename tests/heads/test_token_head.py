"""Tagging: legal paths only, and the likeliest of them."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from kaggle_kit.core.tags import may_follow
from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import build_head
from kaggle_kit.heads.tokens import TokenClassificationHead


def head_of(scheme: str, *labels: str) -> TokenClassificationHead:
    return build_head(ComponentSpec("ner", Kind.TOKENS, 1, labels, scheme), 8, decoder=False)


def legal(path, scheme: str) -> bool:
    steps = zip((None, *path), (*path, None), strict=True)
    return all(may_follow(before, after, scheme) for before, after in steps)


@pytest.mark.parametrize(("scheme", "labels"), [("BIO", ("A", "B")), ("BIOES", ("A",))])
def test_the_decoded_tags_are_the_best_of_all_legal_sequences(scheme, labels):
    head = head_of(scheme, *labels)
    generator = torch.Generator().manual_seed(0)
    for words in (1, 2, 4):
        for _ in range(10):
            logits = 3 * torch.randn(words, len(head.tags), generator=generator)
            scores = logits.log_softmax(-1)
            paths = product(range(len(head.tags)), repeat=words)
            allowed = [path for path in paths if legal([head.tags[tag] for tag in path], scheme)]
            totals = [sum(scores[word, tag].item() for word, tag in enumerate(path)) for path in allowed]
            best = allowed[totals.index(max(totals))]
            tags, confidence = head.decode(logits)
            assert tags == [head.tags[tag] for tag in best]
            assert torch.allclose(confidence, scores.exp()[torch.arange(words), torch.tensor(best)])


def test_an_i_without_its_b_gives_way_to_what_is_legal():
    head = head_of("BIO", "A")
    tags, _ = head.decode(torch.tensor([[0.0, 2.0, 3.0], [0.0, 1.0, 3.0]]))
    assert tags == ["B-A", "I-A"]


def test_the_loss_is_the_sum_over_words_and_only_the_indexed_words_matter():
    head = head_of("BIO", "A").eval()
    hidden = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    targets = {"index": torch.tensor([1, 4]), "labels": torch.tensor([0, 2])}
    logits = head(hidden, targets)
    assert logits.shape == (2, 3)
    wanted = -(logits.log_softmax(-1)[0, 0] + logits.log_softmax(-1)[1, 2])
    assert head.loss(logits, targets).item() == pytest.approx(wanted.item(), rel=1e-6)
    hidden[[0, 2, 3, 5]] = 99.0
    assert torch.equal(head(hidden, targets), logits)


def test_no_words_decode_to_no_tags():
    tags, confidence = head_of("BIO", "A").decode(torch.empty(0, 3))
    assert tags == [] and confidence.numel() == 0
