"""Token files: what each kind of component writes beside a passage, and when a file is read again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaggle_kit.batches import encode as encoding
from kaggle_kit.batches.encode import encode
from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.types import (
    Access,
    ComponentSpec,
    Kind,
    Mention,
    RankedPair,
    Relation,
    TaskSpec,
    UnifiedSample,
)
from kaggle_kit.data.passages import PassageSettings, pair_sequences, truncate_pair
from kaggle_kit.models.tiny import train_tokenizer

#       0         1         2         3         4
#       0123456789012345678901234567890123456789012345
TEXT = "Pain in the left arm. On Monday valve was torn."
PAIN, ARM, MONDAY, TORN = ((0, 4),), ((12, 20),), ((25, 31),), ((32, 37), (42, 46))
TOKENIZER = train_tokenizer([TEXT] * 3)
SETTINGS = PassageSettings(max_length=64, stride=8)

TAGS = ComponentSpec("ner", Kind.TOKENS, 1, ("EVENT", "TIMEX3"))
SPANS = ComponentSpec("spans", Kind.SPANS, 1, ("EVENT", "TIMEX3"), max_span_length=2)
LINKS = ComponentSpec(
    "links",
    Kind.RELATIONS,
    2,
    ("CONTAINS",),
    relation_type="TLINK",
    relation_attribute="Type",
    candidates=(("TIMEX3", "EVENT"), ("EVENT", "EVENT")),
)
UNARY = ComponentSpec(
    "when", Kind.RELATIONS, 2, ("BEFORE", "AFTER"), attribute="DocTimeRel", candidates=(("EVENT",),)
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))


def sample() -> UnifiedSample:
    mentions = (
        Mention("a", PAIN, "EVENT", attributes={"DocTimeRel": "BEFORE"}),
        Mention("b", ARM, "EVENT"),
        Mention("c", MONDAY, "TIMEX3"),
        Mention("d", TORN, "EVENT", attributes={"DocTimeRel": "AFTER"}),
        Mention("e", ((32, 37),), "Other"),
    )
    relations = (
        Relation("r1", "TLINK", "c", "d", attributes={"Type": "CONTAINS"}),
        Relation("r2", "TLINK", "a", "b", attributes={"Type": "OVERLAP"}),
        Relation("r3", "ALINK", "a", "b", attributes={"Type": "CONTAINS"}),
        Relation("r4", "TLINK", "c", "a", attributes={"Type": "CONTAINS"}),  # leaves its sentence
    )
    return UnifiedSample("doc", TEXT, "train", Access.PUBLIC, mentions, relations)


def column(name: str, *components: ComponentSpec, settings: PassageSettings = SETTINGS) -> list[list[int]]:
    table = encode([sample()], TaskSpec("t", components), TOKENIZER, settings).table
    return [np.asarray(row).tolist() for row in table[name]]


def test_words_are_tagged_and_a_discontiguous_mention_piece_by_piece():
    # O B-EVENT I-EVENT B-TIMEX3 I-TIMEX3
    assert column("tags:ner", TAGS) == [[1, 0, 0, 1, 2, 0], [0, 3, 1, 0, 1, 0]]


def test_fragments_are_numbered_by_word_and_length_and_links_join_the_pieces_of_a_mention():
    # words: Pain in the left arm . | On Monday valve was torn .      span = 2 * word + length - 1
    assert column("fragments:spans", SPANS) == [[0, 1, 7, 1], [2, 2, 4, 1, 8, 1]]
    assert column("links:spans", SPANS) == [[0, 0, 7, 7], [2, 2, 4, 8]]


def test_a_mention_with_a_fragment_longer_than_a_span_can_be_is_left_out():
    short = replace(SPANS, max_span_length=1)
    assert column("fragments:spans", short) == [[0, 1], [1, 2, 2, 1, 4, 1]]


def test_candidates_are_ordered_pairs_of_seen_types_inside_one_passage():
    # mention: number, first token, last token, type (EVENT 0, TIMEX3 1); the Other is no candidate
    tokens = column("word_tokens", LINKS)
    assert column("mentions:links", LINKS) == [
        [0, tokens[0][0], tokens[0][0], 0, 1, tokens[0][3], tokens[0][4], 0],
        [2, tokens[1][1], tokens[1][1], 1, 3, tokens[1][2], tokens[1][4], 0],
    ]
    # candidate: source, target, words between, label; (EVENT, TIMEX3) was never seen
    assert column("candidates:links", LINKS) == [[0, 1, 3, 0, 1, 0, -3, 0], [0, 1, 1, 1]]


def test_where_training_knows_one_direction_the_other_is_no_candidate():
    assert column("candidates:links", replace(LINKS, forward=True)) == [[0, 1, 3, 0], [0, 1, 1, 1]]


def test_the_relation_to_the_document_is_a_candidate_with_one_mention():
    assert column("candidates:when", UNARY) == [[0, -1, 0, 1, 1, -1, 0, 0], [0, -1, 0, 2]]


def test_windows_put_relations_across_sentences_within_reach():
    (pairs,) = column("candidates:links", LINKS, settings=replace(SETTINGS, segments="windows"))
    records = np.reshape(pairs, (-1, 4)).tolist()
    assert [2, 0, -7, 1] in records and [2, 3, 1, 1] in records
    assert len(records) == 6 + 3  # ordered pairs of three events, and the time with each


def test_a_pair_that_two_windows_hold_is_a_candidate_once():
    settings = PassageSettings(max_length=6, stride=4)
    for component, wanted in ((LINKS, [(0, 1), (1, 0), (2, 3)]), (UNARY, [(0, -1), (1, -1), (3, -1)])):
        rows = column(f"candidates:{component.name}", component, settings=settings)
        mentions = column(f"mentions:{component.name}", component, settings=settings)
        held = [number for row in mentions for number in row[::4]]
        assert len(held) > len(set(held)), "some mentions stand in two windows"
        found = [
            (listed[4 * source], target if target == -1 else listed[4 * target])
            for listed, row in zip(mentions, rows, strict=True)
            for source, target, *_ in np.reshape(row, (-1, 4)).tolist()
        ]
        assert sorted(found) == wanted


def test_predicted_mentions_replace_the_gold_candidates_and_nothing_else():
    encoded = encode([sample()], TaskSpec("t", (TAGS, LINKS)), TOKENIZER, SETTINGS)
    nothing = encoded.relating([replace(sample(), mentions=(), relations=())])
    assert [len(row) for row in nothing.rows([1, 0])["candidates:links"]] == [0, 0]
    assert np.array_equal(nothing.rows([1])["tags:ner"][0], encoded.rows([1])["tags:ner"][0])
    found = replace(sample(), mentions=sample().mentions[2:4], relations=())
    assert [list(row) for row in encoded.relating([found]).rows([0, 1])["candidates:links"]] == [
        [],
        [0, 1, 1, 0],
    ]


def test_a_task_without_relations_has_nothing_to_relate():
    encoded = encode([sample()], TaskSpec("t", (TAGS,)), TOKENIZER, SETTINGS)
    assert encoded.relating([sample()]).replaced == {}


def question(*labels: bool | None) -> UnifiedSample:
    pairs = tuple(
        RankedPair("q", f"c{rank}", f"answer {rank}", rank, relevant=label)
        for rank, label in enumerate(labels, 1)
    )
    return UnifiedSample("q", "what is torn", "train", Access.PUBLIC, pairs=pairs)


def test_a_question_is_one_group_of_sequences_with_what_is_known_of_their_relevance():
    spec = TaskSpec("t", (ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant")),))
    encoded = encode([question(True, None, False), question(False)], spec, TOKENIZER, SETTINGS)
    assert encoded.groups.tolist() == [0, 0, 0, 1]
    assert encoded.table["relevant:rank"][:].tolist() == [1, -1, 0, 0]
    assert encoded.table["pair"][:].tolist() == [0, 1, 2, 0]


def test_a_long_list_of_candidates_is_compared_in_lists_of_ten():
    spec = TaskSpec("t", (ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant")),))
    encoded = encode([question(*[True] * 23), question(False)], spec, TOKENIZER, SETTINGS)
    assert encoded.groups.tolist() == [0] * 10 + [1] * 10 + [2] * 3 + [3]


def test_the_candidate_begins_where_second_says():
    for sequence in pair_sequences("what is torn", ["the valve", "pain"], TOKENIZER, max_length=64):
        question_half, answer_half = (
            sequence.input_ids[: sequence.second],
            sequence.input_ids[sequence.second :],
        )
        assert TOKENIZER.decode(question_half, skip_special_tokens=True).strip() == "what is torn"
        assert TOKENIZER.decode(answer_half) == ["the valve", "pain"][sequence.pair]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((5, 4), 10, (5, 4)),
        ((20, 4), 10, (6, 4)),
        ((3, 20), 10, (3, 7)),
        ((20, 20), 10, (5, 5)),
        ((9, 9), 11, (5, 6)),
    ],
)
def test_the_longer_half_of_a_pair_is_shortened_first(lengths, room, kept):
    assert truncate_pair(*lengths, room) == kept


def test_what_a_call_left_in_the_tokenizer_makes_no_other_file(tmp_path):
    """Truncation and padding are settings of the last call; the first warm encode of a run missed by them."""
    tokenizer = train_tokenizer([TEXT] * 3)
    first = encode([sample()], TaskSpec("t", (TAGS,)), tokenizer, SETTINGS)
    tokenizer([TEXT, "Pain"], truncation=True, max_length=4, padding=True)
    assert "max_length" in tokenizer.backend_tokenizer.to_str()
    again = encode([sample()], TaskSpec("t", (TAGS,)), tokenizer, SETTINGS)
    assert again.table.cache_files == first.table.cache_files
    other = encode([sample()], TaskSpec("t", (TAGS,)), train_tokenizer([TEXT + " more"] * 3), SETTINGS)
    assert other.table.cache_files != first.table.cache_files


def test_the_same_content_is_tokenised_once_and_other_content_again(monkeypatch):
    written = []
    monkeypatch.setattr(
        encoding, "records", lambda *args, read=encoding.records: (written.append(1), read(*args))[1]
    )
    spec = TaskSpec("t", (TAGS,))
    for samples, settings in (
        ([sample()], SETTINGS),
        ([sample()], SETTINGS),
        ([replace(sample(), mentions=())], SETTINGS),
        ([sample()], replace(SETTINGS, max_length=63)),
    ):
        encode(samples, spec, TOKENIZER, settings)
    assert len(written) == 3


def test_lengths_and_overlap_are_those_of_the_rows():
    encoded = encode([sample()], TaskSpec("t", (TAGS,)), TOKENIZER, PassageSettings(max_length=6, stride=2))
    assert encoded.lengths.tolist() == [len(row) for row in encoded.table["input_ids"]]
    assert encoded.overlap.tolist() == [0, 2, 0, 2] and encoded.groups.tolist() == list(range(len(encoded)))


def test_what_cannot_be_encoded_is_refused():
    spec = TaskSpec("t", (TAGS,))
    with pytest.raises(CorpusError, match="annotations without their text"):
        encode([replace(sample(), text=None)], spec, TOKENIZER, SETTINGS)
    with pytest.raises(ConfigError, match="t: the split holds no text to encode"):
        encode([], spec, TOKENIZER, SETTINGS)
    both = TaskSpec("t", (TAGS, ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))))
    with pytest.raises(ConfigError, match="make them two tasks"):
        encode([sample()], both, TOKENIZER, SETTINGS)
