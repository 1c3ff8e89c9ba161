"""From a question and its candidates to the sequences the backbone reads, one per candidate.

for sequence in pair_sequences(question, candidates, tokenizer, max_length=128): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from kaggle_kit.data.passages import SpecialTokens


@dataclass(frozen=True)
class PairSequence:
    """A question with one candidate. `pair` is the candidate's place among the sample's pairs."""

    input_ids: list[int]
    pair: int
    second: int  # where the candidate begins in input_ids
    overlap: int = 0  # no two sequences share a token


def pair_sequences(
    question: str, candidates: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[PairSequence]:
    """One sequence per candidate, in order, none longer than `max_length` tokens."""
    special = SpecialTokens.of(tokenizer)
    room = max_length - len(special.prefix) - len(special.between) - len(special.suffix)
    # Not verbose: it warns of what is longer than the model's positions, and is shortened here.
    encoded = tokenizer([question, *candidates], add_special_tokens=False, verbose=False)
    asked, *answers = encoded["input_ids"]
    for number, answer in enumerate(answers):
        left, right = truncated(len(asked), len(answer), room)
        head = special.prefix + asked[:left] + special.between
        yield PairSequence(head + answer[:right] + special.suffix, number, len(head))


def truncated(question: int, candidate: int, room: int) -> tuple[int, int]:
    """How many tokens of each stay: the longer one is shortened first, to no less than the other."""
    if question + candidate <= room:
        return question, candidate
    half = room // 2
    if question <= half:
        return question, room - question
    if candidate <= room - half:
        return room - candidate, candidate
    return half, room - half
