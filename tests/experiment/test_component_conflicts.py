"""Conflicts between the components of one task, as a real run logs them and its page shows them."""

from __future__ import annotations

import torch

from kaggle_kit.analysis.conflict_table import conflict_table
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.experiment import training_session
from kaggle_kit.training.pcgrad import PCGradOptimizer
from tests.experiment.test_rounds import page, small_models  # noqa: F401

NER, RELATIONS = "semeval2014t7", "semeval2021t6"


def test_components_of_a_task_are_compared_on_halved_steps_and_training_goes_on_as_without(
    tmp_path, monkeypatch
):
    more = ("training.null_every=2", "training.max_steps=3", "training.epochs=2")
    weights, events = [], []
    for name, compare in (("measured", None), ("plain", lambda *given: None)):
        if compare:
            monkeypatch.setattr(PCGradOptimizer, "compare", compare)
        study = page(tmp_path / name, "s3a_flat", RELATIONS, NER, more=more)
        study.model.lora.checkpoint_layers(1)
        training_session.train(study, study.trainer())
        weights.append([p.detach().clone() for p in study.model.parameters() if p.requires_grad])
        events.append(study.run.events())
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
    found = [event["conflicts"]["shared"].get("components") for event in events[0]]
    assert [step and list(step) for step in found] == [[RELATIONS], None, [RELATIONS]]
    assert -1 <= found[0][RELATIONS]["ner × relations"] <= 1
    table = conflict_table(RunFolder(study.run.path.parents[1] / "measured" / study.run.path.name))
    assert set(table["gradients of"]) == {"two tasks", "half batches", "components of a task"}
    assert table["excess"].notna().sum() == 1
