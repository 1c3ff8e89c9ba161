"""Every head, on a tiny random Llama, learns a handful of samples by heart and is scored officially."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from kaggle_kit.batches.batch import make_batch
from kaggle_kit.batches.encode import encode
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, TaskSpec, UnifiedSample
from kaggle_kit.data import practice
from kaggle_kit.data.corpus import load_corpus, task_spec
from kaggle_kit.data.formats import write
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.data.registry import task as known_task
from kaggle_kit.evaluation.metrics import score
from kaggle_kit.evaluation.predict import Predictor, by_length
from kaggle_kit.heads import build_head
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.tiny import random_model, train_tokenizer

BUDGET = 1024  # tokens per micro-batch


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))


class TinyModel(nn.Module):
    """A random two-layer Llama that looks both ways, with the task's heads; all of it is trained."""

    def __init__(self, vocabulary: int, spec: TaskSpec) -> None:
        super().__init__()
        self.backbone = random_model("llama", vocabulary, seed=0).model
        self.backbone.layers = self.backbone.layers[:2]
        self.backbone.config.num_hidden_layers = 2
        self.backbone.set_attn_implementation(PACKED)
        width = self.backbone.config.hidden_size
        torch.manual_seed(0)
        heads = {part.name: build_head(part, width, decoder=False) for part in spec.components}
        self.heads = nn.ModuleDict({spec.name: nn.ModuleDict(heads)})

    def forward(self, batch):
        return self.logits(batch, self.states(batch))

    def states(self, batch):
        layout = PackedLayout.of(batch.lengths, causal=False)
        inputs = {"input_ids": batch.input_ids[None], "position_ids": layout.position_ids[None]}
        return {1: self.backbone(**inputs, packed=layout, use_cache=False).last_hidden_state[0]}

    def logits(self, batch, states):
        heads = self.heads[batch.task].items()
        return {name: head(states[1], batch.targets[name]) for name, head in heads}


def learn(samples: Sequence[UnifiedSample], spec: TaskSpec, passes: int = 60) -> list[UnifiedSample]:
    """Train on the samples, as the trainer does it, and predict them.

    The learning rate rises and falls like the trainer's. At a constant 2e-3 single steps throw what was
    learnt away again (gradient norms of 20 after norms of 0.01), and rounding decides whether one of
    them comes last.
    """
    tokenizer = train_tokenizer([sample.text for sample in samples])
    encoded = encode(samples, spec, tokenizer, PassageSettings(max_length=96, stride=16))
    model = TinyModel(len(tokenizer), spec).train()
    batches = [make_batch(encoded, planned) for planned in by_length(encoded, BUDGET)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    steps = passes * len(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    heads = model.heads[spec.name]
    for _ in range(passes):
        for batch in batches:
            outputs = model(batch)
            losses = {name: heads[name].loss(out, batch.targets[name]) for name, out in outputs.items()}
            sum(loss / max(1, batch.counts[name]) for name, loss in losses.items()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return Predictor(model, BUDGET, "cpu").predict(encoded, samples)


def practised(name: str, documents: int):
    """(task, spec, the first training documents) of a practice corpus."""
    task = known_task(name)
    roots = practice.cached(PracticeConfig(documents=documents, terms=10), tasks=[name])
    corpus = load_corpus(task, roots[name], splits=("train",), practice=True)
    return task, task_spec(task, corpus), corpus.splits["train"][:documents]


def official(task, gold, predicted, folder: Path) -> dict[str, float]:
    for name, samples in (("gold", gold), ("pred", predicted)):
        write(task.format, samples, folder / name)
    return score(task.scorer, folder / "gold", folder / "pred")


def planted(text: str, *mentions: str) -> UnifiedSample:
    """A sample whose mentions are given by their pieces, `left|dilated`, each found from the left."""
    found = []
    for number, pieces in enumerate(mentions, start=1):
        fragments, place = [], 0
        for piece in pieces.split("|"):
            start = text.index(piece, place)
            place = start + len(piece)
            fragments.append((start, place))
        found.append(Mention(f"T{number}", tuple(fragments), "Disease_Disorder"))
    return UnifiedSample(text[:5], text, "train", Access.PUBLIC, mentions=tuple(found))


def test_the_span_head_gives_back_planted_discontiguous_nested_and_overlapping_mentions():
    samples = [
        planted("the left atrium is mildly dilated today", "left atrium|dilated"),
        planted("left and right atrial dilatation", "left|atrial dilatation", "right atrial dilatation"),
        planted("no pain and no fever but chest pain", "pain", "fever", "chest pain"),
        planted("valve torn , thick and calcified", "valve|torn", "valve|thick", "valve|calcified"),
        planted("tumor of the liver , grown", "tumor|liver", "tumor|grown", "tumor"),
        planted("mass in the lung , spiculated", "mass|lung|spiculated"),
        planted("nothing of note in this one"),
    ]
    component = ComponentSpec("ner", Kind.SPANS, 1, ("Disease_Disorder",), max_span_length=4)
    predicted = learn(samples, TaskSpec("planted", (component,)))
    for sample, guess in zip(samples, predicted, strict=True):
        wanted = {mention.fragments for mention in sample.mentions}
        assert {mention.fragments for mention in guess.mentions} == wanted, sample.text


def test_the_span_head_learns_the_practice_notes_of_2015_by_heart():
    _, spec, samples = practised("semeval2015t14", documents=3)
    assert any(mention.discontiguous for sample in samples for mention in sample.mentions)
    predicted = learn(samples, spec)
    wanted = {(s.document_id, m.fragments) for s in samples for m in s.mentions}
    found = {(s.document_id, m.fragments) for s in predicted for m in s.mentions}
    assert len(wanted & found) >= 0.95 * len(wanted | found)


def test_the_relation_head_learns_brat_relations_between_its_own_mentions_by_heart(tmp_path):
    task, spec, samples = practised("semeval2021t6", documents=3)
    # tags cannot say the nested and discontiguous mentions that some relations hold between
    spans = replace(spec.components[0], kind=Kind.SPANS)
    predicted = learn(samples, replace(spec, components=(spans, spec.components[1])))
    figures = official(task, samples, predicted, tmp_path)
    assert figures["entity_f1"] >= 0.9
    assert figures["relation_f1"] >= 0.9


def test_relations_of_2016_stand_on_the_predicted_mentions(tmp_path):
    task, spec, samples = practised("semeval2016t12", documents=3)
    predicted = learn(samples, spec)
    figures = official(task, samples, predicted, tmp_path)
    # tags lose the discontiguous events and nothing else: every found event has its right DocTimeRel
    assert figures["timex3_span_f1"] == 1.0
    assert figures["event_doctimerel_stated_f1"] >= 0.9 * figures["event_span_f1"] > 0.7
    assert figures["contains_closure_f1"] > 0.7
    for sample in predicted:
        ids = {mention.id for mention in sample.mentions}
        assert {end for relation in sample.relations for end in (relation.source, relation.target)} <= ids


def test_contains_and_doctimerel_of_2016_are_learnt_by_heart_between_given_entities(tmp_path):
    task, spec, samples = practised("semeval2016t12", documents=3)
    predicted = learn(samples, replace(spec, gold_entities=True))
    figures = official(task, samples, predicted, tmp_path)
    assert figures["event_span_f1"] == 1.0
    assert figures["contains_closure_f1"] >= 0.9
    assert figures["event_doctimerel_stated_f1"] >= 0.9
