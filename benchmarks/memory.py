"""Peak memory of a training run on a practice corpus and on one ten times as large.

    python -m benchmarks.memory

Each run has a process of its own, which reads the corpus, tokenises it, trains some steps and reports
its peak resident set. The corpus and the tiny model are made beforehand, the token files are not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import in_own_process, publish
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data import practice
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.training_session import open_trainer
from kaggle_kit.models.tiny import build_tiny

TIMES = (1, 10)
LIMIT = 10  # per cent


def configured(documents: int, steps: int, task: str, path: str | None = None) -> RunConfig:
    overrides = [f"practice.documents={documents}", f"training.max_steps={steps}"]
    overrides += ["profile.max_train_samples=null", *([f"model.path='{path}'"] if path else [])]
    return compose(task=task, overrides=overrides)


def worker(documents: int, steps: int, task: str, path: str) -> dict[str, int]:
    """Rows and tokens of the corpus, tokens trained on, peak resident bytes of this process."""
    config = configured(documents, steps, task, path)
    with tempfile.TemporaryDirectory() as folder:
        exp = Experiment(config, start_run(config, page="memory", run_dir=str(Path(folder, "run"))))
        open_trainer(exp, exp.plan).train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    encoded, trained = exp.encoded[task], sum(exp.plan.tokens.values())
    return {"rows": len(encoded), "corpus": int(encoded.lengths.sum()), "trained": trained, "peak": peak}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="semeval2014t7", choices=list(practice.FIVE))
    parser.add_argument("--documents", type=int, default=60, help="notes of the smaller corpus")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of each run")
    parser.add_argument("--worker", nargs=2, metavar=("DOCUMENTS", "MODEL"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.worker:
        documents, path = options.worker
        found = worker(int(documents), options.steps, options.task, path)
        sys.stdout.write("\n" + json.dumps(found) + "\n")
        return
    small = configured(options.documents, options.steps, options.task)
    path = str(build_tiny("llama", practice.corpus_text(small.practice)))
    same = ["--task", options.task, "--steps", str(options.steps)]
    found = []
    for times in TIMES:
        documents = times * options.documents
        with tempfile.TemporaryDirectory() as cache:
            os.environ["KAGGLE_KIT_CACHE"] = cache
            practice.cached(configured(documents, 1, options.task).practice, tasks=[options.task])
            found.append(in_own_process("benchmarks.memory", "--worker", str(documents), path, *same))
    lines = ["| corpus | rows | tokens | tokens trained on | peak MiB | growth | target |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for times, result in zip(TIMES, found, strict=True):
        growth = 100 * (result["peak"] / found[0]["peak"] - 1)
        target = f"< {LIMIT} %" if times > 1 else ""
        lines.append(
            f"| {times} × {options.documents} notes | {result['rows']:,} | {result['corpus']:,} "
            f"| {result['trained']:,} | {result['peak'] / 2**20:,.0f} | {growth:+.1f} % | {target} |"
        )
    lines += [f"\n{options.task}, tiny Llama, S1, {options.steps} optimiser steps; peak resident set."]
    publish("memory", "Peak memory beside the size of the corpus", lines)


if __name__ == "__main__":
    main()
