"""How often do layers 1 and 2 of the contamination report find what is planted, and what is not there?

    python -m benchmarks.contamination --runs 100

Each run invents practice corpora of its own and pre-trains a small decoder on their training texts. Both
layers look at it untouched: the order of the test questions of 2017 Task 3 is random there, so that every
suspicion is a false alarm. Then the same decoder is trained on the test file in its order (layer 2 should
find it), and one test note is copied into the training notes of 2014 Task 7 (layer 1 should).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.measuring import publish
from kaggle_kit.core.config import compose
from kaggle_kit.data.exploration import find_corpora
from kaggle_kit.data.overlap import overlap_table
from kaggle_kit.evaluation import contamination
from kaggle_kit.models import tiny

ORDERED, NOTES = "semeval2017t3", "semeval2014t7"
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
PRETRAINING, MEMORISING = 20, 200  # steps


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


def one_run(seed: int) -> dict[str, float]:
    """What both layers find in one draw of corpora and weights, untouched and planted."""
    overrides = [f"practice.seed={seed}", "practice.documents=48", "practice.held_out=32"]
    corpora, _ = find_corpora(compose(task=[NOTES, ORDERED], strategy="s2_shared", overrides=overrides))
    threads, notes = (corpora[name].splits for name in (ORDERED, NOTES))
    training = [sample.text for splits in (threads, notes) for sample in splits["train"]]
    test = [sample.text for sample in threads["test"]]
    tokenizer = tiny.train_tokenizer(training)
    model = tiny.random_model("llama", len(tokenizer), seed)
    train_in_order(model, tokenizer, training, PRETRAINING, seed)
    rng = np.random.default_rng(seed)

    def p_value() -> float:
        return contamination.exchangeability(contamination.order_scores(model, tokenizer, test), rng).p

    leaked = [*notes["train"], replace(notes["test"][seed % len(notes["test"])], document_id="leaked")]
    found = {
        "layer 1, untouched": any(
            overlap_table(splits["test"], splits["train"])["flagged"].any() for splits in (threads, notes)
        ),
        "layer 1, planted": overlap_table(notes["test"], leaked)["flagged"].sum() == 1,
        "p, untouched": p_value(),
    }
    train_in_order(model, tokenizer, test, MEMORISING, seed)
    return found | {"p, planted": p_value()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    tiny.SHAPE.update(SMALL)
    found = []
    for seed in range(1, runs + 1):
        found.append(one_run(seed))
        sys.stderr.write(f"{seed} {found[-1]}\n")
    said = {name: np.array([run[name] for run in found]) for name in found[0]}
    level = contamination.ALPHA
    alarms = said["layer 1, untouched"] | (said["p, untouched"] <= level)
    rows = [
        ("untouched: layer 1 or 2 suspects", alarms, "at most 5 %"),
        ("untouched: layer 1 flags a document", said["layer 1, untouched"], "none"),
        (f"untouched: layer 2, p ≤ {level}", said["p, untouched"] <= level, "1 %"),
        ("untouched: layer 2, p ≤ 0.05", said["p, untouched"] <= 0.05, "5 %"),
        ("one test note in training: layer 1 flags it alone", said["layer 1, planted"], "all"),
        (f"test file learnt in order: layer 2, p ≤ {level}", said["p, planted"] <= level, "all"),
    ]
    lines = [f"| {runs} runs | found | expected |", "|---|---:|---|"]
    lines += [f"| {what} | {int(hits.sum())} | {expected} |" for what, hits, expected in rows]
    publish("contamination", "Contamination: planted and untouched", lines)


if __name__ == "__main__":
    main()
