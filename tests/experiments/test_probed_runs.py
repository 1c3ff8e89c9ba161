"""Probes of finished runs: what is asked of which task, which models read it, and what they read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from kaggle_kit.analysis.probe_results import layer_table
from kaggle_kit.core.artifacts import Totals, find_runs
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.evaluation.layer_states import layer_states
from kaggle_kit.evaluation.probing import Items, probe_layers
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.experiment.probed_runs import (
    BASE,
    RANDOM,
    Probed,
    models,
    shared_adapter,
    shared_run,
    single_task_runs,
)
from kaggle_kit.experiment.scoring import predictor
from kaggle_kit.models.random_adapter import randomised, update_size
from tests.experiment.test_rounds import RANKING, small_models  # noqa: F401
from tests.experiments.test_ood import NER, RELATIONS, trained

TIMES = "semeval2016t12"
MANY = ("practice.held_out=14",)  # development documents
PROBES = {f"{NER}, mention boundary", f"{TIMES}, temporal order"} | {
    f"{task}, {name}"
    for task in (RELATIONS, TIMES)
    for name in ("mention boundary", "entity type", "relation presence")
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_models):  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    shared = trained(folder, "s3a_flat", NER, RELATIONS, TIMES, RANKING, more=MANY)
    return SimpleNamespace(folder=folder, shared=shared, single=trained(folder, "s1_single", NER, more=MANY))


@pytest.fixture(scope="module")
def probed(runs) -> Probed:
    exp = load_trained_run(runs.shared)
    generator = torch.Generator().manual_seed(2)
    for adapter in exp.model.lora.ranks:  # as after a long training
        for parameter in exp.model.lora.parameters_of(adapter):
            parameter.data.normal_(std=0.2, generator=generator)
    return Probed.of(exp, "dev", most=300)


def test_every_task_is_asked_what_its_annotations_tell_and_the_rest_has_a_reason(probed):
    assert set(probed.items) == PROBES
    assert probed.left_out[f"{NER}, entity type"].endswith("are Disease_Disorder")
    assert probed.left_out[f"{RANKING}, mention boundary"] == "the task has no such annotations"
    assert len(probed.items) + len(probed.left_out) == 4 * 4
    assert all(40 <= len(items) <= 300 for items in probed.items.values())


def test_items_stand_where_their_annotations_do(probed):
    """Every entity's words, read back by the offsets of its first and last token, are the word type's own."""
    items, encoded = probed.items[f"{RELATIONS}, entity type"], probed.encoded[RELATIONS]
    samples, texts = probed.run.samples("dev")[RELATIONS], {}
    for label, word, ((row, first, last),) in zip(items.labels, items.words, items.places, strict=True):
        columns = encoded.rows([int(row)])
        tokens = columns["word_tokens"][0].tolist()
        start = columns["word_starts"][0][tokens.index(first)]
        end = columns["word_ends"][0][tokens.index(last)]
        sample = samples[int(columns["document"][0])]
        (mention,) = (m for m in sample.mentions if (m.start, m.end) == (start, end))
        assert mention.type == items.classes[label]
        assert texts.setdefault(word, sample.text[start:end].lower()) == sample.text[start:end].lower()


def test_boundaries_are_the_tags_that_the_run_learns_without_their_types(probed):
    """All words of a split are asked where there is room for them."""
    every = Probed.of(probed.run, "dev", most=10**6).items[f"{RELATIONS}, mention boundary"]
    rows = probed.encoded[RELATIONS].rows(range(len(probed.encoded[RELATIONS])))
    names = np.array([name[0] for name in probed.run.model.heads[RELATIONS]["ner"].tags])
    tags = [
        names[tag[np.asarray(own, bool)]] for tag, own in zip(rows["tags:ner"], rows["owned"], strict=True)
    ]
    found = [every.classes[label][0].upper() for label in every.labels]
    assert found == np.concatenate(tags).tolist()
    assert set(every.documents) == {sample.document_id for sample in probed.run.samples("dev")[RELATIONS]}


def test_relation_presence_asks_as_many_related_pairs_as_others_and_reads_both_ends(probed):
    items = probed.items[f"{RELATIONS}, relation presence"]
    assert items.classes == ("not related", "related")
    assert len(set(np.bincount(items.labels))) == 1 and items.places.shape[1:] == (2, 3)
    assert probed.items[f"{TIMES}, temporal order"].places.shape[1:] == (1, 3)
    assert set(probed.items[f"{TIMES}, temporal order"].classes) <= {
        "BEFORE",
        "OVERLAP",
        "BEFORE/OVERLAP",
        "AFTER",
    }


def test_items_hold_no_word_of_the_text(probed):
    """Documents' names and labels are all the strings there are."""
    for items in probed.items.values():
        kinds = {name: value.dtype.kind for name, value in vars(items).items() if name != "classes"}
        assert kinds == {"labels": "i", "words": "i", "documents": "U", "places": "i"}


