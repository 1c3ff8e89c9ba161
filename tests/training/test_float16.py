"""The float16 path of a T4, on a CPU: autocast, a real gradient scaler, PCGrad, skipped steps."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.arguments import training_arguments
from kaggle_kit.training.callbacks.alarms import SkippedStepCallback
from kaggle_kit.training.callbacks.base import StudyCallback
from tests.training.test_trainer import NER, RANKING

STEPS = 4


class Keep(StudyCallback):
    """The record of each step, and the weights after it."""

    def __init__(self) -> None:
        self.records: list[dict] = []
        self.weights: list[torch.Tensor] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.records.append(dict(self.trainer.record))
        trained = [p.detach().flatten() for p in self.trainer.model.parameters() if p.requires_grad]
        self.weights.append(torch.cat(trained))


def trained(study, folder, monkeypatch, *, half: bool, overflow_at: int | None = None) -> Keep:
    """Two tasks under PCGrad; at one step the ranking loss is made to overflow float16."""
    model, keep = study.model(NER, RANKING), Keep()
    plan = study.plan(NER, RANKING, effective_batch=24, max_steps=STEPS)
    options = {"output_dir": folder, "seed": 1, "device": "cpu"}
    arguments = training_arguments(study.config.training, steps=STEPS, float16=half, **options)
    trainer = study.trainer(
        *(model, plan, folder, [SkippedStepCallback(), keep], {"pcgrad_seed": 7}),
        max_grad_norm=0.5,
        optim=arguments.optim,
    )
    if half:
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        trainer.accelerator.native_amp = True
        monkeypatch.setattr(trainer.accelerator.state, "_mixed_precision", "fp16")
    losses = model.losses

    def overflowing(batch, outputs):
        factor = 1e30 if batch.task == RANKING and trainer.state.global_step == overflow_at else 1.0
        return {name: value * factor for name, value in losses(batch, outputs).items()}

    monkeypatch.setattr(model, "losses", overflowing)
    trainer.train()
    return keep


def test_steps_in_float16_are_those_of_float32_whatever_the_scale(study, tmp_path, monkeypatch):
    single = trained(study, tmp_path, monkeypatch, half=False)
    half = trained(study, tmp_path, monkeypatch, half=True)
    for one, other in zip(single.records, half.records, strict=True):
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.02)  # unscaled, and once
        assert other["loss_scale"] == 2.0**12 and other["skipped"] == 0
    first, last = single.weights[0], single.weights[-1]
    assert (half.weights[-1] - last).norm() < 0.1 * (last - first).norm()


def test_an_overflow_skips_the_step_halves_the_scale_and_names_the_task(study, tmp_path, monkeypatch):
    keep = trained(study, tmp_path, monkeypatch, half=True, overflow_at=1)
    assert [record["skipped"] for record in keep.records] == [0, 1, 1, 1]
    assert [record["loss_scale"] for record in keep.records] == [2.0**12, 2.0**11, 2.0**11, 2.0**11]
    assert [RANKING in str(record["nonfinite"]) for record in keep.records] == [False, True, False, False]
    moved = [not torch.equal(one, two) for one, two in zip(keep.weights, keep.weights[1:], strict=False)]
    assert moved == [False, True, True]


def test_no_step_is_taken_with_a_trainable_parameter_in_half_precision(study, tmp_path):
    model = study.model(NER)
    next(iter(model.heads.parameters())).data = next(iter(model.heads.parameters())).data.half()
    with pytest.raises(ConfigError, match="must be float32, but heads"):
        study.trainer(model, study.plan(NER, max_steps=1), tmp_path).train()
