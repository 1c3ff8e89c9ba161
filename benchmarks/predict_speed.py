"""Prediction of new text beside the token-classification pipeline of transformers.

    python -m benchmarks.predict_speed --run RUN --model-path FOLDER

RUN is a finished single-task run of mentions, trained on the backbone in FOLDER. Both sides read the same
texts (the corpus's development split) from strings to mentions, in float32. The pipeline has the backbone
without adapters and one linear layer, at each of its batch sizes; ways take turns in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from benchmarks.measuring import publish
from kaggle_kit.data.segments import sentences
from kaggle_kit.experiment.load_trained_run import TrainedRun, load_trained_run

BATCHES = (1, 8, 32)
LONGEST = 512  # tokens that the pipeline reads of a text; what is longer it cuts into windows
STRIDE = 64


def stock(folder: str, labels: int, batch: int) -> Callable[[list[str]], int]:
    """Predict by the pipeline; returns how many mentions there are."""
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=LONGEST)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForTokenClassification.from_pretrained(folder, num_labels=labels)
    reader = pipeline(
        "token-classification", model, tokenizer=tokenizer, aggregation_strategy="simple", stride=STRIDE
    )
    return lambda texts: sum(len(found) for found in reader(texts, batch_size=batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, metavar="RUN")
    parser.add_argument("--model-path", required=True, metavar="FOLDER")
    parser.add_argument("--texts", type=int, default=100, help="documents of the development split")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    run = load_trained_run(options.run, options.model_path)
    ((task, samples),) = run.samples("dev").items()
    documents = [sample.text for sample in samples[: options.texts] if sample.text]
    cut = [text[start:end] for text in documents for start, end in sentences(text)]
    rows = ["| texts | way | texts/s | seconds, median | time of the pipeline over ours, median of rounds |"]
    rows += ["|---|---|---:|---:|---:|"]
    for name, texts in {"documents": documents, "sentences": cut}.items():
        rows += measured(f"{len(texts)} {name} of {task}", texts, run, options)
    publish("predict_speed", "New text beside the pipeline of transformers", rows)


def measured(title: str, texts: list[str], run: TrainedRun, options: argparse.Namespace) -> list[str]:
    (spec,) = run.specs.values()
    labels = 1 + 2 * len(spec.components[0].labels)
    ways: dict[str, Callable[[list[str]], int]] = {
        f"pipeline, batch_size={batch}": stock(options.model_path, labels, batch) for batch in BATCHES
    }
    ways["kaggle_kit predict"] = lambda texts: sum(len(one.mentions) for one in run.predict(texts))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):  # the first round warms up
        for name, way in ways.items():
            start = time.perf_counter()
            way(texts)
            seconds[name].append(time.perf_counter() - start)
    rows, ours = [], seconds["kaggle_kit predict"][1:]
    for name, taken in seconds.items():
        middle = median(taken[1:])
        ratio = median(theirs / own for theirs, own in zip(taken[1:], ours, strict=True))
        rows.append(f"| {title} | {name} | {len(texts) / middle:.1f} | {middle:.2f} | {ratio:.2f}× |")
    return rows


if __name__ == "__main__":
    main()
