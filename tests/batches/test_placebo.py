"""Placebo labels: planted truth is gone, while texts, candidates and the labels' marginals stay."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kaggle_kit.batches.batch import make_batch
from kaggle_kit.batches.encode import encode
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.placebo import Room, placebo
from kaggle_kit.batches.plan import PlannedBatch
from kaggle_kit.core.errors import ConfigError
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
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.models.tiny import train_tokenizer

FILLER = ("the", "patient", "came", "with", "and", "again", "today", "was", "seen", "for", "some", "time")
DISEASES, DRUGS = ("gout", "asthma", "migraine"), ("aspirin", "insulin", "codeine")
TYPES = {**dict.fromkeys(DISEASES, "Disease"), **dict.fromkeys(DRUGS, "Drug")}
TOKENIZER = train_tokenizer([" ".join((*FILLER, *DISEASES, *DRUGS, "good", "bad"))] * 3)
NER = ComponentSpec("ner", Kind.TOKENS, 1, ("Disease", "Drug"))
NER_BIOES = replace(NER, scheme="BIOES")
SPANS = ComponentSpec("ner", Kind.SPANS, 1, ("Disease", "Drug"), max_span_length=3)
TREATS = ComponentSpec("treats", Kind.RELATIONS, 2, ("treats",), candidates=(("Drug", "Disease"),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))


def note(number: int, rng: np.random.Generator) -> UnifiedSample:
    """Sentences in which every term is a mention, two words long ("severe gout"), and aspirin treats all."""
    text, mentions, relations = "", [], []
    for _ in range(8):
        here = []
        for word in rng.choice([*FILLER, *FILLER, *DISEASES, *DRUGS], 14):
            if word in TYPES:
                start = len(text)
                text += f"severe {word} "
                here.append(Mention(f"T{len(mentions)}", ((start, len(text) - 1),), TYPES[word]))
                mentions.append(here[-1])
            else:
                text += f"{word} "
        drugs = [one for one in here if "aspirin" in one.text(text)]
        ill = [one for one in here if one.type == "Disease"]
        relations += [
            Relation(f"R{len(relations)}.{n}", "treats", drug.id, other.id)
            for n, (drug, other) in enumerate((d, o) for d in drugs for o in ill)
        ]
        text = text.rstrip() + ".\n"
    return UnifiedSample(f"n{number}", text, "train", Access.PUBLIC, tuple(mentions), tuple(relations))


def notes(*parts: ComponentSpec) -> EncodedTask:
    rng = np.random.default_rng(0)
    samples = [note(number, rng) for number in range(60)]
    return encode(samples, TaskSpec("t", parts), TOKENIZER, PassageSettings(128, 8))


def words_and_tags(encoded: EncodedTask) -> list[tuple[str, int]]:
    """(last token's text, tag) of every word."""
    rows = encoded.rows(range(len(encoded)))
    ids = [
        np.asarray(row)[np.asarray(places)]
        for row, places in zip(rows["input_ids"], rows["word_tokens"], strict=True)
    ]
    texts = TOKENIZER.convert_ids_to_tokens(np.concatenate(ids).tolist())
    return list(
        zip(texts, np.concatenate([np.asarray(tags) for tags in rows["tags:ner"]]).tolist(), strict=True)
    )


def share_tagged(encoded: EncodedTask, terms: set[str]) -> float:
    found = [tag > 0 for word, tag in words_and_tags(encoded) if word in terms]
    return sum(found) / len(found)


@pytest.mark.parametrize("part", [NER, NER_BIOES], ids=["BIO", "BIOES"])
def test_no_word_is_tagged_more_often_than_another_and_every_tag_comes_as_often(part):
    real = notes(part)
    fake = placebo(real, np.random.default_rng(1))
    words = {word for word, tag in words_and_tags(real) if tag}  # the terms, as their tokens
    assert share_tagged(real, words) > 0.9
    before, after = ([tag for _, tag in words_and_tags(encoded)] for encoded in (real, fake))
    assert Counter(before) == Counter(after)
    rate = np.mean(np.array(after) > 0)
    among = sum(word in words for word, _ in words_and_tags(fake))
    assert share_tagged(fake, words) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / among) + 0.02)
    assert [word for word, _ in words_and_tags(real)] == [word for word, _ in words_and_tags(fake)]


@pytest.mark.parametrize("part", [NER, SPANS], ids=["tags", "spans"])
def test_in_overlapping_windows_the_labels_that_count_come_as_often_too(part):
    rng = np.random.default_rng(6)
    samples = [note(number, rng) for number in range(20)]
    narrow = PassageSettings(48, 16, segments="windows")
    real = encode(samples, TaskSpec("t", (part,)), TOKENIZER, narrow)
    fake = placebo(real, np.random.default_rng(7))
    assert real.overlap.any()
    every = PlannedBatch("t", tuple(range(len(real))), int(real.lengths.sum()))
    labels = [make_batch(encoded, every).targets["ner"]["labels"].flatten() for encoded in (real, fake)]
    before, after = (Counter(of[of > 0].tolist()) for of in labels)
    assert before == after and sum(before.values()) > 100


