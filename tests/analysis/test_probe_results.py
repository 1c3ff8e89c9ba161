"""Probes against closed forms and planted truth: found from its layer on, silent where nothing is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kaggle_kit.analysis.instrument_figures import probing_figure
from kaggle_kit.analysis.probe_results import (
    FIGURES,
    beats,
    in_words,
    layer_table,
    layer_tests,
    reach_in_words,
)
from kaggle_kit.analysis.stats import holm
from kaggle_kit.evaluation.probing import (
    Items,
    Outcome,
    asked_items,
    blocks_of,
    chance,
    code_lengths,
    control_labels,
    probe_layers,
    read_off,
)

WIDTH, LAYERS, PLANTED_AT = 24, 4, 2


def asked(seed: int, documents: int = 24, each: int = 12, words: int = 40, classes: int = 2) -> Items:
    """Labels that neither words nor documents tell."""
    rng, n = np.random.default_rng(seed), documents * each
    places, names = np.zeros((n, 1, 3), int), np.repeat([f"d{one}" for one in range(documents)], each)
    return Items(
        rng.integers(classes, size=n), tuple("abc"[:classes]), rng.integers(words, size=n), names, places
    )


def noise(items: Items, seed: int, layers: int = LAYERS) -> np.ndarray:
    return np.random.default_rng([seed, 1]).normal(size=(layers, len(items), WIDTH))


def planted(items: Items, seed: int) -> np.ndarray:
    """From layer `PLANTED_AT` on one direction tells the label."""
    states = noise(items, seed)
    direction = np.random.default_rng([seed, 2]).normal(size=WIDTH)
    states[PLANTED_AT:] += np.outer(2 * items.labels - 1, 2 * direction / np.linalg.norm(direction))
    return states


def adjusted(tests: pd.DataFrame) -> pd.DataFrame:
    return tests.assign(**{"p, Holm": holm(tests["p"])})


def test_a_property_is_found_from_the_layer_on_where_it_is_planted_and_not_before():
    items = asked(1)
    outcome = probe_layers(planted(items, 1), items, seed=0)
    table = layer_table(items, outcome, np.random.default_rng(0)).set_index("layer")
    told, silent = table.loc[PLANTED_AT:], table.loc[: PLANTED_AT - 1]
    assert (told["accuracy"] > 0.9).all() and (told["selectivity low"] > 0.2).all()
    assert (told["compression low"] > 1.4).all()
    assert (silent["accuracy"] < 0.6).all() and (silent["compression"] < 1.05).all()
    assert (silent["selectivity low"] < 0).all()
    for name in FIGURES:
        assert (table[f"{name} low"] <= table[name]).all() and (table[name] <= table[f"{name} high"]).all()


def test_an_adapter_beats_the_base_at_the_planted_layers_and_no_other():
    items = asked(2)
    one, base = (probe_layers(states, items, seed=0) for states in (planted(items, 2), noise(items, 2)))
    tests = adjusted(layer_tests(items, one, base, np.random.default_rng(0)))
    assert tests["layer"].tolist() == [1, 2, 3]  # no adapter changes the embeddings
    assert beats(tests)["layer"].tolist() == [2, 3]
    assert tests["difference"].to_numpy() == pytest.approx((one.right - base.right).mean(axis=1)[1:])
    assert (tests["difference low"] <= tests["difference"]).all() and (
        tests["difference"] <= tests["difference high"]
    ).all()
    assert len(beats(adjusted(layer_tests(items, base, one, np.random.default_rng(0))))) == 0


def test_where_nothing_is_planted_holm_rejects_in_at_most_5_percent_of_repetitions():
    """Two models of noise, two properties of two layers each: a false alarm anywhere counts."""
    alarms, repetitions = 0, 100
    for seed in range(repetitions):
        family = []
        for part in range(2):
            items = asked(1000 * part + seed)
            held = asked_items(items.documents, seed)
            right = (
                np.array([read_off(layer, items.labels, held) for layer in noise(items, by, 3)])
                for by in (seed, 5000 + seed)
            )
            sides = (Outcome(held, one, one, one) for one in right)
            family.append(layer_tests(items, *sides, np.random.default_rng(seed)))
        alarms += (adjusted(pd.concat(family))["p, Holm"] <= 0.05).any()
    assert alarms / repetitions <= 0.05


def test_where_nothing_is_planted_selectivity_and_compression_stay_at_chance():
    """Frequent words that draw one label make a control one-sided and easy, so here words are rare."""
    selectivity, compression = [], []
    for seed in range(12):
        items = asked(seed, documents=40, words=2000)
        outcome = probe_layers(noise(items, seed, 1), items, seed)
        selectivity.append((outcome.right - outcome.control).mean())
        compression.append(len(items) / outcome.bits.sum())
    assert np.mean(selectivity) == pytest.approx(0, abs=0.04)
    assert 0.85 < np.mean(compression) < 1.02


def test_a_property_that_a_probe_learns_by_heart_shows_no_selectivity():
    """As many features as words, and each word has one label: the control's labels are learnt as well."""
    items = asked(3, words=12)
    items = Items(items.words % 2, items.classes, items.words, items.documents, items.places)
    outcome = probe_layers(np.eye(12)[items.words][None], items, seed=1)
    assert outcome.right.mean() == outcome.control.mean() == 1.0
    assert layer_table(items, outcome, np.random.default_rng(0))["selectivity"].tolist() == [0.0]


