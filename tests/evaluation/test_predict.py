"""Prediction: planted outputs come back as the very annotations they were planted from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from kaggle_kit.batches.encode import encode
from kaggle_kit.core.errors import KitError
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
from kaggle_kit.evaluation.predict import Predictor, by_length
from kaggle_kit.heads import build_head
from kaggle_kit.heads.relations import mention_types
from kaggle_kit.heads.spans import SpanScores, _pairs
from kaggle_kit.models.tiny import train_tokenizer

TEXT = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
WORDS = TEXT.split()
TOKENIZER = train_tokenizer([TEXT])
STARTS = [TEXT.index(f" {word}") + 1 if place else 0 for place, word in enumerate(WORDS)]

TAGS = ComponentSpec("ner", Kind.TOKENS, 1, ("Drug", "Disease"))
SPANS = replace(TAGS, kind=Kind.SPANS, max_span_length=3)
LINKS = ComponentSpec(
    "links", Kind.RELATIONS, 2, ("CAUSES", "TREATS"), candidates=(("Disease", "Disease"), ("Drug", "Disease"))
)
WHEN = ComponentSpec(
    "when", Kind.RELATIONS, 2, ("BEFORE", "AFTER"), attribute="DocTimeRel", candidates=(("Drug",),)
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))


class Oracle(nn.Module):
    """Outputs that say what the targets say; relations by the types of the mentions they are given."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self.spec, self.reads = spec, 0
        heads = {part.name: build_head(part, 4, decoder=False) for part in spec.components}
        self.heads = nn.ModuleDict({spec.name: nn.ModuleDict(heads)})

    def states(self, batch):
        self.reads += 1
        return {1: torch.zeros(batch.tokens, 4)}

    def logits(self, batch, states):
        assert len(states[1]) == batch.tokens
        say = {
            Kind.TOKENS: self.tags,
            Kind.SPANS: self.spans,
            Kind.RELATIONS: self.relations,
            Kind.RANKING: self.rank,
        }
        return {part.name: say[part.kind](part, batch.targets[part.name]) for part in self.spec.components}

    def tags(self, part, targets):
        return 10 * torch.eye(1 + 2 * len(part.labels))[targets["labels"]]

    def spans(self, part, targets):
        labels = targets["labels"].clamp_min(0)
        kept = (labels > 0).flatten().nonzero().squeeze(1)
        pairs = _pairs(targets["passage"][kept // part.max_span_length])
        gold = {tuple(pair) for pair in targets["links"].tolist()}
        links = [10.0 if tuple(pair) in gold else -10.0 for pair in kept[pairs].tolist()]
        return SpanScores(10 * torch.eye(1 + len(part.labels))[labels], kept, pairs, torch.tensor(links))

    def relations(self, part, targets):
        """A Drug CAUSES or is AFTER (label 1 or 2), everything else is no relation."""
        drug = targets["types"] == mention_types(part).index("Drug")
        label = torch.where(drug[targets["source"]], len(part.labels), 0)
        return 10 * torch.eye(1 + len(part.labels))[label]

    def rank(self, part, targets):
        return torch.where(targets["labels"] == 1, 2.0, -1.0)


def mention(number: int, label: str, *pieces: tuple[int, int]) -> Mention:
    """Pieces are [first, stop) words."""
    fragments = tuple((STARTS[first], STARTS[stop - 1] + len(WORDS[stop - 1])) for first, stop in pieces)
    return Mention(f"T{number}", fragments, label)


def note(*mentions: Mention, **annotations) -> UnifiedSample:
    return UnifiedSample("doc", TEXT, "dev", Access.PUBLIC, mentions, **annotations)


def predicted(samples, *components, window: PassageSettings, budget: int = 64, gold_entities: bool = False):
    spec = TaskSpec("t", components, gold_entities=gold_entities)
    encoded = encode(samples, spec, TOKENIZER, window)
    return Predictor(Oracle(spec), budget, "cpu").predict(encoded, samples)


def facts(sample: UnifiedSample) -> list[tuple]:
    return sorted((mention.fragments, mention.type) for mention in sample.mentions)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, len(WORDS)), min_size=2, max_size=12, unique=True).map(sorted),
    window=st.sampled_from([(9, 3), (12, 6), (16, 2), (128, 8)]),
    budget=st.sampled_from([1, 40]),
    last=st.booleans(),
)
def test_tagged_mentions_at_window_edges_are_neither_lost_nor_doubled(cuts, window, budget, last):
    chunks = zip(cuts[::2], cuts[1::2], strict=False)
    gold = note(*(mention(n, TAGS.labels[n % 2], chunk) for n, chunk in enumerate(chunks, 1)))
    (found,) = predicted([gold], TAGS, window=PassageSettings(*window, last_subword=last), budget=budget)
    assert facts(found) == facts(gold)
    assert [m.id for m in found.mentions] == [f"T{n}" for n in range(1, len(gold.mentions) + 1)]
    assert all(0.99 < m.score <= 1.0 for m in found.mentions)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.sets(st.integers(0, len(WORDS) - 1), max_size=6),
    length=st.integers(1, 3),
    window=st.sampled_from([(9, 6), (12, 8), (16, 6), (128, 8)]),
)
def test_spans_no_longer_than_the_stride_are_neither_lost_nor_doubled_at_window_edges(starts, length, window):
    chunks = [(first, min(first + length, len(WORDS))) for first in sorted(starts)]
    gold = note(*(mention(n, "Drug", chunk) for n, chunk in enumerate(chunks, 1)))
    (found,) = predicted([gold], SPANS, window=PassageSettings(*window))
    assert facts(found) == facts(gold)


