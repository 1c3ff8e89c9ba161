"""What CONTRIBUTING says of additions: each is the files that it names, and nothing else."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from kaggle_kit import Experiment
from kaggle_kit.core.types import Kind
from kaggle_kit.heads import KINDS
from kaggle_kit.heads import tokens as shipped_head
from kaggle_kit.models.tiny import train_tokenizer

TASK = """
name: mine
title: symptoms in my own notes
format: brat
access: public
licence: mine
components:
  - {name: ner, kind: token_classification, level: 1, labels: [Symptom]}
layout: {train: ["train/*.ann"], dev: ["dev/*.ann"], test: ["test/*.ann"]}
scorer: brat
primary_metric: entity_f1
obtain: They lie on my own disk.
"""
STRATEGY = """
name: gated
title: shared and private adapters behind a gate
kind: shared_private
rank: 4
private_rank: 2
fusion: gated
pcgrad: true
"""
MODEL = """
name: small
title: a BERT of two layers
path: FOLDER
family: encoder
architecture: bert
parameters: 100000
max_positions: 128
lora: {rank: 4, alpha: 8, dropout: 0.0, targets: [query, value]}
"""
HEAD = '''
from kaggle_kit.heads.tokens import *
from kaggle_kit.heads.tokens import TokenClassificationHead


class MyHead(TokenClassificationHead):
    """The shipped head; its loss counts double."""

    def loss(self, logits, targets):
        return 2 * super().loss(logits, targets)


HEAD = MyHead
'''
QUICK = ("training.epochs=30", "training.learning_rate=1e-2", "training.quick_every=100", "training.warmup=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of own params, two corpora of twelve notes, and the weights of a BERT with two layers."""
    place = tmp_path_factory.mktemp("own")
    theirs = TASK.replace("mine", "theirs")
    files = {("task", "mine"): TASK, ("task", "theirs"): theirs}
    files |= {("strategy", "gated"): STRATEGY, ("model", "small"): MODEL}
    for (group, name), text in files.items():
        (place / "params" / group).mkdir(parents=True, exist_ok=True)
        (place / "params" / group / f"{name}.yaml").write_text(text.replace("FOLDER", str(place / "bert")))
    notes = ["No fever today.", "She has a cough.", "A fever and a cough.", "He is well."]
    for task, split in product(("MINE", "THEIRS"), ("train", "dev", "test")):
        for number, text in enumerate(notes):
            put_note(place / task / split / f"{task}{split}{number}", f"{text} {task} {split}.")
    config = BertConfig(
        vocab_size=2048, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(place / "bert")
    train_tokenizer(notes).save_pretrained(place / "bert")
    return place


def put_note(stem: Path, text: str) -> None:
    """A note with its symptoms in BRAT's format."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".txt").write_text(text)
    words = [(text.find(word), word) for word in ("fever", "cough") if word in text]
    lines = [f"T{n}\tSymptom {at} {at + len(word)}\t{word}\n" for n, (at, word) in enumerate(words, 1)]
    stem.with_suffix(".ann").write_text("".join(lines))


@pytest.fixture
def own(place, tmp_path, monkeypatch):
    """Opens an experiment on the own corpus and model."""
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(place / "params"))
    for name in ("MINE", "THEIRS"):
        monkeypatch.setenv(f"KAGGLE_KIT_{name}", str(place / name))
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))

    def opened(strategy: str = "s1_single", task: str = "mine") -> Experiment:
        settings = {"model": "small", "profile": "open", "overrides": QUICK, "runs_dir": tmp_path / "runs"}
        return Experiment.open("s1_single_task", task=task, strategy=strategy, **settings)

    return opened


def test_a_corpus_and_a_model_are_one_file_each(own):
    exp = own()
    assert [len(exp.samples(split)["mine"]) for split in ("train", "dev")] == [4, 4]
    assert exp.specs["mine"].components[0].labels == ("Symptom",)
    assert exp.train().finished and exp.session.tokens["mine"] > 0
    assert {metric.name for metric in exp.evaluate()} >= {"entity_f1"}
    assert exp.finish().is_file()


def test_a_strategy_is_one_file(own):
    exp = own("gated", "mine,theirs")
    names = {name for name, parameter in exp.model.named_parameters() if parameter.requires_grad}
    assert any("gate" in name for name in names) and exp.config.strategy.rank == 4


def test_a_kind_of_head_is_one_file_and_its_entry(own, tmp_path, monkeypatch):
    (tmp_path / "my_head.py").write_text(HEAD)
    spec = importlib.util.spec_from_file_location("my_head", tmp_path / "my_head.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(KINDS, Kind.TOKENS, module)
    exp = own()
    (batch,) = exp.step().micro_batches[:1]
    head, targets = exp.model.heads["mine"]["ner"], batch.targets["ner"]
    logits = exp.model(batch)["ner"]
    shipped = shipped_head.HEAD.loss(head, logits, targets)
    assert shipped.item() > 0 and head.loss(logits, targets).item() == 2 * shipped.item()
