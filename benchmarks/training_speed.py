"""S1 beside the stock HuggingFace Trainer + PEFT: real tokens per second, or the final scores.

    python -m benchmarks.training_speed --model-path FOLDER            # speed, both models, both tasks
    python -m benchmarks.training_speed --model-path FOLDER --quality  # trained to the end, scored on dev

Same weights, tokens, labels, precision and effective batch. Ways are compared at equal dropout: that of the
frozen backbone is on (as the model declares it) in both, or off in both. Every timing has a process of its
own; the ways take turns, so that a machine that warms up or slows down does so for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.measuring import Clock, configured, flop_per_token, in_own_process, matmul_peak, publish
from benchmarks.stock import FASTER, AsNetwork, stock_trainer, token_weighted_mean
from kaggle_kit.core.runs import start_run
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.scoring import predictions_of
from kaggle_kit.experiment.training_session import open_trainer
from kaggle_kit.models.loading import source_of

WAYS = {
    "stock": "HF Trainer + PEFT, default collator",
    "grouped": "HF Trainer + PEFT, group_by_length",
    "engine": "kaggle_kit S1",
    "grouped_bf16": "HF Trainer + PEFT, group_by_length, bf16 autocast",
    "grouped_compiled": "HF Trainer + PEFT, group_by_length, torch.compile",
    "flat": "HF Trainer + PEFT, padding-free collator",
    "grouped_off": "HF Trainer + PEFT, group_by_length, backbone dropout off",
    "engine_off": "kaggle_kit S1, backbone dropout off",
}
OFF = "_off"  # the ending of a way without dropout in the frozen backbone
# The stock trainer groups by length inside windows of (here) 47 to 50 batches and takes each window from
# its longest sentences to its shortest: fewer steps would show it on its longest, fullest batches.
PERIOD = 50
MODELS = ["minilm", "llama8m"]
WORDS = ("ncbi_disease",)  # a label for every word
EXPERIMENT = {  # the settings of params/experiment
    "ncbi_disease": ["training.learning_rate=2e-3", "training.epochs=5"],
    "semeval2017t3": ["training.learning_rate=1e-3", "training.epochs=2"],
}


def worker(way: str, model: str, task: str, options: argparse.Namespace) -> dict[str, float]:
    """One training run in this process. Its rate, or with `quality` its seconds and its dev scores."""
    steps = [] if options.quality else [f"training.max_steps={options.steps + options.warmup}"]
    path = options.model_path if model == "minilm" else None
    own = EXPERIMENT.get(task, [])
    profile = "open" if task in EXPERIMENT else "smoke"
    dropout = f"training.backbone_dropout={0 if way.endswith(OFF) else 'null'}"
    settings = [*own, *steps, dropout, f"seed={options.seed}"]
    settings += [f"profile.max_train_samples={options.documents}"] if options.documents else []
    config = configured(model, [task], "s1_single", profile, path, *settings)
    exp = Experiment(config)
    encoded, plan = exp.encoded, exp.plan
    torch.manual_seed(config.seed)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        if way.startswith("engine"):
            exp.run = start_run(config, page="training_speed", run_dir=str(Path(folder, "run")))
            trainer = open_trainer(exp, plan)
            trainer.add_callback(EngineCount(clock, trainer))
            trainer.add_callback(clock)
        else:
            rows = sum(len(batch.rows) for step in plan.steps for batch in step.micro_batches)
            batch = round(rows / len(plan))  # a question's candidates stay together: more than asked for
            settings = {
                "batch": batch,
                "clock": clock,
                "folder": Path(folder),
                "grouped": way.startswith("grouped"),
                "faster": next((name for name in FASTER if way.endswith(name)), ""),
            }
            trainer = stock_trainer(config, encoded[task], source_of(config.model), **settings)
            exp.model = AsNetwork(trainer.model, exp.specs[task])
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    if options.quality:
        return {"seconds": seconds} | scores(exp)
    length = token_weighted_mean(encoded[task].lengths.tolist())
    flop = flop_per_token(exp.model.backbone if way.startswith("engine") else trainer.model, length)
    if way.startswith("engine"):  # a question that its candidates share is computed once
        flop *= 1 - sum(trainer.tokens.apart["shared"].values()) / sum(trainer.tokens.total.values())
    return clock.rates(options.warmup) | {"flop": flop, "peak": matmul_peak(), "seconds": seconds}


class EngineCount(TrainerCallback):
    """Tells the clock how many real tokens the engine has trained on; there is no padding to count."""

    def __init__(self, clock: Clock, trainer: Any) -> None:
        self.clock, self.trainer = clock, trainer

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.clock.real = self.clock.padded = sum(self.trainer.tokens.total.values())


def scores(exp: Experiment) -> dict[str, float]:
    """The task's primary figure on its development split, by the official rules."""
    ((name, task),) = exp.config.tasks.items()
    dev = exp.samples("dev")
    predicted = predictions_of(exp, exp.encode(dev)[name], dev[name])
    with tempfile.TemporaryDirectory() as folder:
        found = score_samples(task, dev[name], predicted, Path(folder))
    return {task.primary_metric: found[task.primary_metric]}