def test_a_discontiguous_mention_that_reaches_beyond_its_window_is_found_in_the_next():
    tokens = [len(ids) for ids in TOKENIZER(WORDS, add_special_tokens=False)["input_ids"]]
    for first in range(len(WORDS) - 3):
        gold = note(mention(1, "Disease", (first, first + 1), (first + 2, first + 3)))
        window = PassageSettings(9, max(sum(tokens[first : first + 3]), 6))
        (found,) = predicted([gold], SPANS, window=window)
        assert facts(found) == facts(gold), first


def test_discontiguous_and_overlapping_mentions_come_back_whole():
    gold = note(
        mention(1, "Disease", (0, 1), (3, 5)),
        mention(2, "Disease", (1, 2), (3, 5)),
        mention(3, "Disease", (3, 5)),
        mention(4, "Drug", (7, 10)),
        mention(5, "Drug", (8, 9)),
    )
    (found,) = predicted([gold], SPANS, window=PassageSettings(128, 8))
    assert facts(found) == facts(gold)


def test_relations_hold_between_the_predicted_mentions_and_carry_their_ids():
    gold = note(
        mention(1, "Drug", (0, 1)),
        mention(2, "Disease", (2, 4)),
        mention(3, "Disease", (5, 6)),
        relations=(Relation("R9", "CAUSES", "T2", "T3"),),
    )
    (found,) = predicted([gold], TAGS, LINKS, WHEN, window=PassageSettings(128, 8))
    assert facts(found) == facts(gold)
    assert [(r.id, r.type, r.source, r.target) for r in found.relations] == [
        ("R1", "TREATS", "T1", "T2"),
        ("R2", "TREATS", "T1", "T3"),
    ]
    assert [dict(m.attributes) for m in found.mentions] == [{"DocTimeRel": "AFTER"}, {}, {}]


@pytest.mark.parametrize(("kept", "reads"), [(1 << 20, 1), (0, 2)])
def test_every_row_is_read_once_for_both_passes_where_its_states_find_room(monkeypatch, kept, reads):
    monkeypatch.setattr("kaggle_kit.evaluation.predict.KEPT", kept)
    gold = note(mention(1, "Disease", (2, 3)), mention(2, "Drug", (4, 5)))
    spec = TaskSpec("t", (TAGS, LINKS))
    encoded = encode([gold] * 3, spec, TOKENIZER, PassageSettings(9, 3))
    model = Oracle(spec)
    predictor = Predictor(model, 20, "cpu")
    found = predictor.predict(encoded, [gold] * 3)
    batches = len(list(by_length(encoded, 20)))
    assert model.reads == reads * batches > reads
    assert found == Predictor(Oracle(spec), 64, "cpu").predict(encoded, [gold] * 3) and found[0].relations
    predictor.fit_thresholds(encoded, [gold] * 3)
    assert model.reads == 2 * reads * batches


