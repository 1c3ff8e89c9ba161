"""A study of two tasks at toy size: practice corpora, a tiny random Llama, everything the trainer needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import PlanSettings, StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import LoraSettings, RunConfig
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.models import tiny
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.loading import load_backbone
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.arguments import training_arguments
from kaggle_kit.training.trainer import MultiTaskTrainer

TASKS = ("semeval2014t7", "semeval2017t3")
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}


@dataclass(frozen=True)
class ToyStudy:
    """`encoded` holds 40 training sentences or pairs of each task."""

    config: RunConfig
    specs: dict[str, TaskSpec]
    encoded: dict[str, EncodedTask]

    def model(self, *tasks: str, dropout: float = 0.0) -> MultiTaskModel:
        """The same weights at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            loaded = load_backbone(self.config.model, device="cpu")
            lora = LoraSettings(rank=8, alpha=16, dropout=dropout, targets=["q_proj", "v_proj", "down_proj"])
            backbone = SharedPrivateLoRA(loaded.backbone, lora, {"single": lora.rank})
            model = MultiTaskModel(backbone, [self.specs[task] for task in tasks], causal=True)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        return model

    def plan(self, *tasks: str, seed: int = 3, **settings) -> StepPlan:
        defaults = {"effective_batch": 8, "token_budget": 10_000, "epochs": 1.0}
        rows = {task: TaskRows(self.encoded[task].lengths, self.encoded[task].groups) for task in tasks}
        return MultiTaskBatchSampler(rows, PlanSettings(**defaults | settings), seed).plan()

    def trainer(
        self, model, plan: StepPlan, folder: Path, callbacks=(), options=None, **arguments
    ) -> MultiTaskTrainer:
        """`options` are the trainer's own, `arguments` the library's."""
        training = replace(self.config.training, learning_rate=3e-3, warmup=0.0)
        made = training_arguments(
            training, steps=len(plan), output_dir=folder, seed=5, device="cpu", float16=False
        )
        for name, value in ({"disable_tqdm": True} | arguments).items():
            setattr(made, name, value)
        return MultiTaskTrainer(model, PlanDataset(plan, self.encoded), made, callbacks, **options or {})


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> ToyStudy:
    torch.set_num_threads(1)  # matrices this small only wait for a second thread
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAGGLE_KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | SMALL)
        overrides = ["practice.documents=8", "practice.terms=20"]
        config = compose(
            model="tiny", task=list(TASKS), strategy="s2_shared", profile="smoke", overrides=overrides, seed=1
        )
        exp = Experiment(config)
        texts = [sample.text for sample in exp.corpora[TASKS[0]].splits["train"]]
        config.model.path = str(tiny.build_tiny("llama", texts, steps=0))
        encoded = exp.encode({name: exp.corpora[name].splits["train"] for name in TASKS})
        yield ToyStudy(config, exp.specs, {name: first(task, 40) for name, task in encoded.items()})


def first(task: EncodedTask, rows: int) -> EncodedTask:
    """As many whole groups as fit into `rows`."""
    stop = rows if rows >= len(task) else int((task.groups < task.groups[rows]).sum())
    return replace(
        task,
        table=task.table.select(range(stop)),
        lengths=task.lengths[:stop],
        overlap=task.overlap[:stop],
        groups=task.groups[:stop],
    )
