"""Passages: every word read somewhere, owned exactly once, and found again by its characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.data.passages import WORD, PassageSettings, pair_sequences, passages
from kaggle_kit.models.tiny import train_tokenizer

TEXT = "Chest pain was noted. The patient denies fever, cough and dyspnoea.\nNo acute distress today."
TOKENIZER = train_tokenizer([TEXT] * 3)
WORDS = [match.span() for match in WORD.finditer(TEXT)]


def owned_words(found):
    return [
        (start, end)
        for passage in found
        for start, end, mine in zip(passage.word_starts, passage.word_ends, passage.owned, strict=True)
        if mine
    ]


def test_a_short_sentence_is_one_passage_with_the_special_tokens_around_it():
    found = list(passages(TEXT, TOKENIZER, PassageSettings(max_length=128)))
    assert [TEXT[p.word_starts[0] : p.word_ends[-1]] for p in found] == [
        "Chest pain was noted.",
        "The patient denies fever, cough and dyspnoea.",
        "No acute distress today.",
    ]
    assert all(p.input_ids[0] == TOKENIZER.bos_token_id and p.overlap == 0 for p in found)
    assert TOKENIZER.decode(found[0].input_ids[1:]) == "Chest pain was noted."


@pytest.mark.parametrize("segments", ["sentences", "windows"])
@pytest.mark.parametrize("max_length", [8, 11, 20, 128])
def test_every_word_is_owned_by_exactly_one_passage(segments, max_length):
    found = list(passages(TEXT, TOKENIZER, PassageSettings(max_length, stride=4, segments=segments)))
    assert owned_words(found) == WORDS
    assert all(len(p.input_ids) <= max_length for p in found)


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(alphabet="ab .,\n-Cé", max_size=120),
    max_length=st.integers(6, 20),
    stride=st.integers(0, 4),
    last=st.booleans(),
)
def test_any_text_is_partitioned_into_owned_words(text, max_length, stride, last):
    found = list(passages(text, TOKENIZER, PassageSettings(max_length, stride, "windows", last)))
    assert owned_words(found) == [match.span() for match in WORD.finditer(text)]


def test_windows_share_the_stride_and_say_how_many_tokens_are_read_twice():
    text = "one two three four five six seven eight nine ten eleven twelve"
    found = list(passages(text, TOKENIZER, PassageSettings(max_length=17, stride=6)))
    assert len(found) > 2
    assert [p.overlap for p in found] == [0] + [6] * (len(found) - 1)
    for left, right in zip(found, found[1:], strict=False):
        assert left.input_ids[-6:] == right.input_ids[1:7]


def test_windows_are_filled_with_whole_sentences():
    found = list(passages(TEXT, TOKENIZER, PassageSettings(max_length=128, segments="windows")))
    assert len(found) == 1 and len(found[0].owned) == len(WORDS)


def test_a_word_is_its_first_token_or_for_a_causal_model_its_last():
    first, last = (
        next(passages("dyspnoeic", TOKENIZER, PassageSettings(64, 8, last_subword=last)))
        for last in (False, True)
    )
    assert first.word_tokens == [1]
    assert last.word_tokens == [len(last.input_ids) - 1] and last.word_tokens[0] > 1


def test_words_are_found_by_the_characters_they_share():
    (passage,) = passages("left atrium is dilated", TOKENIZER, PassageSettings(64, 8))
    assert passage.words_in(5, 11) == (1, 2)  # atrium
    assert passage.words_in(7, 16) == (1, 4)  # half of atrium to the first letter of dilated
    assert passage.words_in(4, 5) == (1, 1)  # a blank
    assert passage.holds(((0, 4), (15, 22)))
    assert not passage.holds(((0, 4), (22, 23)))
    assert not passage.holds(((4, 5),))


def test_a_text_of_white_space_has_no_passage():
    assert list(passages(" \n ", TOKENIZER, PassageSettings())) == []


def test_a_stride_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match="max_length 16 leaves 15 tokens, the stride is 15"):
        next(passages("a", TOKENIZER, PassageSettings(max_length=16, stride=15)))


def wordpiece() -> PreTrainedTokenizerFast:
    """A tokenizer that drops accents and control characters, as BERT's uncased one does."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "cafe", "pain"]
    backend = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(lowercase=True, strip_accents=False),
            normalizers.NFD(),
            normalizers.StripAccents(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", sep_token="[SEP]")


@pytest.mark.parametrize("segments", ["sentences", "windows"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("cafe\u0301 in town", (0, 5)),
        ("a cafe\u0301", (2, 7)),
        ("cafe\u0301\u0302 in town", (0, 6)),
        ("no pain\ufe0f.", (3, 8)),
        ("\ufeffpain here", (0, 5)),
        ("no \u200fpain", (3, 8)),
        ("pain\ufffd and", (0, 5)),
        ("no\u200f\u200f pain", (0, 4)),
        ("pain\ue000", (0, 5)),
        ("a (\u200bpain\u200b)", (3, 9)),  # not the bracket's, since a word follows
        ("a pain%\u200b.", (2, 8)),
        ("no ;\u200b pain", (3, 5)),
    ],
)
def test_characters_that_the_tokenizer_drops_belong_to_the_word_that_they_touch(
    text, mention, segments, last
):
    settings = PassageSettings(64, 8, segments=segments, last_subword=last)
    (passage,) = passages(text, wordpiece(), settings)
    assert passage.holds([mention]) and passage.matches([mention])


def test_dropped_characters_that_touch_no_word_are_in_no_passage():
    (passage,) = passages("pain \ufeff here", wordpiece(), PassageSettings(64, 8))
    assert list(zip(passage.word_starts, passage.word_ends, strict=True)) == [(0, 4), (7, 11)]
    assert not passage.holds([(5, 6)])


@pytest.mark.parametrize("segments", ["sentences", "windows"])
def test_a_text_or_a_sentence_of_dropped_characters_alone_has_no_passage(segments):
    settings = PassageSettings(64, 8, segments=segments)
    assert list(passages("\ufeff", wordpiece(), settings)) == []
    (passage,) = passages("\u200f\n\npain", wordpiece(), settings)
    assert list(passage.word_starts) == [3]


def test_a_text_longer_than_the_models_positions_is_cut_without_a_warning():
    tokenizer = train_tokenizer([TEXT] * 3)
    tokenizer.model_max_length = 8
    assert len(list(passages("pain " * 40, tokenizer, PassageSettings(8, 2)))) > 1
    (sequence,) = pair_sequences("pain " * 40, ["fever"], tokenizer, max_length=8)
    assert len(sequence.input_ids) == 8
    assert tokenizer.deprecation_warnings == {}
