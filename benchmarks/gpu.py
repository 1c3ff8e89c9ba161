"""The six real shapes on one NVIDIA GPU: the engine beside a loop of PEFT and padded batches.

    python -m benchmarks.gpu                         # all six, 16 sequences a step
    python -m benchmarks.gpu --models llama3b phi3mini --steps 20

Weights are random and made on the GPU, so nothing is downloaded; lengths are those of real corpora.
Float16 with float32 adapters under autocast, checkpointed where the study checkpoints (7B and more).
Exits with code 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from benchmarks.measuring import flop_per_token, machine, matmul_peak, publish, wait
from benchmarks.stock import IGNORED, token_weighted_mean
from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.batches.plan import PlanSettings, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec
from kaggle_kit.heads.dropout import set_backbone_dropout
from kaggle_kit.models.adapters import enable_checkpointing
from kaggle_kit.models.build import build_model
from kaggle_kit.models.decisions import choose_attention, choose_checkpointing
from kaggle_kit.models.loading import Loaded

# Tokens of 16 sequences: the middles of 16 equal parts of each corpus's training lengths in MiniLM's
# sub-words, at most 128; and full windows of long notes.
LENGTHS = {
    "ncbi_disease": (68, 55, 48, 44, 40, 37, 34, 32, 30, 27, 25, 23, 20, 17, 13, 6),
    "semeval2017t3": (128, 128, 128, 128, 128, 123, 114, 106, 98, 90, 82, 74, 65, 56, 45, 31),
    "windows of 512": (512,) * 16,
}
VOCABULARY = 32000
TASK = TaskSpec("entities", (ComponentSpec("mentions", Kind.TOKENS, 1, ("Disease",)),))
TAGS = 3
Step = Callable[[], None]
# The study's six models, from the config.json of their repositories.
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
SHAPES = {
    "gemma2b": (2304, 9216, 26, 8, 4, 256),
    "phi3mini": (3072, 8192, 32, 32, 32, 96),
    "llama3b": (3072, 8192, 28, 24, 8, 128),
    "mistral7b": (4096, 14336, 32, 32, 8, 128),
    "llama8b": (4096, 14336, 32, 32, 8, 128),
    "biomistral": (4096, 14336, 32, 32, 8, 128),
}


def shape_config(model: ModelConfig) -> PreTrainedConfig:
    """The configuration of one of the six models with a small vocabulary."""
    shape = dict(zip(SIZES, SHAPES[model.name], strict=True))
    more = {"vocab_size": VOCABULARY, "pad_token_id": 0, "num_labels": TAGS}
    return AutoConfig.for_model(model.architecture, **shape, **more)


@cache
def empty_backbone(name: str) -> PreTrainedModel:
    """One of the six models without weights, on the meta device."""
    with torch.device("meta"):
        return AutoModel.from_config(shape_config(compose(model=name).model))


def engine(model: ModelConfig, lengths: Sequence[int], device: str) -> tuple[nn.Module, Step]:
    """The study's S1, and one forward and backward pass over all sequences."""
    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    attention = choose_attention(model.architecture, capability, SHAPES[model.name][-1]).value
    with torch.device(device):
        backbone = AutoModel.from_config(
            shape_config(model), attn_implementation=attention, dtype=torch.float16
        )
    backbone.requires_grad_(False)
    set_backbone_dropout(backbone, 0.0)
    if choose_checkpointing(model, device, False).value == "on":
        enable_checkpointing(backbone)
    loaded = Loaded(backbone, None, True, {}, model)
    network = build_model(loaded, [TASK], compose(task="ncbi_disease").strategy).train()
    batches = micro_batches(lengths, device)

    def step() -> None:
        for batch in batches:
            with torch.autocast(device, torch.float16):
                (loss,) = network.losses(batch, network(batch)).values()
            (loss / sum(lengths)).backward()
        network.zero_grad()

    return network, step


def micro_batches(lengths: Sequence[int], device: str) -> list[MicroBatch]:
    """Random tokens and tags, cut as the plan of a run would cut them."""
    rows = TaskRows(np.array(lengths), np.arange(len(lengths)))
    settings = PlanSettings(epochs=1, effective_batch=len(lengths))
    (step,) = MultiTaskBatchSampler({TASK.name: rows}, settings, seed=0).plan().steps
    made = []
    for planned in step.micro_batches:
        words = torch.arange(planned.tokens)
        ids, labels = (torch.randint(low, high, words.shape) for low, high in ((3, VOCABULARY), (0, TAGS)))
        of = tuple(lengths[row] for row in planned.rows)
        targets = {"mentions": {"index": words, "labels": labels, "sizes": torch.tensor(of)}}
        counts = {"mentions": planned.tokens}
        zeros = torch.zeros_like(words)
        made.append(MicroBatch(TASK.name, planned.rows, ids, zeros, of, targets, counts, 0).to(device))
    return made


