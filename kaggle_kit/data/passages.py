"""From a document to tokenised passages whose words know their characters and their owner.

The sequences that the backbone reads: passages of a document, or a question with one candidate each.

A passage is one sequence the backbone reads. A stretch longer than `max_length` becomes several
windows that share `stride` tokens; each word is *owned* by exactly one window, the one in which it
stands further from the edge, so losses and predictions never count a word twice or miss one.

    for passage in passages(text, tokenizer, PassageSettings(max_length=128)): ...
    for sequence in pair_sequences(question, candidates, tokenizer, max_length=128): ...
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.data.segments import WORD, sentences


@dataclass(frozen=True)
class PassageSettings:
    """`segments`: one passage a sentence, or `windows` filled with whole sentences.

    Neighbouring windows share the last whole sentences of up to `stride` tokens, so that whatever stands
    closer together than that is seen together.
    `last_subword`: a word is represented by its last token (a causal model has read the whole word
    only there) instead of its first.
    """

    max_length: int = 128
    stride: int = 32
    segments: str = "sentences"
    last_subword: bool = False


@dataclass(frozen=True)
class Passage:
    """One sequence for the model, and which words of the document it reads and answers for."""

    input_ids: Sequence[int]
    word_tokens: Sequence[int]  # place of each word's token in input_ids
    word_starts: Sequence[int]  # characters in the document
    word_ends: Sequence[int]
    owned: Sequence[bool]  # per word: is this the passage that answers for it?
    carried: Sequence[bool]  # per word: did an earlier window answer for it?
    seen: Sequence[bool]  # per word: does the previous window hold it too?
    overlap: int  # tokens that the previous window has already read

    def words_in(self, start: int, end: int) -> tuple[int, int]:
        """Return the [first, stop) words that share a character with [start, end) of the document."""
        return bisect_right(self.word_ends, start), bisect_left(self.word_starts, end)

    def answers(self, first: int, last: int) -> bool:
        """Whether it is this passage that answers for the span from word `first` to word `last`."""
        return answers(self.owned, self.carried, self.seen, first, last)

    def holds(self, fragments: Sequence[tuple[int, int]]) -> bool:
        """Whether every fragment has a word here and none leaves the passage."""
        if not len(self.word_starts):
            return False
        low, high = self.word_starts[0], self.word_ends[-1]
        if any(start < low or high < end for start, end in fragments):
            return False
        words = (self.words_in(start, end) for start, end in fragments)
        return all(first < stop for first, stop in words)

    def matches(self, fragments: Sequence[tuple[int, int]], longest: int | None = None) -> bool:
        """Whether every fragment begins and ends with a word, and has no more than `longest` of them."""
        for start, end in fragments:
            first, stop = self.words_in(start, end)
            if first >= stop or (self.word_starts[first], self.word_ends[stop - 1]) != (start, end):
                return False
            if longest is not None and stop - first > longest:
                return False
        return True


def answers(
    owned: Sequence[bool], carried: Sequence[bool], seen: Sequence[bool], first: int, last: int
) -> bool:
    """Whether the passage owns the span's first word, or is the first after its owner that holds the span."""
    return bool(owned[first] or (carried[first] and not seen[last]))


@dataclass(frozen=True)
class SpecialTokens:
    """What the tokenizer puts around a sequence, and between the two halves of a pair."""

    prefix: list[int]
    suffix: list[int]
    between: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
        """Find a tokenizer's special tokens by encoding one letter with and without them."""
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        full = tokenizer("a")["input_ids"]
        first = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        separator = tokenizer.sep_token_id
        newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
        between = newline if separator is None else [separator]
        return cls(full[:first], full[first + len(bare) :], between)


@dataclass(frozen=True)
class _Piece:
    """Consecutive tokens of the document with their characters, one at least."""

    start: int  # characters of the document that were tokenised
    end: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    ends: list[int]  # after which tokens a sentence ends; the last one is the number of tokens


def passages(text: str, tokenizer: PreTrainedTokenizerBase, settings: PassageSettings) -> Iterator[Passage]:
    """Yield the passages of one document, in order."""
    special = SpecialTokens.of(tokenizer)
    capacity = settings.max_length - len(special.prefix) - len(special.suffix)
    if capacity <= settings.stride:
        room = f"max_length {settings.max_length} leaves {capacity} tokens, the stride is {settings.stride}"
        raise ConfigError(f"{room}; raise training.max_length or lower training.stride")
    pieces = _sentence_pieces(text, tokenizer)
    if settings.segments == "windows" and pieces:
        ids = [token for piece in pieces for token in piece.ids]
        offsets = [place for piece in pieces for place in piece.offsets]
        ends = list(accumulate(len(piece.ids) for piece in pieces))
        pieces = [_Piece(pieces[0].start, pieces[-1].end, ids, offsets, ends)]
    for piece in pieces:
        words = _words(text, piece, settings.last_subword)
        for window in _windows(piece.ends, capacity, settings.stride):
            yield _passage(piece, words, window, special)