def test_the_last_layer_is_what_the_heads_would_read_and_the_base_is_the_backbone_without_adapters(probed):
    exp, items = probed.run, probed.items[f"{RELATIONS}, entity type"]
    names = exp.model.adapters_of(RELATIONS)
    read = layer_states(predictor(exp), names, probed.encoded[RELATIONS], items.places)
    base = layer_states(predictor(exp), (), probed.encoded[RELATIONS], items.places)
    row, first, last = items.places[0, 0].tolist()
    ids = torch.from_numpy(np.asarray(probed.encoded[RELATIONS].rows([row])["input_ids"][0])).long()
    fresh = AutoModel.from_pretrained(exp.backbone.source).eval()  # the library's, without anything of ours
    free = torch.zeros(1, 1, len(ids), len(ids))  # every token sees every other: the default of this strategy
    with torch.no_grad():
        told = fresh(input_ids=ids[None], attention_mask=free, output_hidden_states=True)
    alone = told.hidden_states
    assert len(base) == len(alone) == 1 + exp.backbone.backbone.config.num_hidden_layers
    wanted = np.stack([layer[0, first : last + 1].mean(0).numpy() for layer in alone])
    np.testing.assert_allclose(base[:, 0], wanted, atol=2e-5)
    np.testing.assert_array_equal(read[0], base[0])  # embeddings
    assert np.abs(read[-1] - base[-1]).max() > 0.01


def test_the_shared_adapter_the_base_each_single_task_adapter_and_a_random_one_read(runs, probed):
    singles = single_task_runs(runs.shared, runs.folder)
    assert [run.path for run in singles] == [runs.single.path]
    seen = {name: read(f"{NER}, mention boundary") for name, read in models(probed, singles)}
    assert list(seen) == ["shared adapter", BASE, f"s1_single, {NER}", RANDOM]
    assert all((states[0] == seen[BASE][0]).all() for states in seen.values())
    assert len({float(np.abs(states[-1]).sum()) for states in seen.values()}) == 4
    again = dict(models(probed, []))
    assert list(again) == ["shared adapter", BASE, RANDOM]


def test_a_run_that_saved_no_adapter_such_as_a_search_is_passed_over(runs, tmp_path):
    search = start_run(read_config(runs.single.config_yaml), page="hp_search", runs_dir=tmp_path)
    hashes = runs.single.manifest()["data_hashes"]
    search.finish(totals=Totals({NER: 10}, 1, 1.0), device="cpu", data_hashes=hashes)
    assert [run.run_id for run in find_runs(tmp_path)] == [search.run_id]
    assert single_task_runs(runs.shared, tmp_path) == []


def test_an_s1_run_is_probed_by_its_only_adapter_and_beside_no_other(runs):
    exp = load_trained_run(runs.single)
    assert shared_adapter(exp) == "single" and single_task_runs(runs.single, runs.folder) == []
    assert [name for name, _ in models(Probed.of(exp, "dev", 100), [])][0] == "own adapter"


def test_a_random_adapter_has_the_size_of_the_trained_one_and_leaves_it_as_it_was(probed):
    lora = probed.run.model.lora
    weights = [parameter.data for parameter in lora.parameters_of("shared")]
    before = [weight.clone() for weight in weights]
    with randomised(lora, "shared", seed=1):
        drawn = [weight.clone() for weight in weights]
        assert not any(torch.equal(one, other) for one, other in zip(drawn, before, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    with randomised(lora, "shared", seed=1):
        assert all(torch.equal(one, other) for one, other in zip(weights, drawn, strict=True))
    for a, b, c, d in zip(before[::2], before[1::2], drawn[::2], drawn[1::2], strict=True):
        assert float((d @ c).norm()) == pytest.approx(float((b @ a).norm()), rel=1e-4)
        assert float(update_size(c, d)) == pytest.approx(float((d @ c).norm()), rel=1e-4)


def test_what_an_adapter_writes_into_the_states_is_found_by_the_probe(probed):
    """Planted: from layer 1 on the states of items of one class are moved."""
    items = probed.items[f"{RELATIONS}, relation presence"]
    states = dict(models(probed, []))[BASE](f"{RELATIONS}, relation presence")
    labels = np.random.default_rng(0).permutation(items.labels)  # which nothing tells
    asked = Items(labels, items.classes, items.words, items.documents, items.places)
    states[1:] += 3 * states[1:].std() * (labels[:, None] - 0.5)
    table = layer_table(asked, probe_layers(states, asked, 0), np.random.default_rng(0))
    assert table["accuracy"][0] < 0.7 and (table["accuracy"][1:] > 0.95).all()


def test_a_run_without_a_common_adapter_or_without_mentions_is_refused(runs, probed, tmp_path):
    ranking = load_trained_run(trained(tmp_path, "s1_single", RANKING, more=MANY))
    with pytest.raises(
        ConfigError, match=f"nothing can be probed .{RANKING}, mention boundary: the task has no"
    ):
        Probed.of(ranking, "dev", 100)
    bare = SimpleNamespace(run=SimpleNamespace(run_id="a2"), model=SimpleNamespace(lora=None))
    bare.model.lora = SimpleNamespace(ranks={"private_one": 8})
    with pytest.raises(ConfigError, match=r"a2 has no adapter for all tasks \(private_one\)"):
        shared_adapter(bare)


def test_the_newest_run_with_a_shared_adapter_is_taken(runs):
    assert runs.single.manifest()["finished"] >= runs.shared.manifest()["finished"]
    assert shared_run(runs.folder).path == runs.shared.path
    assert shared_run(runs.folder, runs.single.run_id).path == runs.single.path
