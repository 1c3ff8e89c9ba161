"""Backbones of four architectures at toy size, two tasks, and micro-batches of random tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import LoraSettings, StrategyConfig
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec
from kaggle_kit.models import tiny
from kaggle_kit.models.build import build_model
from kaggle_kit.models.loading import Loaded, load_backbone
from kaggle_kit.models.multitask import MultiTaskModel

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
MODELS = {"llama": "tiny", "mistral": "tiny_mistral", "phi3": "tiny_phi3", "gemma2": "tiny_gemma2"}
MENTIONS = ComponentSpec("mentions", Kind.TOKENS, 1, ("Disease", "Drug"))
ANSWERS = ComponentSpec("answers", Kind.RANKING, 2, ("Good", "Bad"))
ENTITIES, READING, QUESTIONS = (
    TaskSpec("entities", (MENTIONS,)),
    TaskSpec("reading", (MENTIONS, ANSWERS)),
    TaskSpec("questions", (ANSWERS,)),
)
LENGTHS = (9, 7, 4)


@dataclass
class Toys:
    """Every call of `model` with the same arguments gives the same weights."""

    folder: Path
    specs: tuple[TaskSpec, ...] = (ENTITIES, READING, QUESTIONS)
    saved: dict[str, Path] = field(default_factory=dict)

    def loaded(self, architecture: str, quantization: str = "none", *, dropout: float = 0.0) -> Loaded:
        config = compose(model=MODELS[architecture]).model
        if architecture not in self.saved:
            self.saved[architecture] = self._save(architecture)
        path = self.saved[architecture]
        lora = LoraSettings(rank=8, alpha=16, dropout=dropout, targets=config.lora.targets)
        return load_backbone(
            replace(config, path=str(path), lora=lora), device="cpu", quantization=quantization
        )

    def model(
        self, architecture: str = "llama", *, loaded: Loaded | None = None, specs=None, **strategy
    ) -> MultiTaskModel:
        """`strategy` are fields of StrategyConfig."""
        loaded = loaded or self.loaded(architecture)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return build_model(
                loaded, specs or self.specs, StrategyConfig(name="toy", title="toy", **strategy)
            )

    def batch(self, task: str, seed: int = 0) -> MicroBatch:
        """Three sequences of nine, seven and four tokens; every other token is a word."""
        generator = torch.Generator().manual_seed(seed)
        tokens = sum(LENGTHS)
        words = torch.arange(0, tokens, 2)
        targets = {
            "mentions": {"index": words, "labels": torch.randint(5, words.shape, generator=generator)},
            "answers": {
                "first": torch.tensor([0, 9, 16]),
                "last": torch.tensor([8, 15, 19]),
                "labels": torch.tensor([1, 0, 1]),
                "known": torch.arange(3),
                "group": torch.zeros(3, dtype=torch.long),
            },
        }
        spec = next(spec for spec in self.specs if spec.name == task)
        names = [part.name for part in spec.components]
        return MicroBatch(
            task=task,
            rows=(0, 1, 2),
            input_ids=torch.randint(3, 64, (tokens,), generator=generator),
            type_ids=torch.zeros(tokens, dtype=torch.long),
            lengths=LENGTHS,
            targets={name: targets[name] for name in names},
            counts={name: len(targets[name]["labels"]) for name in names},
            overlap_tokens=0,
        )

    def loss(self, model: MultiTaskModel, task: str, seed: int = 0) -> torch.Tensor:
        """Mean losses of the task's components, summed."""
        batch = self.batch(task, seed)
        sums = model.losses(batch, model(batch))
        return sum(sums[name] / batch.counts[name] for name in sums)

    def _save(self, architecture: str) -> Path:
        folder = self.folder / architecture
        tokenizer = tiny.train_tokenizer(["an invented note about nothing"])
        tiny.random_model(architecture, len(tokenizer), seed=0).model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> Toys:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | SMALL)
        patch.setitem(tiny.ARCHITECTURES["gemma2"], "head_dim", 16)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a second thread only waits for the first on matrices this small
        yield Toys(tmp_path_factory.mktemp("toys"))
        torch.set_num_threads(threads)


@pytest.fixture
def stock_peft(monkeypatch) -> None:
    """PEFT's own layers can be placed, even beside a torchao that PEFT refuses."""
    monkeypatch.setattr("peft.tuners.lora.torchao.is_torchao_available", lambda: False)