def stock(model: ModelConfig, lengths: Sequence[int], device: str) -> tuple[nn.Module, Step]:
    """The documented PEFT recipe on one padded batch, in the library's own choice of attention."""
    with torch.device(device):
        base = AutoModelForTokenClassification.from_config(shape_config(model), dtype=torch.float16)
    settings = model.lora
    adapters = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    lora = LoraConfig(task_type="TOKEN_CLS", target_modules=list(settings.targets), **adapters)
    if choose_checkpointing(model, device, False).value == "on":
        enable_checkpointing(base)
    network = get_peft_model(base, lora).train()
    size = torch.tensor(lengths)
    mask = torch.arange(max(lengths))[None] < size[:, None]
    inputs = {
        "input_ids": torch.randint(3, VOCABULARY, mask.shape) * mask,
        "attention_mask": mask.long(),
        "labels": torch.randint(TAGS, mask.shape).masked_fill(~mask, IGNORED),
    }
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}

    def step() -> None:
        with torch.autocast(device, torch.float16):
            loss = network(**inputs).loss
        loss.backward()
        network.zero_grad()

    return network, step


WAYS = {"kaggle_kit": engine, "PEFT, padded": stock}


def measure(
    way: str, model: ModelConfig, lengths: Sequence[int], device: str, steps: int
) -> dict[str, float] | None:
    """Real tokens/s, peak GiB and FLOP per token; None where the memory does not suffice."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        network, step = WAYS[way](model, lengths, device)
        seconds = [timed(step, device) for _ in range(steps + 3)][3:]
    except torch.OutOfMemoryError:
        return None
    return {
        "rate": sum(lengths) / median(seconds),
        "gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0,
        "flop": flop_per_token(getattr(network, "backbone", network), token_weighted_mean(lengths)),
    }


def timed(step: Step, device: str) -> float:
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def rows(name: str, corpus: str, device: str, steps: int, peak: float) -> list[str]:
    """One line for each way; the last column is the engine's ratio to the stock loop."""
    model, lengths = compose(model=name).model, LENGTHS[corpus]
    found = {way: measure(way, model, lengths, device, steps) for way in WAYS}
    lines = []
    for way, result in found.items():
        if result is None:
            lines.append(f"| {name} | {corpus} | {way} | out of memory | | | |")
            continue
        useful, beside = result["rate"] * result["flop"], found["PEFT, padded"]
        ratio = f"{result['rate'] / beside['rate']:.2f}×" if beside else ""
        lines.append(
            f"| {name} | {corpus} | {way} | {result['rate']:,.0f} | {result['gib']:.1f} "
            f"| {100 * useful / peak:.0f} % | {ratio} |"
        )
    return lines


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--corpora", nargs="+", default=list(LENGTHS), choices=list(LENGTHS))
    parser.add_argument("--steps", type=int, default=10, help="timed passes after three of warm-up")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks.gpu needs one NVIDIA GPU, and torch sees none here\n")
        raise SystemExit(2)
    peak = matmul_peak("cuda", torch.float16, side=8192, times=20)
    lines = ["| model | lengths | way | real tokens/s | peak GiB | of peak | beside stock |"]
    lines += ["|---|---|---|---:|---:|---:|---:|"]
    for name in options.models:
        for corpus in options.corpora:
            lines += rows(name, corpus, "cuda", options.steps, peak)
            sys.stderr.write("\n".join(lines[-2:]) + "\n")
    lines += [
        f"\nForward and backward over 16 sequences, median of {options.steps}; float16, dense, "
        f"vocabulary {VOCABULARY:,}. Peak: {peak / 1e12:.1f} TFLOP/s in an 8192³ float16 product. "
        "Work repeated by checkpointing is not counted as useful."
    ]
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    publish(
        "gpu",
        "Six real shapes on one GPU",
        lines,
        device=f"{torch.cuda.get_device_name()} (compute capability {capability}), {machine('peft')}",
    )


if __name__ == "__main__":
    main()
