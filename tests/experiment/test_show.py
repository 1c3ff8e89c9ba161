"""What a page shows: annotations in their place, nothing of restricted text, the method's own figures."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from kaggle_kit.core.types import Access, Mention, RankedPair, UnifiedSample
from kaggle_kit.evaluation.adapter_figures import mean_shared_weights
from kaggle_kit.experiment.show import conflicts, setup, table
from kaggle_kit.experiment.show.marked import GOLD, MISSED, marked_text, sample_view
from kaggle_kit.models.fusion import Fusion
from kaggle_kit.training.gradients import shared_gradient
from tests.experiment.test_experiment import opened  # noqa: F401
from tests.experiment.test_rounds import NER, small_models  # noqa: F401

TEXT = "Fever <38> and cough."


def note(access: Access = Access.PUBLIC) -> UnifiedSample:
    mentions = (Mention("T1", ((0, 5),), "Sign"), Mention("T2", ((15, 20),), "Symptom"))
    return UnifiedSample("d", TEXT, "train", access, mentions)


def test_mentions_are_marked_where_they_stand_and_text_is_escaped():
    html, text = sample_view(note())
    assert text.startswith("[Fever / Sign] <38> and [cough / Symptom].")
    assert "&lt;38&gt;" in html and html.count("<mark") == 2


def test_restricted_text_is_withheld_in_both_forms():
    for shown in sample_view(note(Access.RESTRICTED)):
        assert "withheld" in shown and "Fever" not in shown and "Sign" not in shown


def test_of_overlapping_mentions_the_first_is_marked_and_colours_tell_kinds_apart():
    inner = Mention("T3", ((2, 5),), "Part")
    html, text = marked_text(TEXT, [(note().mentions[0], MISSED, "Sign, missed"), (inner, GOLD, "Part")])
    assert text.startswith("[Fever / Sign, missed]") and "Part" not in text and MISSED in html


def test_a_question_is_shown_with_its_first_candidates():
    pairs = tuple(RankedPair("q", str(n), f"answer {n}", n, relevant=n == 1) for n in range(1, 7))
    _, text = sample_view(UnifiedSample("q", "Why?", "train", Access.PUBLIC, pairs=pairs))
    assert text.splitlines()[:2] == ["Why?", "relevant: answer 1"]
    assert text.splitlines()[-1] == "… and 2 more candidates"


def test_cosines_and_weights_of_a_step_are_shown_by_task(capsys):
    conflicts(torch.tensor([[4.0, -3.0], [-3.0, 9.0]]), torch.tensor([1.0, 0.5]), ["a", "b"])
    shown = capsys.readouterr().out
    assert "-0.500" in shown and "2.000" in shown and "3.000" in shown


def test_a_table_escapes_what_it_is_given(capsys):
    table(pd.DataFrame({"x": ["<b>"], "n": [1.23456]}), "Title", {"n": "{:.2f}"})
    shown = capsys.readouterr().out
    assert shown.startswith("Title") and "1.23" in shown and "1.2345" not in shown


def test_a_table_escapes_the_names_of_its_columns(monkeypatch):
    """Columns may be names that a run of a stranger gives to its tasks."""
    shown = []
    monkeypatch.setattr("kaggle_kit.experiment.show.views.display", shown.append)
    table(pd.DataFrame({"<b>x</b>": ["y"]}), "<i>")
    assert "<b>" not in shown[0].html and "<i>" not in shown[0].html and "&lt;b&gt;x" in shown[0].html


@pytest.mark.usefixtures("small_models")
def test_the_gradient_by_hand_is_the_one_that_the_trainer_takes(opened):  # noqa: F811
    exp = opened()
    exp.model.eval()  # without dropout both see the same
    for task, batches in exp.step().by_task():
        by_hand = shared_gradient(exp.model, batches)
        exp.model.zero_grad()
        counted = {}
        for batch in batches:
            for name, count in batch.counts.items():
                counted[name] = counted.get(name, 0) + count
        for batch in batches:
            sums = exp.model.losses(batch, exp.model(batch))
            sum(value / counted[name] for name, value in sums.items()).backward()
        shared = exp.model.parameter_groups()["shared"].parameters
        expected = torch.cat([parameter.grad.flatten() for parameter in shared])
        assert task in exp.specs
        torch.testing.assert_close(by_hand, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("small_models")
def test_fusion_starts_at_one_half_and_its_weights_are_read_by_layer(opened):  # noqa: F811
    exp = opened()
    found = mean_shared_weights(exp.model, exp.batches("dev", 2))
    assert set(found) == set(exp.specs)
    assert all(weight == pytest.approx(0.5) for layers in found.values() for weight in layers.values())
    for module in exp.model.backbone.modules():
        if isinstance(module, Fusion):
            module.lean = lambda x: torch.full((*x.shape[:-1], 1), 0.6)
    found = mean_shared_weights(exp.model, exp.batches("dev", 2))
    assert all(weight == pytest.approx(0.8) for weight in found[NER].values())


@pytest.mark.usefixtures("small_models")
def test_the_set_up_says_how_many_gold_mentions_no_passage_holds(opened, capsys):  # noqa: F811
    exp = opened()
    setup(exp)
    mentions = sum(len(sample.mentions) for sample in exp.samples()[NER])
    assert f"0 of {mentions:,} mentions are in no passage" in capsys.readouterr().out
