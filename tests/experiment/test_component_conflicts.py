"""Conflicts between the components of one task, as a real run logs them and its page shows them."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.analysis.conflict_table import conflict_table
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.experiment import training_session
from kaggle_kit.training import resolvers
from kaggle_kit.training.pcgrad import PCGradOptimizer
from tests.experiment.test_rounds import page, small_models  # noqa: F401

PER_COMPONENT = "strategy.gradient_per=component"
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


@pytest.mark.parametrize("strategy", ["s3a_flat", "s3b_hierarchical"])
def test_gradients_per_component_add_up_to_those_per_task_and_are_compared_at_every_step(
    tmp_path, monkeypatch, strategy
):
    """Nothing is projected away here, so that both ways make the same update."""
    summed = {"weigh": lambda gram, generator: torch.ones(len(gram), dtype=gram.dtype)}
    monkeypatch.setitem(resolvers.RESOLVERS, "pcgrad", summed)
    more = ("training.null_every=2", "training.max_steps=3", "training.epochs=2")
    weights, events = [], []
    for name, per in (("task", ()), ("component", (PER_COMPONENT,))):
        study = page(tmp_path / name, strategy, RELATIONS, NER, more=(*more, *per))
        training_session.train(study, study.trainer())
        weights.append([p.detach().clone() for p in study.model.parameters() if p.requires_grad])
        events.append(study.run.events())
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    losses = [[event["losses"] for event in several] for several in events]
    assert losses[0] == [pytest.approx(step, rel=1e-4) for step in losses[1]]
    inside = f"{RELATIONS}.ner × {RELATIONS}.relations"
    found = [event["conflicts"]["shared"] for event in events[1]]
    assert all(inside in step["cosines"] and len(step["cosines"]) == 3 for step in found)
    assert f"{RELATIONS}.relations × {RELATIONS}.relations" in found[0]["halves"]
    assert inside not in events[0][0]["conflicts"]["shared"]["cosines"]


def test_gradients_per_component_are_refused_where_nothing_has_several_or_keeps_them_apart():
    with pytest.raises(ConfigError, match="needs a task of several components"):
        compose(task=[NER, "semeval2017t3"], strategy="s3a_flat", overrides=[PER_COMPONENT])
    with pytest.raises(ConfigError, match="gradient_per=component acts on the gradients"):
        compose(task=[NER, RELATIONS], strategy="s2_shared", overrides=[PER_COMPONENT])
