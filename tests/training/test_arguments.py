"""What the library is told, where its own default would harm a run."""

from __future__ import annotations

import torch
from transformers import TrainingArguments

from kaggle_kit.core.schema import TrainingConfig
from kaggle_kit.training.arguments import training_arguments


def test_a_run_uses_one_gpu_of_two(tmp_path, monkeypatch):
    def two_gpus(arguments: TrainingArguments) -> torch.device:
        arguments._n_gpu = 2
        return torch.device("cpu")

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(two_gpus))
    stock = TrainingArguments(output_dir=str(tmp_path))
    assert stock.n_gpu == 2  # DataParallel, once a trainer is made
    ours = training_arguments(TrainingConfig(), steps=10, output_dir=tmp_path, seed=1, device="cuda")
    assert ours.n_gpu == 1


def test_the_rate_of_the_heads_is_none_unless_it_is_given(tmp_path):
    options = {"steps": 10, "output_dir": tmp_path, "seed": 1, "device": "cpu"}
    assert training_arguments(TrainingConfig(), **options).head_learning_rate is None
    given = TrainingConfig(head_learning_rate=1e-3)
    assert training_arguments(given, **options).head_learning_rate == 1e-3
