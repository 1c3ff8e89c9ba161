"""What a checkpoint holds of a trainer, part by part."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.training.checkpoint import read_checkpoint, write_checkpoint
from kaggle_kit.training.state import (
    TrainingState,
    capture,
    named_parameters,
    restore_optimizer,
    restore_parameters,
    restore_random,
)

TASKS = ("semeval2014t7", "semeval2017t3")


@pytest.fixture
def trainer(study, tmp_path):
    """Two steps old."""
    made = study.trainer(
        study.model(*TASKS, dropout=0.1),
        study.plan(*TASKS, max_steps=2),
        tmp_path / "out",
        options={"pcgrad_seed": 3},
    )
    made.train()
    return made


def through_files(state: TrainingState, folder) -> TrainingState:
    path = write_checkpoint(folder, "step-000002", state.documents, state.tensors, {"step": 2})
    _, documents, tensors = read_checkpoint(path)
    return TrainingState(documents, tensors)


def test_only_what_trains_is_kept_and_with_it_two_moments_and_a_count(trainer):
    state = capture(trainer)
    names = set(state.tensors["parameters"])
    assert names == {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert not any("base_layer" in name or "embed" in name for name in names)
    fields = {key.partition("/")[0] for key in state.tensors["optimizer"]}
    assert fields == {"exp_avg", "exp_avg_sq", "step"}
    assert {key.partition("/")[2] for key in state.tensors["optimizer"]} <= names


def test_adapters_frozen_for_now_are_kept_too(trainer):
    whole = set(named_parameters(trainer))
    frozen = next(name for name in whole if "lora_A" in name)
    parameter = dict(trainer.model.named_parameters())[frozen]
    group = trainer.optimizer.param_groups[0]
    group["params"] = [p for p in group["params"] if p is not parameter]
    assert set(named_parameters(trainer)) == whole


def test_a_captured_state_does_not_move_with_the_trainer(trainer):
    state = capture(trainer)
    name, before = next(iter(state.tensors["parameters"].items()))
    before = before.clone()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1)
    assert torch.equal(state.tensors["parameters"][name], before)


def test_weights_moments_and_schedule_come_back_through_files(trainer, tmp_path):
    state = through_files(capture(trainer), tmp_path)
    expected = capture(trainer)
    with torch.no_grad():
        for group in trainer.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.add_(1)
                parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    trainer.lr_scheduler.step()
    restore_parameters(trainer, state)
    restore_optimizer(trainer, state)
    found = capture(trainer)
    for section in ("parameters", "optimizer"):
        assert expected.tensors[section].keys() == found.tensors[section].keys()
        for name, tensor in expected.tensors[section].items():
            assert torch.equal(tensor, found.tensors[section][name]), name
    assert found.documents["state"]["scheduler"] == expected.documents["state"]["scheduler"]


def test_every_generator_goes_on_where_it_was(trainer, tmp_path):
    def draw() -> list:
        return [
            random.random(),
            random.gauss(),
            np.random.rand(),
            torch.rand(3).tolist(),
            torch.rand(3, generator=trainer.pcgrad.generator).tolist(),
        ]

    random.gauss()  # one of a pair is left over
    state = through_files(capture(trainer), tmp_path)
    expected = draw()
    assert draw() != expected
    restore_random(trainer, state)
    assert draw() == expected


def test_the_loss_scale_and_its_growth_come_back(trainer, tmp_path):
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=7)
    state = through_files(capture(trainer), tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    restore_optimizer(trainer, state)
    assert trainer.accelerator.scaler.get_scale() == 1024.0
    assert trainer.accelerator.scaler.get_growth_interval() == 7


def test_token_counters_come_back(trainer, tmp_path):
    state = through_files(capture(trainer), tmp_path)
    expected = dict(trainer.tokens.total)
    trainer.tokens.count([])
    trainer.tokens.total[TASKS[0]] += 5
    restore_optimizer(trainer, state)
    assert trainer.tokens.total == expected and trainer.tokens.step == 2 == state.logged_step


def test_another_model_is_refused_by_the_name_of_what_differs(study, trainer, tmp_path):
    state = capture(trainer)
    other = study.trainer(study.model(TASKS[0]), study.plan(TASKS[0], max_steps=2), tmp_path / "other")
    with pytest.raises(RunFolderError, match=rf"differ, the first is heads\.{TASKS[1]}.*stored, absent now"):
        restore_parameters(other, state)


def test_an_optimised_parameter_without_a_name_is_refused(trainer):
    trainer.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(4))]})
    with pytest.raises(RunFolderError, match=r"1 parameter\(s\) of shape \(4,\)"):
        capture(trainer)
