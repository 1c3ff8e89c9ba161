"""What the speed and memory benchmarks share: the machine, its limits, and where a table goes.

peak = matmul_peak()                              # FLOP/s that a large matrix product reaches
needed = flop_per_token(model, mean_length)
publish("training_speed", "S1 beside the stock trainer", lines)
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaModel, PreTrainedModel, TrainerCallback

from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.models.tiny import train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LLAMA_8M = {
    "hidden_size": 320,
    "intermediate_size": 960,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}


def llama_8m(config: RunConfig) -> Path:
    """A folder with random weights (8.0M) and a byte-level tokenizer trained on the tasks' own texts."""
    corpora = Experiment(config).corpora.values()
    texts = [sample.text for corpus in corpora for sample in corpus.splits["train"] if sample.text]

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(texts)
        shape = LlamaConfig(**LLAMA_8M, vocab_size=len(tokenizer), pad_token_id=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            LlamaModel(shape).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return build_once(cache_dir("benchmarks") / "-".join(["llama8m", *config.tasks, str(len(texts))]), build)


def configured(
    model: str, tasks: list[str], strategy: str, profile: str, path: str | None, *overrides: str
) -> RunConfig:
    """A run's configuration; `llama8m` stands for `llama_8m`, the rest are entries of params/model."""
    lengths = [] if profile == "smoke" else ["training.max_length=128"]
    wide = [*lengths, "profile.max_train_samples=null", "profile.device=cpu", *overrides]
    if model == "llama8m" and path is None:
        base = compose(model="tiny", task=tasks, strategy=strategy, profile=profile, overrides=wide)
        path = str(llama_8m(base))
    named = {"llama8m": "tiny"}.get(model, model)
    wide += [f"model.path='{path}'"] if path else []
    return compose(model=named, task=tasks, strategy=strategy, profile=profile, overrides=wide)


def matmul_peak(
    device: str = "cpu", dtype: torch.dtype = torch.float32, side: int = 2048, times: int = 8
) -> float:
    """FLOP/s of the fastest of `times` products of two (side, side) matrices."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(times + 1):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest


def wait(device: str) -> None:
    """Until a GPU has done what it was given; a CPU is always done."""
    if device == "cuda":
        torch.cuda.synchronize()


def flop_per_token(backbone: PreTrainedModel, mean_length: float) -> float:
    """FLOP that training needs per real token: 4N + 6·N_lora + 12·L·s·h.

    The N frozen parameters of the layers take a product forward and one backward, adapters one more
    for their own gradient; attention takes the last term. `mean_length` is weighted by tokens.
    """
    layers = [(name, p.numel()) for name, p in backbone.named_parameters() if ".layer" in f".{name}"]
    adapters = sum(size for name, size in layers if "lora_" in name)
    frozen = sum(size for name, size in layers if "lora_" not in name)
    shape = backbone.config
    attention = 12 * shape.num_hidden_layers * mean_length * shape.hidden_size
    return 4 * frozen + 6 * adapters + attention


class Clock(TrainerCallback):
    """Time and cumulative (real, padded) tokens at the end of every step of any trainer."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int, int]] = []
        self.real = self.padded = 0

    def count(self, real: int, padded: int) -> None:
        self.real += real
        self.padded += padded

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.marks.append((time.perf_counter(), self.real, self.padded))

    def rates(self, warmup: int) -> dict[str, float]:
        """Real tokens per second after the warm-up steps, and the share of padding in all tokens."""
        (start, real, padded), (end, all_real, all_padded) = self.marks[warmup - 1], self.marks[-1]
        tokens = all_real - real
        return {"rate": tokens / (end - start), "padding": 1 - tokens / (all_padded - padded)}


def in_own_process(module: str, *arguments: str, **environ: str) -> Any:
    """What `python -m module ARGUMENTS` prints last, as JSON; its errors are shown."""
    call = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(call, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} ended with exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine(*packages: str) -> str:
    """Processor or GPU, threads, and the versions of what was measured."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(": ")[1].strip() for line in cpus if line.startswith("model name")), "CPU")
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", *packages))
    return f"{name}, {torch.get_num_threads()} threads; {versions}; Python {platform.python_version()}"


def command(name: str) -> str:
    """The command line as typed, without the places of a model or of runs on this machine."""
    typed, hidden = [], False
    for word in sys.argv[1:]:
        typed.append("FOLDER" if hidden else word)
        hidden = word in ("--model-path", "--runs", "--run", "--keep")
    return " ".join(["python -m", f"benchmarks.{name}", *typed])


def publish(
    name: str, title: str, lines: list[str], device: str | None = None, file: str | None = None
) -> None:
    """Prints the table and keeps it in benchmarks/results/, under the script's name or that of `file`."""
    on = f"{device or machine('peft')} · load {os.getloadavg()[0]:.1f} · {date.today()}"
    text = "\n".join([f"# {title}\n", f"`{command(name)}`\n· {on}", "", *lines]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{file or name}.md").write_text(text)
    sys.stdout.write(text)