def test_mentions_in_pieces_keep_their_shape_and_lose_their_place():
    samples = []
    for number in range(40):
        text = "pain of the left arm and again gout was seen today with the patient for some time."
        pieces = ((0, 4), (12, 20))  # "pain … left arm"
        gout = text.index("gout")
        mentions = (Mention("a", pieces, "Disease"), Mention("b", ((gout, gout + 4),), "Drug"))
        samples.append(UnifiedSample(f"n{number}", text, "train", Access.PUBLIC, mentions))
    real = encode(samples, TaskSpec("t", (SPANS,)), TOKENIZER, PassageSettings(128, 8))
    fake = placebo(real, np.random.default_rng(2))
    before, after = (encoded.rows(range(40)) for encoded in (real, fake))
    counts = [Counter(), Counter()]
    for of, rows in zip(counts, (before, after), strict=True):
        for row, links in zip(rows["fragments:ner"], rows["links:ner"], strict=True):
            of.update((int(label), int(span) % 3) for span, label in np.asarray(row).reshape(-1, 2))
            of.update(("gap", int(b) - int(a)) for a, b in np.asarray(links).reshape(-1, 2))
    assert counts[0] == counts[1]
    firsts = Counter(int(row[0]) // 3 for row in after["fragments:ner"] if len(row))
    assert len(firsts) > 5 and firsts[0] < 40  # every real one begins with the first word
    batch = make_batch(fake, PlannedBatch("t", tuple(range(40)), int(fake.lengths.sum())))
    assert Counter(batch.targets["ner"]["labels"].flatten().tolist()).keys() == {-1, 0, 1, 2}


def test_relation_labels_are_permuted_over_candidates_and_follow_from_no_mention():
    real = notes(NER, TREATS)
    fake = placebo(real, np.random.default_rng(3))
    tables = [
        np.concatenate([np.asarray(row).reshape(-1, 4) for row in e.rows(range(len(e)))["candidates:treats"]])
        for e in (real, fake)
    ]
    assert np.array_equal(tables[0][:, :3], tables[1][:, :3])  # the same candidates
    assert Counter(tables[0][:, 3].tolist()) == Counter(tables[1][:, 3].tolist())
    rate, number = tables[0][:, 3].mean(), len(tables[0])
    agree = (tables[0][:, 3] == tables[1][:, 3]).mean()
    assert agree == pytest.approx(rate**2 + (1 - rate) ** 2, abs=5 / np.sqrt(number))


def test_relevance_is_permuted_over_all_candidates_whose_label_is_known():
    rng = np.random.default_rng(4)
    samples = []
    for number in range(150):
        relevant = [bool(flag) for flag in rng.integers(0, 2, 10)]
        pairs = tuple(
            RankedPair("q", f"c{n}", "good" if flag else "bad", n, relevant=None if n == 9 else flag)
            for n, flag in enumerate(relevant)
        )
        samples.append(UnifiedSample(f"q{number}", "what was seen", "train", Access.PUBLIC, pairs=pairs))
    part = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))
    real = encode(samples, TaskSpec("t", (part,)), TOKENIZER, PassageSettings(64, 8))
    fake = placebo(real, np.random.default_rng(5))
    before, after = (np.asarray(e.rows(range(len(e)))["relevant:rank"]) for e in (real, fake))
    assert Counter(before.tolist()) == Counter(after.tolist())
    assert np.array_equal(before < 0, after < 0)
    known = before >= 0
    rate = before[known].mean()
    chance = rate**2 + (1 - rate) ** 2
    assert (before == after)[known].mean() == pytest.approx(chance, abs=5 * 0.5 / np.sqrt(known.sum()))
    assert np.array_equal(real.lengths, fake.lengths) and np.array_equal(real.groups, fake.groups)


def test_a_placebo_depends_on_its_seed_alone():
    real = notes(NER)
    one, again, other = (placebo(real, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert words_and_tags(one) == words_and_tags(again) != words_and_tags(other)


def test_chunks_never_share_a_word_nor_leave_their_passage_or_what_it_answers_for():
    owned = [[True] * 6, [False] * 3 + [True] * 4, [True] * 2]
    for seed in range(50):
        widths = [3, 1, 2, 1]
        taken = set()
        for width, (passage, word) in zip(
            widths, Room(owned).places(widths, np.random.default_rng(seed)), strict=True
        ):
            here = {(passage, word + n) for n in range(width)}
            assert all(word + n < len(owned[passage]) and owned[passage][word + n] for n in range(width))
            assert not here & taken
            taken |= here
        assert len(taken) == 7


def test_a_split_without_room_is_refused():
    with pytest.raises(ConfigError, match="no passage has room for another chunk of 3 words"):
        Room([[True] * 4, [True] * 2]).places([3, 3], np.random.default_rng(0))