def test_the_page_says_where_so_few_documents_can_show_no_gain():
    """Ten signs give p of 2 / 1024 at the least, 28 times which is .055; eleven give half of it."""
    few = pd.DataFrame({"documents": [10] * 28})
    assert reach_in_words(few).endswith("28 tests no adjusted p is below 0.055: no gain can be shown.")
    assert (
        "below 0.027" in (said := reach_in_words(few + 1))
        and "can be shown" in said
        and "no gain" not in said
    )


def test_no_probe_is_asked_of_a_document_that_it_was_fitted_on():
    """Each document has one label, which its rows tell; other documents tell nothing of it."""
    documents = np.repeat(np.arange(40), 6)
    labels = np.random.default_rng(0).integers(2, size=40)[documents]
    held = asked_items(documents, seed=0)
    assert held.sum() == 20 * 6 and not set(documents[held]) & set(documents[~held])
    assert read_off(np.eye(40)[documents], labels, held).mean() < 0.7
    assert read_off(np.eye(40)[documents], labels, np.arange(len(labels)) % 2 == 0).mean() == 1.0


def test_without_a_representation_the_code_is_laplaces_in_closed_form():
    """The first block costs log2 K a label, each label c of a later one -log2 (n_c + 1) / (n + K)."""
    items = asked(4, documents=32, each=8, classes=3)
    blocks = blocks_of(items.documents, seed=5)
    bits = code_lengths(np.zeros((len(items), 3)), items, blocks)
    wanted, known = len(blocks[0]) * np.log2(3), items.labels[blocks[0]]
    for block in blocks[1:]:
        share = (np.bincount(known, minlength=3) + 1) / (len(known) + 3)
        wanted -= np.log2(share[items.labels[block]]).sum()
        known = np.concatenate([known, items.labels[block]])
    assert bits.sum() == pytest.approx(wanted, rel=1e-4)
    assert chance(items, 5) == pytest.approx(
        {
            "accuracy": np.bincount(items.labels).max() / len(items),
            "selectivity": 0,
            "compression": len(items) * np.log2(3) / wanted,
        },
        rel=1e-4,
    )


def test_blocks_double_and_keep_documents_whole():
    items = asked(5, documents=64, each=4)
    blocks = blocks_of(items.documents, seed=0)
    assert [len(block) for block in blocks] == [8, 8, 16, 32, 64, 128]
    assert sorted(np.concatenate(blocks)) == list(range(len(items)))
    held = [set(items.documents[block]) for block in blocks]
    assert sum(map(len, held)) == 64 and held != [
        set(items.documents[b]) for b in blocks_of(items.documents, 1)
    ]


def test_a_class_that_no_earlier_block_holds_has_a_code_of_finite_length():
    items = asked(6, documents=8, each=6)
    last = items.documents == "d7"
    items = Items(last.astype(int), items.classes, items.words, items.documents, items.places)
    blocks = [np.flatnonzero(~last), np.flatnonzero(last)]
    bits = code_lengths(np.zeros((len(items), 1)), items, blocks)
    assert bits[last] == pytest.approx(np.log2((~last).sum() + 2))


def test_the_control_task_gives_every_word_type_one_label_as_often_as_labels_are_there():
    items = asked(7, documents=100, words=1000)
    control = control_labels(items, seed=0)
    assert all(len(set(control[items.words == word])) == 1 for word in set(items.words))
    assert control.mean() == pytest.approx(items.labels.mean(), abs=0.06)
    assert (control == control_labels(items, seed=0)).all() and (control != control_labels(items, 1)).any()


def test_the_sentence_and_the_picture_say_where_the_adapter_is_ahead():
    items = asked(8)
    outcomes = {
        name: probe_layers(states, items, seed=0)
        for name, states in (("shared adapter", planted(items, 8)), ("frozen base", noise(items, 8)))
    }
    rng = np.random.default_rng(0)
    tables = {name: layer_table(items, outcome, rng) for name, outcome in outcomes.items()}
    tests = adjusted(layer_tests(items, *outcomes.values(), rng))
    said = in_words("notes, type", tables, tests)
    assert said.startswith("notes, type, read best: shared adapter 9") and "at layers 2, 3 (Holm)" in said
    assert "at layer 3 (Holm)" in in_words("notes, type", tables, tests[tests["layer"] == 3])
    silent = in_words("notes, type", tables, tests.assign(difference=0.0))
    assert "beats the base at no layer" in silent
    assert "worse at 2, 3" in in_words("notes, type", tables, tests.assign(difference=-tests["difference"]))
    figure = probing_figure({"notes, type": tables}, "accuracy", {"notes, type": 0.5})
    (panel,) = (axes for axes in figure.axes if axes.get_visible())
    assert panel.get_title(loc="left") == "notes\ntype\nn = 144"
    drawn = panel.containers[0].lines[0].get_ydata()
    assert list(drawn) == tables["shared adapter"]["accuracy"].tolist()
