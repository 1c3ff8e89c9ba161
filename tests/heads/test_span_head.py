"""The span head: which spans exist, which are kept, what is linked, and how little memory it takes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads import build_head
from kaggle_kit.heads.spans import PARTNERS, RARE, SpanClassificationHead, SpanScores, _pairs, layout

HIDDEN = 16


def head_of(longest: int = 3, *labels: str, hidden: int = HIDDEN) -> SpanClassificationHead:
    torch.manual_seed(0)
    component = ComponentSpec("ner", Kind.SPANS, 1, labels or ("A", "B"), max_span_length=longest)
    return build_head(component, hidden, decoder=False)


def targets_of(sizes: tuple[int, ...], longest: int = 3) -> dict[str, torch.Tensor]:
    """Passages of so many words, every token a word, every word owned, nothing labelled."""
    lengths = torch.tensor(sizes)
    passage = torch.repeat_interleave(torch.arange(len(sizes)), lengths)
    stop = lengths.cumsum(0)[passage]
    ends = torch.arange(len(passage))[:, None] + torch.arange(longest)
    return {
        "index": torch.arange(len(passage)),
        "passage": passage,
        "owned": torch.ones(len(passage), dtype=torch.long),
        "labels": torch.where(ends < stop[:, None], 0, -1),
        "links": torch.empty(0, 2, dtype=torch.long),
        "sizes": lengths,
    } | layout(lengths, longest)


def hidden_of(words: int, size: int = HIDDEN) -> torch.Tensor:
    return torch.randn(words, size, generator=torch.Generator().manual_seed(1))


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_a_span_is_one_layer_over_start_end_and_width_together():
    head, hidden = head_of().eval(), hidden_of(5)
    targets = targets_of((5,))
    logits = head(hidden, targets).logits
    weight = torch.cat([head.start.weight, head.end.weight], dim=1)
    for word, length in ((0, 1), (1, 3), (4, 1)):
        joined = torch.cat([hidden[word], hidden[word + length - 1]])
        span = F.gelu(F.linear(joined, weight, head.start.bias) + head.width.weight[length - 1])
        assert torch.allclose(logits[word, length - 1], head.label(span), atol=1e-6)


def test_a_passage_does_not_see_its_neighbours():
    head, hidden = head_of().eval(), hidden_of(9)
    together, alone = head(hidden, targets_of((4, 5))), head(hidden[4:], targets_of((5,)))
    inside = targets_of((5,))["labels"] == 0
    assert torch.allclose(together.logits[4:][inside], alone.logits[inside], atol=1e-6)
    mine = together.kept // 3 >= 4
    assert (together.kept[mine] - 4 * 3).tolist() == alone.kept.tolist()
    assert torch.allclose(together.links[mine[together.pairs[:, 0]]], alone.links, atol=1e-5)


def test_only_spans_inside_their_passage_are_kept_and_no_more_than_the_share():
    head = head_of().eval()
    sizes = (40, 2, 1)
    kept = head(hidden_of(43), targets_of(sizes)).kept
    words, lengths = kept // 3, kept % 3 + 1
    stop = torch.repeat_interleave(torch.tensor(sizes).cumsum(0), torch.tensor(sizes))
    assert (words + lengths <= stop[words]).all()
    # 0.4 per word but at least 8; of two words there are three spans, of one word one
    assert torch.bincount(targets_of(sizes)["passage"][words]).tolist() == [16, 3, 1]
    assert kept.tolist() == sorted(set(kept.tolist()))


def test_the_kept_spans_are_those_with_the_best_odds_of_being_a_fragment():
    head, targets = head_of().eval(), targets_of((40,))
    scores = head(hidden_of(40), targets)
    odds = (scores.logits[..., 1:].logsumexp(-1) - scores.logits[..., 0]).flatten()
    possible = (targets["labels"] == 0).flatten().nonzero().squeeze(1)
    best = possible[odds[possible].topk(16).indices]
    assert scores.kept.tolist() == sorted(best.tolist())


def test_gold_fragments_are_kept_in_training_and_never_looked_at_in_prediction():
    head, plain, labelled = head_of(), targets_of((60,)), targets_of((60,))
    worst = torch.tensor([3 * word for word in range(0, 60, 4)])
    labelled["labels"].view(-1)[worst] = 1
    labelled["links"] = torch.stack([worst, worst], dim=1)
    assert torch.isin(worst, head.train()(hidden_of(60), labelled).kept).all()
    predicted, unlabelled = head.eval()(hidden_of(60), labelled), head(hidden_of(60), plain)
    assert not torch.isin(worst, predicted.kept).all()
    assert all(torch.equal(a, b) for a, b in zip(predicted, unlabelled, strict=True))


def test_pairs_are_all_kept_spans_of_one_passage_with_themselves_and_those_behind():
    passage = torch.tensor([0, 0, 0, 2, 2])
    assert _pairs(passage).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 1],
        [1, 2],
        [2, 2],
        [3, 3],
        [3, 4],
        [4, 4],
    ]
    assert _pairs(passage[:0]).shape == (0, 2)


def test_a_kept_span_is_linked_to_so_many_behind_it_and_none_beyond():
    pairs = _pairs(torch.zeros(PARTNERS + 3, dtype=torch.long)).tolist()
    assert [second for first, second in pairs if first == 0] == list(range(PARTNERS + 1))
    assert [second for first, second in pairs if first == 2] == list(range(2, PARTNERS + 3))


def loss_per_word(head, hidden, targets):
    """In training, as the trainer averages it: (spans alone, all)"""
    scores = head.train()(hidden, targets)
    spans = F.cross_entropy(
        scores.logits.flatten(0, 1), targets["labels"].flatten(), ignore_index=-1, reduction="sum"
    )
    words = int(targets["owned"].sum())
    return float(spans.detach()) / words, float(head.loss(scores, targets).detach()) / words


def with_mentions(targets, every: int = 8):
    """One mention of one word in so many words, and every second of them in two pieces."""
    labels, links = targets["labels"].clone(), []
    longest, words = labels.shape[1], len(labels)
    for number, word in enumerate(range(0, words - 3, every)):
        pieces = [word, word + 2] if number % 2 else [word]
        labels[pieces, 0] = 1
        links.append([pieces[0] * longest, pieces[-1] * longest])
    return targets | {"labels": labels, "links": torch.tensor(links)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("words", [20, 100, 400])
def test_before_training_a_word_costs_as_much_as_a_taggers_however_long_the_passage(words, seed):
    torch.manual_seed(seed)
    component = ComponentSpec("ner", Kind.SPANS, 1, ("A",))
    hidden = torch.randn(words, 64)
    targets = with_mentions(targets_of((words,), component.max_span_length))
    _, span = loss_per_word(build_head(component, 64, decoder=False), hidden, targets)
    tagger = build_head(ComponentSpec("ner", Kind.TOKENS, 1, ("A",)), 64, decoder=False)
    tags = {"index": targets["index"], "labels": (targets["labels"][:, 0] > 0).long()}
    ratio = span / (float(tagger.loss(tagger(hidden, tags), tags).detach()) / words)
    assert 1 / 3 < ratio < 2


def test_the_links_of_a_long_passage_cost_a_word_no_more_than_those_of_short_ones():
    hidden = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    component = ComponentSpec("ner", Kind.SPANS, 1, ("A",))
    torch.manual_seed(0)
    head = build_head(component, 64, decoder=False)
    links = []
    for sizes in ((40,) * 10, (400,)):
        targets = with_mentions(targets_of(sizes, component.max_span_length))
        spans, total = loss_per_word(head, hidden, targets)
        links.append(total - spans)
    assert links[1] < 1.5 * links[0]  # all pairs of the passage made it 3 times as much


def test_the_loss_is_spans_plus_links_of_owned_words_worked_by_hand():
    head = head_of(2, "A")
    targets = targets_of((3,), longest=2)
    targets["owned"] = torch.tensor([1, 1, 0])
    targets["labels"] = torch.tensor([[1, 0], [1, 0], [-1, -1]])
    targets["links"] = torch.tensor([[0, 2], [0, 0]])  # the first word: a mention alone, and with the second
    logits = torch.zeros(3, 2, 2)
    logits[0, 0, 1] = 2.0
    kept = torch.tensor([0, 2, 4])
    pairs = _pairs(torch.zeros(3, dtype=torch.long))  # 00 01 02 11 12 22
    links = torch.tensor([1.0, 2.0, -3.0, 0.5, 0.0, 9.0], requires_grad=True)
    spans = softplus(-2.0) + 3 * math.log(2)  # four owned spans: one sure, three even
    linked = softplus(-1.0) + softplus(-2.0) + softplus(-3.0) + softplus(0.5) + math.log(2)
    loss = head.loss(SpanScores(logits, kept, pairs, links), targets)
    assert loss.item() == pytest.approx(spans + linked, rel=1e-6)
    loss.backward()
    assert links.grad[-1] == 0.0, "a link that begins with another window's word"


def test_before_training_fragments_and_links_are_rare():
    head = head_of()
    zero = torch.zeros(1, head.label.in_features)
    assert 1 - head.label(zero).softmax(-1)[0, 0].item() == pytest.approx(RARE, abs=0.02)
    assert head.link(zero).sigmoid().item() == pytest.approx(RARE, abs=0.02)


def test_every_parameter_of_the_head_learns():
    head, targets = head_of().train(), targets_of((12, 4))
    targets["labels"][0, 1], targets["labels"][3, 0] = 1, 1
    targets["links"] = torch.tensor([[1, 9]])
    head.loss(head(hidden_of(16), targets), targets).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation, forward or backward, gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_memory_stays_bounded_on_a_window_of_512_tokens():
    words, longest = 512, 8
    head = head_of(longest, hidden=768).train()
    targets = targets_of((words,), longest)
    with LargestTensor() as largest:
        head.loss(head(hidden_of(words, 768), targets), targets).backward()
    spans = words * longest
    kept = math.ceil(0.4 * words)
    assert largest.elements <= 128 * max(spans, kept * (kept + 1) // 2)  # 11 MB; links of all spans: 4.3 GB
    assert largest.elements < spans * spans / 6


def test_no_words_have_no_spans():
    head, targets = head_of(), targets_of((0,))
    scores = head(hidden_of(1), targets)
    assert scores.logits.shape == (0, 3, 3) and scores.links.numel() == 0
    assert head.loss(scores, targets).item() == 0.0