def test_a_relation_named_by_an_attribute_is_written_as_its_corpus_has_it():
    nested = replace(LINKS, relation_type="TLINK", relation_attribute="Type")
    gold = note(mention(1, "Drug", (0, 1)), mention(2, "Disease", (2, 4)))
    (found,) = predicted([gold], TAGS, nested, window=PassageSettings(128, 8))
    assert [(r.type, dict(r.attributes)) for r in found.relations] == [("TLINK", {"Type": "TREATS"})]


def test_nothing_of_the_gold_standard_is_found_in_a_prediction_by_a_silent_model():
    class Silent(Oracle):
        def tags(self, part, targets):
            return super().tags(part, {"labels": torch.zeros_like(targets["labels"])})

    gold = note(
        mention(1, "Drug", (0, 1)),
        mention(2, "Disease", (2, 3)),
        relations=(Relation("r", "TREATS", "T1", "T2"),),
    )
    spec = TaskSpec("t", (TAGS, LINKS, WHEN))
    encoded = encode([gold], spec, TOKENIZER, PassageSettings(128, 8))
    (found,) = Predictor(Silent(spec), 64, "cpu").predict(encoded, [gold])
    assert found == replace(gold, mentions=(), relations=())


class Hesitant(Oracle):
    """A Drug's pair is related at P(none) = .6: no, where a half is asked for."""

    def relations(self, part, targets):
        none = torch.where(super().relations(part, targets)[:, :1] > 0, 0.95, 0.6)
        return torch.cat([none, (1 - none) * 0.3, (1 - none) * 0.7], dim=1).log()


def test_thresholds_fitted_on_dev_decide_it_crosswise_and_stay_with_the_heads():
    spec = TaskSpec("t", (TAGS, LINKS, WHEN))
    link, now = Relation("R1", "TREATS", "T1", "T2"), {"DocTimeRel": "AFTER"}
    whole = note(mention(1, "Drug", (0, 1)), mention(2, "Disease", (3, 4)), relations=(link,))
    whole = replace(whole, mentions=(replace(whole.mentions[0], attributes=now), whole.mentions[1]))
    dev = [replace(whole, document_id=str(number)) for number in range(8)]
    model, encoded = Hesitant(spec), encode(dev, spec, TOKENIZER, PassageSettings(128, 8))
    predictor = Predictor(model, 64, "cpu")
    assert not any(found.relations for found in predictor.predict(encoded, dev))
    chosen = predictor.fit_thresholds(encoded, dev)
    assert set(chosen) == {"links", "when"}
    assert all(0.6 < threshold <= 0.95 for thresholds in chosen.values() for threshold in thresholds)
    for found in predictor.predict(encoded, dev):
        assert [(r.type, r.source, r.target) for r in found.relations] == [("TREATS", "T1", "T2")]
        assert [m.attributes.get("DocTimeRel") for m in found.mentions] == ["AFTER", None]
    again = Hesitant(spec)
    again.load_state_dict(model.state_dict())
    assert Predictor(again, 64, "cpu").predict(encoded, dev) == predictor.predict(encoded, dev)
    assert predictor.fit_thresholds(replace(encoded, spec=TaskSpec("t", (TAGS,))), dev) == {}


