"""How often do layers 1 and 2 of the contamination report find what is planted, and what is not there?

    python -m benchmarks.contamination --draws 100 --planted 5 --first 101

A small decoder is pre-trained on invented question threads of 2017 Task 3. Every draw invents other threads.
Both layers look at them untouched: the order of the test questions is random, so that every suspicion is a
false alarm. In the first draws a copy of the decoder is then trained on the file of the test questions in its
order (layer 2 should find it), and one test thread is copied into training (layer 1 should).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.measuring import publish
from kaggle_kit.core.config import compose
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.exploration import find_corpora
from kaggle_kit.data.overlap import overlap_table
from kaggle_kit.evaluation import contamination
from kaggle_kit.models import tiny

TASK = "semeval2017t3"
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
PRETRAINING, MEMORISING = 60, 200  # steps


def train_in_order(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], steps: int, seed: int
) -> None:
    """Next-token training on stretches of a file that holds the texts in this order, a line each."""
    stream = torch.tensor(tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    length = min(64, len(stream) - 1)
    for _ in range(steps):
        starts = torch.randint(len(stream) - length, (8, 1), generator=generator)
        rows = stream[starts + torch.arange(length + 1)]  # (8, length + 1)
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()


def threads(seed: int) -> tuple[Sequence[UnifiedSample], Sequence[UnifiedSample]]:
    """The training and test threads of one draw."""
    overrides = [f"practice.seed={seed}", "practice.documents=32", "practice.held_out=32"]
    splits = find_corpora(compose(task=TASK, overrides=overrides))[0][TASK].splits
    return splits["train"], splits["test"]


def one_draw(
    seed: int, planted: bool, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    """What both layers find in one draw of threads, untouched and `planted`."""
    train, held_out = threads(seed)
    test, rng = [sample.text for sample in held_out], np.random.default_rng(seed)

    def p_value() -> float:
        return contamination.exchangeability(contamination.order_scores(model, tokenizer, test), rng).p

    found = {"p": p_value(), "flagged": overlap_table(held_out, train)["flagged"].sum()}
    if planted:
        leaked = replace(held_out[seed % len(held_out)], document_id="leaked")
        found["flagged, planted"] = overlap_table(held_out, [*train, leaked])["flagged"].sum()
        model = deepcopy(model)
        train_in_order(model, tokenizer, test, MEMORISING, seed)
        found["p, planted"] = p_value()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--planted", type=int, default=10, help="draws in which something is planted, too")
    parser.add_argument("--first", type=int, default=1, help="seed of the first draw")
    arguments = parser.parse_args()
    tiny.SHAPE.update(SMALL)
    texts, runs = [sample.text for sample in threads(seed=0)[0]], []
    tokenizer = tiny.train_tokenizer(texts)
    model = tiny.random_model("llama", len(tokenizer), seed=0)
    train_in_order(model, tokenizer, texts, PRETRAINING, seed=0)
    for number in range(arguments.draws):
        seed = arguments.first + number
        runs.append(one_draw(seed, number < arguments.planted, model, tokenizer))
        sys.stderr.write(f"{seed} {runs[-1]}\n")
    found, level = pd.DataFrame(runs), contamination.ALPHA
    planted = found.dropna()
    rows = [
        (
            "untouched: one of both layers suspects",
            (found["flagged"] > 0) | (found["p"] <= level),
            "at most 5 %",
        ),
        ("untouched: layer 1 flags a document", found["flagged"] > 0, "none"),
        (f"untouched: layer 2, p ≤ {level}", found["p"] <= level, "1 %"),
        ("untouched: layer 2, p ≤ 0.05", found["p"] <= 0.05, "5 %"),
        ("one test thread in training: layer 1 flags it alone", planted["flagged, planted"] == 1, "all"),
        (f"test file learnt in order: layer 2, p ≤ {level}", planted["p, planted"] <= level, "all"),
    ]
    lines = ["| what | found | of draws | expected |", "|---|---:|---:|---|"]
    lines += [f"| {what} | {hits.sum()} | {len(hits)} | {expected} |" for what, hits, expected in rows]
    publish("contamination", "Contamination: planted and untouched", lines)


if __name__ == "__main__":
    main()
