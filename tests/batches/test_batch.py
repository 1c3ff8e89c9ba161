"""Micro-batches: flat rows without padding, targets that point into them, and a cut last sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaggle_kit.batches.batch import PlanDataset, make_batch
from kaggle_kit.batches.encode import encode
from kaggle_kit.batches.plan import PlannedBatch, PlanSettings, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
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

#       0         1         2         3         4
#       0123456789012345678901234567890123456789012345
TEXT = "Pain in the left arm. On Monday valve was torn."
TOKENIZER = train_tokenizer([TEXT] * 3)
COMPONENTS = (
    ComponentSpec("ner", Kind.TOKENS, 1, ("EVENT", "TIMEX3")),
    ComponentSpec("spans", Kind.SPANS, 1, ("EVENT", "TIMEX3"), max_span_length=2),
    ComponentSpec(
        "links", Kind.RELATIONS, 2, ("CONTAINS",), candidates=(("EVENT", "EVENT"), ("TIMEX3", "EVENT"))
    ),
    ComponentSpec(
        "when", Kind.RELATIONS, 2, ("BEFORE", "AFTER"), attribute="DocTimeRel", candidates=(("EVENT",),)
    ),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))


def notes(settings: PassageSettings = PassageSettings(max_length=64, stride=8)):  # noqa: B008
    mentions = (
        Mention("a", ((0, 4),), "EVENT", attributes={"DocTimeRel": "BEFORE"}),
        Mention("b", ((12, 20),), "EVENT", attributes={"DocTimeRel": "BEFORE"}),
        Mention("c", ((25, 31),), "TIMEX3"),
        Mention("d", ((32, 37), (42, 46)), "EVENT", attributes={"DocTimeRel": "AFTER"}),
    )
    relations = (Relation("r", "CONTAINS", "c", "d"),)
    sample = UnifiedSample("doc", TEXT, "train", Access.PUBLIC, mentions, relations)
    return encode([sample], TaskSpec("t", COMPONENTS), TOKENIZER, settings)


def batch_of(encoded, *rows: int, cut: int = 0, half: int | None = None):
    return make_batch(
        encoded, PlannedBatch("t", rows, int(encoded.lengths[list(rows)].sum()) - cut, cut, half)
    )


def words(batch, places) -> list[str]:
    return [TOKENIZER.decode([batch.input_ids[place]]).strip() for place in places]


def test_the_row_is_the_sequences_end_to_end_in_the_given_order():
    encoded = notes()
    batch = batch_of(encoded, 1, 0)
    rows = encoded.table["input_ids"]
    assert batch.input_ids.tolist() == [*rows[1], *rows[0]]
    assert batch.lengths == (len(rows[1]), len(rows[0])) and batch.tokens == sum(batch.lengths)
    assert batch.type_ids.sum() == 0 and batch.half is None


def test_word_targets_point_at_the_words_wherever_the_row_stands():
    for order in ((0, 1), (1, 0)):
        batch = batch_of(notes(), *order)
        target = batch.targets["ner"]
        begun = target["index"][target["labels"] % 2 == 1].tolist()  # B tags
        assert sorted(words(batch, begun)) == ["Monday", "Pain", "left", "torn", "valve"]
        assert batch.counts["ner"] == len(target["labels"]) == 12
        assert target["sizes"].tolist() == [6, 6]


def test_span_labels_stand_on_the_grid_of_words_and_lengths():
    target = batch_of(notes(), 1, 0).targets["spans"]
    labels = target["labels"].tolist()
    assert target["passage"].tolist() == [0] * 6 + [1] * 6
    # On Monday valve was torn . | Pain in the left arm .
    assert [place for place, row in enumerate(labels) if row[0] > 0] == [1, 2, 4, 6]
    assert labels[1] == [2, 0] and labels[9] == [0, 1]
    assert labels[5] == [0, -1] and labels[11] == [0, -1]  # a span may not run into the next passage
    # spans are numbered 2 * word + length - 1
    assert target["links"].tolist() == [[2, 2], [4, 8], [12, 12], [19, 19]]


def test_relation_targets_name_mentions_of_the_micro_batch_and_the_document_last():
    batch = batch_of(notes(), 1, 0)
    pairs, unary = batch.targets["links"], batch.targets["when"]
    assert pairs["types"].tolist() == [1, 0, 0, 0]  # Monday, torn, Pain, arm
    assert list(zip(pairs["source"].tolist(), pairs["target"].tolist(), strict=True)) == [
        (0, 1),
        (2, 3),
        (3, 2),
    ]
    assert pairs["labels"].tolist() == [1, 0, 0]
    assert pairs["distance"].tolist() == [1, 3, -3]
    assert pairs["sizes"].tolist() == [1, 2] and batch.counts["links"] == 3
    assert unary["source"].tolist() == [0, 1, 2] and unary["target"].tolist() == [3, 3, 3]
    assert unary["labels"].tolist() == [2, 1, 1]
    assert pairs["starts"].tolist() == [0, batch.lengths[0]]
    assert pairs["lengths"].tolist() == list(batch.lengths)


def test_a_micro_batch_without_any_mention_has_empty_targets_of_the_right_types():
    spec = TaskSpec("t", COMPONENTS)
    bare = UnifiedSample("doc", "nothing here", "train", Access.PUBLIC)
    encoded = encode([bare], spec, TOKENIZER, PassageSettings(64, 8))
    batch = make_batch(encoded, PlannedBatch("t", (0,), int(encoded.lengths[0])))
    for name in ("links", "when"):
        assert batch.counts[name] == 0
        other = ("weights", "outside")  # numbers, and yes or no
        whole = {key: value for key, value in batch.targets[name].items() if key not in other}
        assert all(value.dtype == torch.int64 for value in whole.values())
        assert batch.targets[name]["weights"].tolist() == [1.0, 1.0]
    assert batch.targets["spans"]["links"].shape == (0, 2)


def test_each_window_counts_the_words_it_owns_and_together_they_count_all():
    encoded = notes(PassageSettings(max_length=6, stride=2))
    batch = batch_of(encoded, *range(len(encoded)))
    assert len(encoded) == 4
    assert batch.counts["ner"] == batch.counts["spans"] == 12
    assert batch.overlap_tokens == 4


@pytest.mark.parametrize("cut", [1, 2, 4, 7])
def test_a_cut_sequence_ends_earlier_and_takes_its_last_words_with_it(cut):
    encoded = notes()
    whole, short = batch_of(encoded, 0, 1), batch_of(encoded, 0, 1, cut=cut)
    assert short.tokens == whole.tokens - cut
    assert short.input_ids.tolist() == whole.input_ids.tolist()[:-cut]
    left = [place for place in whole.targets["ner"]["index"].tolist() if place < short.tokens]
    assert short.targets["ner"]["index"].tolist() == left
    assert short.targets["ner"]["labels"].tolist() == whole.targets["ner"]["labels"].tolist()[: len(left)]
    assert len(short.targets["spans"]["labels"]) == len(left)
    for name in ("links", "when"):
        target = short.targets[name]
        kept = [
            place
            for place in range(whole.counts[name])
            if whole.targets[name]["last"][whole.targets[name]["source"][place]] < short.tokens
            and (
                name == "when"
                or whole.targets[name]["last"][whole.targets[name]["target"][place]] < short.tokens
            )
        ]
        assert target["labels"].tolist() == whole.targets[name]["labels"][kept].tolist()
        assert target["last"].max() < short.tokens


def questions():
    pairs = tuple(
        RankedPair("q", f"c{rank}", f"answer {rank} is longer " * rank, rank, relevant=label)
        for rank, label in enumerate((True, False, None), 1)
    )
    component = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))
    samples = [UnifiedSample(f"q{n}", "what is torn", "train", Access.PUBLIC, pairs=pairs) for n in range(4)]
    return encode(samples, TaskSpec("t", (component,)), TOKENIZER, PassageSettings(64, 8))


def test_ranking_targets_span_each_sequence_and_count_what_is_known():
    encoded = questions()
    batch = batch_of(encoded, 2, 0, 4)
    ends = np.cumsum(encoded.lengths[[2, 0, 4]])
    target = batch.targets["rank"]
    assert target["last"].tolist() == (ends - 1).tolist() and target["first"].tolist() == [0, *ends[:-1]]
    assert target["labels"].tolist() == [-1, 1, 0] and batch.counts == {"rank": 2}
    assert target["group"].tolist() == [0, 0, 1]
    second = encoded.table["second"][0]
    assert batch.type_ids[ends[0] : ends[1]].tolist() == [0] * second + [1] * int(encoded.lengths[0] - second)
    assert batch_of(encoded, 2, 0, cut=3).targets["rank"]["last"].tolist() == (ends[:2] - [1, 4]).tolist()


def test_candidates_tell_that_they_begin_with_the_same_question_and_passages_share_nothing():
    encoded = questions()
    batch = batch_of(encoded, 2, 0, 4)  # the third and first candidate of one question, the second of another
    second = int(encoded.table["second"][0])
    assert [prefix.tokens >= second for prefix in batch.prefixes] == [False, True, False]
    assert batch_of(notes(), 0).prefixes == ()


def test_the_plan_is_a_dataset_of_steps_that_hold_the_planned_tokens():
    encoded = {"t": questions()}
    settings = PlanSettings(epochs=2, effective_batch=5, token_budget=100, null_every=1)
    plan = MultiTaskBatchSampler(
        {"t": TaskRows(encoded["t"].lengths, encoded["t"].groups)}, settings, 0
    ).plan()
    steps = PlanDataset(plan, encoded)
    assert len(steps) == len(plan)
    for number in range(len(steps)):
        step = steps[number]
        assert [b.tokens for b in step.micro_batches] == [b.tokens for b in plan.steps[number].micro_batches]
        assert [b.half for b in step.micro_batches] == [b.half for b in plan.steps[number].micro_batches]
        assert [task for task, _ in step.by_task()] == ["t"]


def test_a_dataset_can_keep_to_itself_what_sequences_share():
    encoded = {"t": questions()}
    rows = {"t": TaskRows(encoded["t"].lengths, encoded["t"].groups)}
    plan = MultiTaskBatchSampler(rows, PlanSettings(epochs=1, effective_batch=3), 0).plan()
    (telling,), (silent,) = (
        PlanDataset(plan, encoded, prefixes=prefixes)[0].micro_batches for prefixes in (True, False)
    )
    assert any(prefix.tokens for prefix in telling.prefixes) and silent.prefixes == ()


def test_moving_a_batch_moves_every_tensor():
    moved = batch_of(notes(), 0, half=1).to("meta")
    assert moved.input_ids.is_meta and moved.type_ids.is_meta and moved.half == 1
    assert all(value.is_meta for target in moved.targets.values() for value in target.values())