@pytest.mark.parametrize("components", [(TAGS, LINKS), (LINKS,)])
def test_given_entities_keep_id_and_type_and_nothing_that_is_to_be_predicted(components):
    gold = note(
        replace(
            mention(1, "Drug", (0, 1)),
            id="7@e@doc@gold",
            concepts=("C1",),
            attributes={"DocTimeRel": "BEFORE"},
        ),
        mention(2, "Disease", (2, 3)),
    )
    (found,) = predicted(
        [gold], *components, window=PassageSettings(128, 8), gold_entities=len(components) > 1
    )
    assert [(m.id, m.type, m.concepts, dict(m.attributes)) for m in found.mentions] == [
        ("7@e@doc@gold", "Drug", (), {}),
        ("T2", "Disease", (), {}),
    ]
    assert [(r.source, r.target) for r in found.relations] == [("7@e@doc@gold", "T2")]


def test_given_entities_keep_the_concepts_that_relations_hold_between():
    gold = note(replace(mention(1, "Drug", (0, 1)), concepts=("C1",)), mention(2, "Disease", (2, 3)))
    links = replace(LINKS, concepts=True)
    (found,) = predicted([gold], links, window=PassageSettings(128, 8))
    assert [m.concepts for m in found.mentions] == [("C1",), ()]


def test_candidates_are_scored_and_labelled_from_one_half_on():
    pairs = tuple(
        RankedPair("q", f"c{n}", WORDS[n], n, "Good" if n % 2 else "Bad", bool(n % 2)) for n in (1, 2, 3)
    )
    samples = [UnifiedSample("q", TEXT, "dev", Access.PUBLIC, pairs=pairs)]
    rank = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))
    (found,) = predicted(samples, rank, window=PassageSettings(64, 8))
    assert [pair.candidate_id for pair in found.pairs] == ["c1", "c2", "c3"]
    assert [pair.relevant for pair in found.pairs] == [True, False, True]
    assert [pair.score for pair in found.pairs] == pytest.approx([0.8808, 0.2689, 0.8808], abs=1e-4)
    assert all(pair.label is None for pair in found.pairs)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", [TAGS, SPANS])
def test_scores_that_are_not_finite_are_refused_and_not_read_as_nothing(part, value):
    class Broken(Oracle):
        def logits(self, batch, states):
            outputs = super().logits(batch, states)
            for output in outputs.values():
                (output if isinstance(output, torch.Tensor) else output.logits).view(-1)[-1] = value
            return outputs

    samples, spec = [note(mention(1, "Drug", (2, 3)))], TaskSpec("t", (part,))
    encoded = encode(samples, spec, TOKENIZER, PassageSettings(128, 8))
    with pytest.raises(KitError, match="ner of t"):
        Predictor(Broken(spec), 64, "cpu").predict(encoded, samples)


def test_the_windows_of_these_tests_do_cut_the_text():
    for window in ((9, 3), (9, 6), (12, 8), (16, 2)):
        assert len(encode([note()], TaskSpec("t", (TAGS,)), TOKENIZER, PassageSettings(*window))) > 1


def test_the_candidates_of_a_question_are_read_together():
    pairs = [
        tuple(RankedPair(f"q{n}", f"c{n}{m}", "word " * m * n, m, None, True) for m in (1, 3)) for n in (1, 2)
    ]
    samples = [UnifiedSample("q", TEXT, "dev", Access.PUBLIC, pairs=candidates) for candidates in pairs]
    rank = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))
    encoded = encode(samples, TaskSpec("t", (rank,)), TOKENIZER, PassageSettings(128, 8))
    budget = int(encoded.lengths[2:].sum())
    assert [planned.rows for planned in by_length(encoded, budget)] == [(3, 2), (1, 0)]


def test_rows_are_read_longest_first_within_the_budget_and_outputs_stand_in_file_order():
    samples = [replace(note(), text=" ".join(WORDS[: 3 * n])) for n in (1, 6, 3)]
    spec = TaskSpec("t", (TAGS,))
    encoded = encode(samples, spec, TOKENIZER, PassageSettings(128, 8))
    order = [row for planned in by_length(encoded, 30) for row in planned.rows]
    assert order == [1, 2, 0]
    assert all(planned.tokens <= 30 or len(planned.rows) == 1 for planned in by_length(encoded, 30))
    outputs = Predictor(Oracle(spec), 30, "cpu").outputs(encoded)
    assert [len(row) for row in outputs["ner"]] == [3, 18, 9]
