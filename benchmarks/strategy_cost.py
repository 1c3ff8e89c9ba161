"""What S2, S3a and S3b cost per real token beside S1, and PCGrad beside plain summed gradients.

    python -m benchmarks.strategy_cost --model-path FOLDER
    python -m benchmarks.strategy_cost --models llama8m --tasks semeval2014t7 semeval2017t3   # practice data

All train on the very same rows: S1 has a model for each task and steps of that task alone, the others
have one model and mixed steps. With `--batch total` a mixed step holds as many sequences as a step of
S1, so each task's micro-batch is smaller by the number of tasks; with `task` it holds as many of each
task, and the micro-batches are alike. They take turns step by step in one process, so that a drift of
the machine meets all of them, and each step's time is its median over the passes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from benchmarks.measuring import configured, publish
from kaggle_kit.batches.batch import PlanDataset, Step
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data import practice
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.preparation import plan_training
from kaggle_kit.experiment.training_session import make_trainer
from kaggle_kit.training.trainer import MultiTaskTrainer

TARGETS = {"s1_single": 1.0, "s2_shared": 1.02, "s3a_flat": 1.10, "s3b_hierarchical": 1.35}
SEQUENCES = 16  # of a step of S1
REAL = ("ncbi_disease", "semeval2017t3", "ddi2013")


@dataclass
class Contestant:
    """One way to train: its whole optimiser steps, ready to be called, and what each of them took."""

    steps: list[Callable[[], None]]
    tokens: int
    seconds: list[list[float]]

    def cost(self) -> float:
        """Seconds per real token: the sum of each step's median."""
        return sum(map(median, self.seconds)) / self.tokens


def contestant(parts: Sequence[tuple[MultiTaskTrainer, list[Step]]]) -> Contestant:
    calls = [whole_step(trainer, step) for trainer, steps in parts for step in steps]
    tokens = sum(batch.tokens for _, steps in parts for step in steps for batch in step.micro_batches)
    return Contestant(calls, tokens, [[] for _ in calls])


def whole_step(trainer: MultiTaskTrainer, step: Step) -> Callable[[], None]:
    """Gradients, clipping and the optimiser's step; reading and logging are left out everywhere."""

    def call() -> None:
        trainer.training_step(trainer.model, step)
        trained = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return call


def race(contestants: Mapping[str, Contestant], passes: int) -> None:
    """In turn, `passes` times over all steps after one that is not timed; fewer steps are spread evenly."""
    turns = [
        ((number + 0.5) / len(entrant.steps), number, entrant)
        for entrant in contestants.values()
        for number in range(len(entrant.steps))
    ]
    turns.sort(key=lambda turn: turn[0])
    for timed in [False] + [True] * passes:
        for _, number, entrant in turns:
            start = time.perf_counter()
            entrant.steps[number]()
            if timed:
                entrant.seconds[number].append(time.perf_counter() - start)


def only(encoded: EncodedTask, rows: Sequence[int]) -> EncodedTask:
    """The task as if the corpus held these rows alone."""
    kept = np.array(sorted(rows))
    parts = {name: getattr(encoded, name)[kept] for name in ("lengths", "overlap", "groups")}
    return replace(encoded, table=encoded.table.select(kept), **parts)


def drawn(plan: StepPlan) -> dict[str, list[int]]:
    """The rows of each task that a plan reads."""
    rows: dict[str, set[int]] = {}
    for step in plan.steps:
        for batch in step.micro_batches:
            rows.setdefault(batch.task, set()).update(batch.rows)
    return {task: sorted(numbers) for task, numbers in rows.items()}


def trainer_of(
    config: RunConfig, encoded: Mapping[str, EncodedTask], folder: Path, plan: StepPlan | None = None
) -> tuple[MultiTaskTrainer, list[Step]]:
    """A fresh model on all of `encoded`, and the steps of a plan over it (default: one epoch)."""
    exp = Experiment(config, RunFolder(folder))
    exp.encoded, exp.specs = encoded, {name: task.spec for name, task in encoded.items()}
    steps = PlanDataset(plan or exp.plan, encoded)
    trainer = make_trainer(exp, steps)
    trainer.create_optimizer()
    return trainer, [steps[number] for number in range(len(steps))]


