"""Token classification: a BIO or BIOES tag per word, from one linear layer, decoded by Viterbi.

    head = TokenClassificationHead(component, hidden_size=384)
    targets = tensors(component, rows, starts)
    # index (words,) place of each owned word · labels (words,) its tag · sizes (rows,) owned words

A word is counted in the passage that owns it, and its scores come from that passage, so a mention at a
window's edge is neither lost nor doubled. A discontiguous mention is tagged fragment by fragment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.tags import chunks, may_follow, tag_chunks, tag_names
from kaggle_kit.core.types import ComponentSpec, Mention, UnifiedSample
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads.arrays import Columns, Records, Scored, flat, long
from kaggle_kit.heads.arrays import split as split
from kaggle_kit.heads.dropout import HEAD_DROPOUT, FastDropout


def features(component: ComponentSpec) -> dict[str, str]:
    """Return the names and Arrow types of the component's columns in a token file."""
    return {f"tags:{component.name}": "int16[]"}


def columns(component: ComponentSpec, sequences: Sequence[Passage], sample: UnifiedSample) -> Records:
    """Yield the tag classes of each passage's words; discontiguous mentions are tagged by fragment."""
    index = {name: number for number, name in enumerate(tag_names(component.labels, component.scheme))}
    mentions = [mention for mention in sample.mentions if mention.type in component.labels]
    for passage in sequences:
        chunks = []
        for mention in mentions:
            words = (passage.words_in(start, end) for start, end in mention.fragments)
            chunks += [(first, stop, mention.type) for first, stop in words if first < stop]
        tags = tag_chunks(chunks, len(passage.word_tokens), component.scheme)
        yield {f"tags:{component.name}": [index[tag] for tag in tags]}


def tensors(component: ComponentSpec, rows: Columns, starts: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of a micro-batch whose rows begin at `starts`, by the names above."""
    owned = [np.asarray(words, bool) for words in rows["owned"]]
    places = zip(rows["word_tokens"], owned, starts, strict=True)
    tags = zip(rows[f"tags:{component.name}"], owned, strict=True)
    return {
        "index": long(flat(tokens[mine] + start for tokens, mine, start in places)),
        "labels": long(flat(row[: len(mine)][mine] for row, mine in tags)),
        "sizes": long([mine.sum() for mine in owned]),
    }


def count(targets: Mapping[str, Tensor]) -> int:
    """Count the owned words."""
    return len(targets["labels"])


IMPOSSIBLE = -1e4  # added to the score of a transition that the scheme forbids


class TokenClassificationHead(nn.Module):
    """Scores every tag of every word."""

    def __init__(self, component: ComponentSpec, hidden_size: int) -> None:
        super().__init__()
        self.tags = tag_names(component.labels, component.scheme)
        self.scheme = component.scheme
        self.dropout = FastDropout(HEAD_DROPOUT)
        self.score = nn.Linear(hidden_size, len(self.tags))

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Score every tag of each owned word: (tokens, hidden) -> (words, tags)"""
        return self.score(self.dropout(hidden.index_select(0, targets["index"]).float()))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Sum the cross-entropy over the words."""
        return F.cross_entropy(logits, targets["labels"], reduction="sum")

    def decode(self, logits: Tensor) -> tuple[list[str], Tensor]:
        """Return the best legal tag sequence of one document's words, and each word's probability of its tag.

        Viterbi over the words with forbidden transitions; `logits` is (words, tags).
        """
        scores = logits.float().log_softmax(-1)
        path = viterbi(scores, *self._transitions(scores.device))
        index = torch.tensor(path, dtype=torch.long)
        return [self.tags[tag] for tag in path], scores.exp()[torch.arange(len(path)), index]

    def _transitions(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The score of each step from tag to tag, of a beginning and of an end: 0, or `IMPOSSIBLE`."""
        edges = [*self.tags, None]
        legal = [[may_follow(before, after, self.scheme) for after in edges] for before in edges]
        scores = torch.zeros(len(edges), len(edges), device=device)
        scores.masked_fill_(~torch.tensor(legal, device=device), IMPOSSIBLE)
        return scores[:-1, :-1], scores[-1, :-1], scores[:-1, -1]


HEAD = TokenClassificationHead


def viterbi(scores: Tensor, between: Tensor, first: Tensor, last: Tensor) -> list[int]:
    """Return the highest-scoring path: scores (words, tags); penalties, at most 0, of each step and end.

    `between` (tags, tags) is from row to column, `first` and `last` are (tags,).
    """
    if len(scores) == 0:
        return []
    likeliest = scores.argmax(-1)
    if not (first[likeliest[0]] + between[likeliest[:-1], likeliest[1:]].sum() + last[likeliest[-1]]):
        return likeliest.tolist()  # it is legal, so nothing scores higher
    best = scores[0] + first
    back = []
    for row in scores[1:]:
        value, previous = (best[:, None] + between).max(0)
        back.append(previous)
        best = value + row
    path = [int((best + last).argmax())]
    for previous in reversed(back):
        path.append(int(previous[path[-1]]))
    return path[::-1]


def decode(component: ComponentSpec, head: nn.Module, scored: Scored) -> list[UnifiedSample]:
    """Add the mentions of the best legal tag sequence to the samples."""
    words: list[list[tuple[int, int]]] = [[] for _ in scored.predicted]
    logits: list[list[Tensor]] = [[] for _ in scored.predicted]
    columns = (scored.table[name] for name in ("document", "word_starts", "word_ends", "owned"))
    for document, starts, ends, owned, scores in zip(*columns, scored.outputs, strict=True):
        words[document].extend(zip(starts[owned].tolist(), ends[owned].tolist(), strict=True))
        logits[document].append(scores)
    samples = []
    for sample, places, scores in zip(scored.predicted, words, logits, strict=True):
        mentions = _mentions(head, places, torch.cat(scores), len(sample.mentions)) if places else ()
        samples.append(replace(sample, mentions=(*sample.mentions, *mentions)))
    return samples


def _mentions(
    head: nn.Module, places: Sequence[tuple[int, int]], logits: Tensor, named: int
) -> Iterator[Mention]:
    """Chunks of the best tag path; a mention's score is the product of its words' probabilities."""
    tags, confidence = head.decode(logits)
    for number, (first, stop, label) in enumerate(chunks(tags), start=named + 1):
        span = (places[first][0], places[stop - 1][1])
        yield Mention(f"T{number}", (span,), label, score=float(confidence[first:stop].prod()))