def measured(model: str, task: str, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Results by way; the ways alternate, each in a fresh process."""
    droppable = model != "llama8m"  # a decoder of the library has no dropout to turn off
    ways = [way for way in options.ways if droppable or not way.endswith(OFF)]
    if droppable or task not in WORDS:  # the collator knows no labels of a whole row, a BERT no bounds
        ways = [way for way in ways if way != "flat"]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(options.seeds if options.quality else options.rounds):
        for way in ways:
            asked = ["--worker", way, model, task, "--steps", options.steps, "--warmup", options.warmup]
            asked += ["--model-path", options.model_path] if options.model_path else []
            asked += ["--quality", "--seed", number + 1] if options.quality else []
            asked += ["--documents", options.documents] if options.documents else []
            found[way].append(once(options, asked))
            sys.stderr.write(f"{model} {task} round {number + 1} {way}: {found[way][-1]}\n")
    return found


def once(options: argparse.Namespace, asked: list[Any]) -> dict[str, float]:
    """A worker's result; one that `--keep` has already is not trained again."""
    words, kept = list(map(str, asked)), options.keep
    for line in kept.read_text().splitlines() if kept and kept.is_file() else ():
        entry = json.loads(line)
        if entry["asked"] == words:
            return entry["found"]
    found = in_own_process("benchmarks.training_speed", *words, OMP_NUM_THREADS=str(options.threads))
    if kept:
        with kept.open("a") as file:
            file.write(json.dumps({"asked": words, "found": found}) + "\n")
    return found


def rival(way: str) -> str:
    """The stock way with the same dropout and the least padding."""
    return "grouped" + OFF * way.endswith(OFF)


def ratio(ours: list[float] | None, theirs: list[float] | None) -> str:
    """The median over rounds of ours / theirs, as a table shows it; nothing where one was not run."""
    return f"{median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}×" if ours and theirs else ""


def speed_rows(model: str, task: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    peak = median(result["peak"] for results in found.values() for result in results)
    rate = {way: [result["rate"] for result in results] for way, results in found.items()}
    rows = []
    for way, results in found.items():
        flop = results[0]["flop"]
        useful = median(rate[way]) * flop
        rows.append(
            f"| {model} | {task} | {WAYS[way]} | {median(rate[way]):,.0f} "
            f"| {100 * fmean(result['padding'] for result in results):.1f} % | {flop / 1e6:.1f} "
            f"| {useful / 1e9:.0f} | {100 * useful / peak:.0f} % | {ratio(rate[way], rate.get('stock'))} "
            f"| {ratio(rate[way], rate.get(rival(way)))} |"
        )
    if ours := rate.get("engine"):
        stock = {way: some for way, some in rate.items() if not way.startswith("engine") and OFF not in way}
        fastest = max(stock, key=lambda way: median(stock[way]))
        rows.append(f"| | | *S1 beside {WAYS[fastest]}* | {ratio(ours, stock[fastest])} | | | | | | |")
    return [*rows, f"| | | *float32 matmul peak, 2048³* | | | | {peak / 1e9:.0f} | 100 % | | |"]


def quality_rows(model: str, task: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    rows = []
    seconds = {way: [result["seconds"] for result in results] for way, results in found.items()}
    (metric,) = found[next(iter(found))][0].keys() - {"seconds"}
    for way, results in found.items():
        scores = [result[metric] for result in results]
        spread = f" ± {stdev(scores):.4f}" if len(scores) > 1 else ""
        rows.append(
            f"| {model} | {task} | {WAYS[way]} | {metric} | {fmean(scores):.4f}{spread} "
            f"| {median(seconds[way]):.0f} | {ratio(seconds.get(rival(way)), seconds[way])} |"
        )
    return rows


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model-path", default=os.environ.get("KAGGLE_KIT_MODEL_MINILM"))
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--tasks", nargs="+", default=list(EXPERIMENT))
    parser.add_argument("--steps", type=int, default=PERIOD, help="timed optimiser steps")
    parser.add_argument("--warmup", type=int, default=8, help="steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quality", action="store_true", help="train to the end and score")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each way, with --quality")
    parser.add_argument("--documents", type=int, help="train on so many of the corpus; default: all")
    parser.add_argument("--keep", type=Path, help="JSON lines of finished runs, with which it goes on")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seed", type=int, default=42, help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=3, metavar=("WAY", "MODEL", "TASK"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.worker:
        sys.stdout.write("\n" + json.dumps(worker(*options.worker, options)) + "\n")
        return
    torch.set_num_threads(options.threads)  # what the table says of this machine
    cases = [(model, task) for model in options.models for task in options.tasks]
    if options.quality:
        lines = ["| model | task | way | metric | dev score, mean ± SD over seeds | seconds | to grouped |"]
        lines += ["|---|---|---|---|---:|---:|---:|"]
        rows, name, title = quality_rows, "training_quality", "S1 trained to the end beside HF Trainer + PEFT"
    else:
        lines = ["| model | task | way | real tokens/s | padding | MFLOP/token | useful GFLOP/s | of peak "]
        lines[0] += "| to default | to grouped, equal dropout |"
        lines += ["|---|---|---|---:|---:|---:|---:|---:|---:|---:|"]
        rows, name, title = speed_rows, "training_speed", "S1 beside HF Trainer + PEFT: training speed"
    for model, task in cases:
        lines += rows(model, task, measured(model, task, options))
    if not options.quality:
        lines += [
            f"\n{options.steps} optimiser steps after {options.warmup} of "
            f"warm-up, medians over {options.rounds} rounds of the ways in fresh processes. "
            "Useful FLOP per real token: 4N + 6·N_lora + 12·L·s·h; of the engine under causal attention "
            "less the share of tokens that a question's candidates have in common, which it computes once."
        ]
    else:
        size = f"{options.documents} documents" if options.documents else "the whole training split"
        lines += [
            f"\n{options.seeds} seeds, each trained to the end on {size}, scored on the whole dev split."
        ]
    part = "".join(f"_{model}" for model in options.models if options.models != MODELS)
    part += "".join(f"_{task}" for task in options.tasks if options.tasks != list(EXPERIMENT))
    publish("training_speed", title, lines, file=name + part)


if __name__ == "__main__":
    main()