def strategies(model: str, batch: str, options: argparse.Namespace, folder: Path) -> list[str]:
    """Rows of the first table: seconds per real token relative to S1."""
    path = options.model_path if model == "minilm" else None
    profile = "open" if set(options.tasks) <= set(REAL) else "smoke"
    times = len(options.tasks) if batch == "task" else 1
    length = [f"training.max_steps={math.ceil(options.steps / times)}"]
    length += [f"training.effective_batch={times * SEQUENCES}"]
    same_rows = "strategy.sampling=proportional"  # every row once, as S1 reads them
    base = configured(model, options.tasks, "s2_shared", profile, path, same_rows, *length)

    def config_of(strategy: str, tasks: list[str]) -> RunConfig:
        sequences = SEQUENCES if len(tasks) == 1 else times * SEQUENCES
        own = ["training.epochs=1", f"training.effective_batch={sequences}", same_rows]
        return configured(model, tasks, strategy, profile, base.model.path, *own)

    encoded = Experiment(base).encoded
    rows = drawn(plan_training(base, encoded))
    encoded = {task: only(encoded[task], numbers) for task, numbers in rows.items()}
    alone = {task: config_of("s1_single", [task]) for task in encoded}
    entrants = {
        "s1_single": contestant([trainer_of(alone[task], {task: encoded[task]}, folder) for task in encoded])
    }
    for name in list(TARGETS)[1:]:
        mixed = config_of(name, list(encoded))
        entrants[name] = contestant([trainer_of(mixed, encoded, folder)])
    race(entrants, options.passes)
    own = entrants["s1_single"].cost()
    return [
        f"| {model} | {batch} | {name} | {entrant.tokens:,} | {len(entrant.steps)} "
        f"| {1 / entrant.cost():,.0f} | {entrant.cost() / own:.3f} "
        f"| {'' if name == 's1_single' else f'≤ {TARGETS[name]:.2f}'} |"
        for name, entrant in entrants.items()
    ]


def surgery(options: argparse.Namespace, folder: Path) -> list[str]:
    """Rows of the second table: the same network and the same steps, all five tasks in each."""
    five = list(practice.FIVE)
    wide = [f"training.effective_batch={options.effective_batch}", "strategy.sampling=uniform"]
    configs = {
        pcgrad: configured(
            "llama8m", five, "s2_shared", "smoke", None, f"strategy.pcgrad={str(pcgrad).lower()}", *wide
        )
        for pcgrad in (False, True)
    }
    encoded = Experiment(configs[False]).encoded
    entrants = {}
    for pcgrad, config in configs.items():
        plan = plan_training(config, encoded)
        full = tuple(step for step in plan.steps if len(step.tokens) == len(five))[: options.steps]
        entrants[pcgrad] = contestant([trainer_of(config, encoded, folder, replace(plan, steps=full))])
    race(entrants, options.passes)
    plain, projected = entrants[False], entrants[True]
    ratios = [
        median(ours) / median(theirs) for ours, theirs in zip(projected.seconds, plain.seconds, strict=True)
    ]
    milliseconds = [1000 * fmean(map(median, entrant.seconds)) for entrant in (plain, projected)]
    overhead = 100 * (projected.cost() / plain.cost() - 1)
    return [
        f"| llama8m, five practice tasks | {len(plain.steps)} | {plain.tokens / len(plain.steps):,.0f} "
        f"| {milliseconds[0]:.0f} | {milliseconds[1]:.0f} | {overhead:+.1f} % "
        f"| {100 * (median(ratios) - 1):+.1f} % | ≤ 3 % |"
    ]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model-path", default=os.environ.get("KAGGLE_KIT_MODEL_MINILM"))
    parser.add_argument("--models", nargs="+", default=["minilm", "llama8m"], choices=["minilm", "llama8m"])
    parser.add_argument("--tasks", nargs="+", default=list(REAL))
    parser.add_argument("--batch", nargs="+", default=["task", "total"], choices=["task", "total"])
    parser.add_argument("--steps", type=int, default=24, help="mixed optimiser steps of the smaller kind")
    parser.add_argument("--passes", type=int, default=5, help="timed passes over all steps")
    parser.add_argument("--effective-batch", type=int, default=32, help="sequences a step, of PCGrad's table")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    lines = ["| model | same batch | strategy | real tokens | steps | tokens/s | cost beside S1 | target |"]
    lines += ["|---|---|---|---:|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        for model, batch in product(options.models, options.batch):
            lines += strategies(model, batch, options, Path(folder))
            sys.stderr.write("\n".join(lines[2:]) + "\n")
        lines += ["", "| PCGrad at K = 5 | steps | tokens a step | plain ms | PCGrad ms | overhead "]
        lines[-1] += "| median of steps | target |"
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|", *surgery(options, Path(folder))]
    lines += [
        f"\nTasks {', '.join(options.tasks)}; whole optimiser steps (gradients, clipping, AdamW), each "
        f"step's median over {options.passes} passes. PCGrad's include those that halve a task for the null."
    ]
    publish("strategy_cost", "What the strategies cost beside S1, and PCGrad beside a plain sum", lines)


if __name__ == "__main__":
    main()