def _sentence_pieces(text: str, tokenizer: PreTrainedTokenizerBase) -> list[_Piece]:
    if not (ranges := sentences(text)):
        return []
    parts = [text[start:end] for start, end in ranges]
    # Not verbose: it warns of what is longer than the model's positions, and is cut into windows here.
    encoded = tokenizer(parts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    tokenised = zip(ranges, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [
        _Piece(start, end, ids, [(start + first, start + last) for first, last in offsets], [len(ids)])
        for (start, end), ids, offsets in tokenised
        if ids
    ]


def _words(text: str, piece: _Piece, last_subword: bool) -> list[tuple[int, int, int]]:
    """(token, start, end) of every word of the piece.

    Characters that the tokenizer dropped (accents, marks without width) belong to the word that they touch,
    first of all to the one before them, but to a sign only where no word follows. Those that touch none are
    left out.
    """
    found: list[tuple[int, int, int]] = []
    cursor, dropped, after_sign = 0, (0, 0), False
    for match in WORD.finditer(text, piece.start, piece.end):
        start, end = match.span()
        if dropped[1] != start:
            _lengthened(found, dropped)
            dropped = (start, start)
        while cursor < len(piece.ids) and piece.offsets[cursor][1] <= start:
            cursor += 1
        token = cursor
        while last_subword and token + 1 < len(piece.ids) and piece.offsets[token + 1][0] < end:
            token += 1
        if token < len(piece.ids) and piece.offsets[token][0] < end:
            is_sign = not text[start].isalnum()
            taken = is_sign and _lengthened(found, dropped)
            found.append((token, start if taken else dropped[0], end))
            dropped, after_sign = (end, end), is_sign
        elif after_sign or not _lengthened(found, (start, end)):
            dropped = (dropped[0], end)
    _lengthened(found, dropped)
    return found


def _lengthened(found: list[tuple[int, int, int]], dropped: tuple[int, int]) -> bool:
    """Whether the last word ended where the dropped characters begin, and now ends where they do."""
    if not found or found[-1][2] != dropped[0]:
        return False
    found[-1] = (*found[-1][:2], dropped[1])
    return True


def _windows(ends: Sequence[int], capacity: int, stride: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(first, stop, owned_from, owned_to, overlap) in tokens; the owned ranges partition the piece.

    A window begins and ends with a sentence, unless one sentence is longer than the window.
    """
    first, owned_from, overlap = 0, 0, 0
    while True:
        fitting = bisect_right(ends, first + capacity)
        whole = fitting > 0 and ends[fitting - 1] > first + overlap
        stop = ends[fitting - 1] if whole else first + capacity
        if stop == ends[-1]:
            yield first, stop, owned_from, stop, overlap
            return
        following = ends[bisect_left(ends, stop - stride)] if whole else stop - stride
        owned_to = stop - (stop - following) // 2
        yield first, stop, owned_from, owned_to, overlap
        first, owned_from, overlap = following, owned_to, stop - following


def _passage(
    piece: _Piece,
    words: list[tuple[int, int, int]],
    window: tuple[int, int, int, int, int],
    special: SpecialTokens,
) -> Passage:
    first, stop, owned_from, owned_to, overlap = window
    inside = [word for word in words if first <= word[0] < stop]
    shift = len(special.prefix) - first
    return Passage(
        input_ids=special.prefix + piece.ids[first:stop] + special.suffix,
        word_tokens=[token + shift for token, _, _ in inside],
        word_starts=[start for _, start, _ in inside],
        word_ends=[end for _, _, end in inside],
        owned=[owned_from <= token < owned_to for token, _, _ in inside],
        carried=[token < owned_from for token, _, _ in inside],
        seen=[token < first + overlap for token, _, _ in inside],
        overlap=overlap,
    )


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
    """Return one sequence per candidate, in order, none longer than `max_length` tokens."""
    special = SpecialTokens.of(tokenizer)
    room = max_length - len(special.prefix) - len(special.between) - len(special.suffix)
    # Not verbose: it warns of what is longer than the model's positions, and is shortened here.
    encoded = tokenizer([question, *candidates], add_special_tokens=False, verbose=False)
    asked, *answers = encoded["input_ids"]
    for number, answer in enumerate(answers):
        left, right = truncate_pair(len(asked), len(answer), room)
        head = special.prefix + asked[:left] + special.between
        yield PairSequence(head + answer[:right] + special.suffix, number, len(head))


def truncate_pair(question: int, candidate: int, room: int) -> tuple[int, int]:
    """Return the tokens that stay of each: the longer one is cut first, to no less than the other."""
    left = min(question, max(room - candidate, room // 2))
    return left, min(candidate, room - left)
