"""4-bit weights by GPTQ (Frantar et al. 2023) or AWQ (Lin et al. 2024), calibrated on texts of the tasks.

    check_quantisable(config.model, "gptq")      # before any work
    quantise(backbone, tokenizer, Calibration("gptq", rows, causal=False), out)

Quantised are the linear layers inside the backbone's layers. Embeddings and norms stay as they are. Stock
transformers loads what comes out, with gptqmodel and optimum installed.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from kaggle_kit.core.errors import ConfigError, unknown
from kaggle_kit.core.schema import ModelConfig
from kaggle_kit.models.decisions import QUANTISERS, assert_quantisers
from kaggle_kit.models.reading import layers_of

# The architectures that the library quantises and stock transformers reads back, each tried at toy size. It
# splits Phi-3's joint matrices, so the names no longer fit; with AWQ it cannot call Gemma-3; no encoder.
BOTH = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "smollm3", "olmo2")
QUANTISABLE = {"gptq": (*BOTH, "gemma3_text"), "awq": BOTH}
GROUPS = (128, 64, 32)  # inputs that share a scale; the largest that divides all widths is taken
OUTPUTS = {"gptq": 32, "awq": 64}  # the number of a matrix's outputs is a multiple of it
SCRIPT = Path(__file__).with_name("quantiser.py")


@dataclass(frozen=True)
class Calibration:
    """The method, the token ids of the texts by which errors are weighed, and how those are read."""

    method: str
    rows: Sequence[Sequence[int]]
    causal: bool


def check_quantisable(model: ModelConfig, method: str) -> None:
    """Raise ConfigError for an unknown method, an architecture that it lacks, and a missing library."""
    if method not in QUANTISABLE:
        raise unknown("quantisation", method, QUANTISABLE)
    if model.architecture not in QUANTISABLE[method]:
        raise ConfigError(
            f"model {model.name}: {method} takes no {model.architecture!r}; allowed: "
            f"{', '.join(QUANTISABLE[method])} (docs/share.md says why); export it without --quantise"
        )
    assert_quantisers(f"--quantise {method}")


def group_size(backbone: PreTrainedModel, method: str) -> int:
    """Return how many inputs share a scale. Raises ConfigError for a matrix whose shape the method lacks."""
    layers = {name: one for name, one in layers_of(backbone).named_modules() if isinstance(one, nn.Linear)}
    for name, layer in layers.items():
        if layer.in_features % GROUPS[-1] or layer.out_features % OUTPUTS[method]:
            raise ConfigError(
                f"layers.{name} is {layer.out_features} x {layer.in_features}; {method} takes outputs in "
                f"multiples of {OUTPUTS[method]} and inputs of {GROUPS[-1]}; choose another method or model"
            )
    return next(size for size in GROUPS if not any(one.in_features % size for one in layers.values()))


def quantise(
    backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, calibration: Calibration, out: Path
) -> int:
    """Write the quantised backbone and its tokenizer into `out`; return the size of its groups.

    Raises ConfigError where the library fails, with the last it said.
    """
    group = group_size(backbone, calibration.method)
    dtype = "float16" if calibration.method == "awq" else str(backbone.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as source:
        _save_language_model(backbone, Path(source), calibration.causal)
        tokenizer.save_pretrained(source)
        job = {"source": source, "out": str(out.resolve()), "method": calibration.method, "group": group}
        job |= {"dtype": dtype, "rows": [[int(token) for token in row] for row in calibration.rows]}
        variables = {"GPTQMODEL_CPU_WORKERS": "2"} | os.environ  # it fails on two cores otherwise
        done = subprocess.run(
            [sys.executable, "-P", str(SCRIPT)],
            cwd=source,  # the library writes logs where it stands
            input=json.dumps(job),
            env=variables,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    if done.returncode or not (out / "config.json").is_file():
        said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "nothing")
        raise ConfigError(f"{QUANTISERS[0]} failed ({said.strip()[:300]}); choose another method or model")
    _as_backbone(out / "config.json", type(backbone).__name__)
    tokenizer.save_pretrained(out)  # the library's may have another padding
    return group


def _save_language_model(backbone: PreTrainedModel, place: Path, causal: bool) -> None:
    """Save the backbone below a language-model head, without which the library takes none.

    The head is the embeddings' and takes no room; nothing reads it.
    """
    config = copy.deepcopy(backbone.config)
    config.tie_word_embeddings, config.is_causal = True, causal
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    setattr(model, model.base_model_prefix, backbone)
    model.tie_weights()
    model.save_pretrained(place)


def _as_backbone(path: Path, name: str) -> None:
    """Call the quantised model what it is again: a backbone without a head, read in either way."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("is_causal", None)
    path.write_text(json.dumps(config | {"architectures": [name]}, indent=2) + "\n", encoding="utf-8")
