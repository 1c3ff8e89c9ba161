"""One real training page over five Kaggle sessions, two of them killed, beside an uninterrupted run.

    python -m benchmarks.chain

`kernels chain` talks through the real client to a stand-in of the service on this machine
(tests/kaggle_service), which executes what is pushed in clean folders. One session reaches its time
limit, one is asked to stop, one is killed in training, one is killed and leaves nothing, one
finishes; a push is refused, answers and downloads are cut off. What the chain brings home is compared
with the same page run on this machine in one go.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import publish
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.records import read_records
from kaggle_kit.data import practice
from kaggle_kit.models import tiny
from kaggle_kit.training.session import LIMIT_VARIABLE
from tests.kaggle_service.service import Fault, KaggleService, Session

ROOT = Path(__file__).resolve().parents[1]
PAGE, OWNER = "s2_shared", "jane"
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
EXPERIMENT = ["--task", "semeval2014t7,semeval2021t6", "--profile", "smoke"]
OVERRIDES = ["practice.documents=6", "practice.terms=20", "training.epochs=3", "training.learning_rate=3e-2"]
OVERRIDES += ["training.warmup=0", "training.checkpoint_every=3", "training.quick_every=4"]
TIMES = ("seconds", "samples_per_second", "tokens_per_second", "eta_seconds", "vram_gib")


@dataclass(frozen=True)
class Chained:
    """What became of the sessions, and the two finished runs."""

    sessions: list[Session]
    steps: list[int]  # what the chain knew after each session
    chained: RunFolder
    local: RunFolder
    said: str

    def differences(self) -> list[str]:
        """Names of what is not equal; empty for a perfect chain."""
        pairs = {
            "weights": (weights(self.chained), weights(self.local)),
            "losses": (losses(self.chained), losses(self.local)),
            "tokens": (self.chained.tokens(), self.local.tokens()),
            "predictions": (texts(self.chained), texts(self.local)),
            "metrics": (self.chained.metrics(), self.local.metrics()),
            "totals": (totals(self.chained), totals(self.local)),
        }
        return [name for name, (one, other) in pairs.items() if one != other or not one]


def weights(run: RunFolder) -> dict[str, str]:
    """sha256 of every file of the saved adapters and heads."""
    files = sorted(path for path in run.adapters.rglob("*.safetensors"))
    return {str(p.relative_to(run.path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def losses(run: RunFolder) -> list[dict]:
    return [{k: v for k, v in event.items() if k not in TIMES} for event in read_records(run.events_jsonl)]


def texts(run: RunFolder) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(run.predictions.glob("*.jsonl"))}


def totals(run: RunFolder) -> dict:
    kept = dict(run.manifest()["totals"])
    del kept["seconds"]
    return kept | {"plans": run.manifest()["plans"], "data": run.manifest()["data_hashes"]}


def faults() -> dict[int, Fault]:
    """By session. Step 1 is where the limit of the first one ends it."""
    return {
        1: Fault(environ={LIMIT_VARIABLE: "1e-6"}),
        2: Fault(kill_when=reached(6)),
        3: Fault(stop_when=reached(6)),
        4: Fault(kill_when=reached(9), lose_output=True),
    }


def reached(step: int):
    return lambda working: any(working.glob(f"runs/*/checkpoints/*/step-{step:06d}/manifest.json"))


def run_chain(folder: Path) -> Chained:
    """Both runs, below `folder`."""
    overrides = [*OVERRIDES, f"model.path={tiny_model(folder)}"]
    # One thread each: the two runs go on side by side, and their sums must come in the same order.
    # A stand-in's session counts from the start of this machine, which may be longer ago than the limit.
    shared = {"KAGGLE_KIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", LIMIT_VARIABLE: "1e6"}
    command = [sys.executable, "-m", "kaggle_kit"]
    where = ["--runs-dir", str(folder / "local")]
    once = subprocess.Popen(
        [*command, "run", PAGE, *EXPERIMENT, *where, *overrides],
        env=os.environ | shared | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with KaggleService(folder / "kaggle", faults=faults(), environ=shared) as service:
        service.answers = {"SaveKernel": [(200, {"error": "Maximum batch GPU session count of 2 reached."})]}
        service.drops = {"SaveKernel": ["", "after"], "GET": ["half"], "GetKernelSessionStatus": ["before"]}
        where = ["--runs-dir", str(folder / "chained"), "--out", str(folder / "built"), "--owner", OWNER]
        done = subprocess.run(
            [*command, "kernels", "chain", PAGE, *EXPERIMENT, *where, "--poll", "0.3", *overrides],
            env=service.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        sessions = [one for versions in service.kernels.values() for one in versions]
    _, said = once.communicate()
    if once.returncode:
        raise SystemExit(f"the uninterrupted run failed:\n{said[-3000:]}")
    if done.returncode:
        raise SystemExit(f"the chain failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    (link,) = (folder / "built" / "chains").glob("*/chain.json")
    steps = [one["step"] for one in json.loads(link.read_text())["sessions"]]
    return Chained(sessions, steps, only_run(folder / "chained"), only_run(folder / "local"), done.stdout)


def tiny_model(folder: Path) -> Path:
    """A Llama of two layers with random weights: every session loads the same files."""
    os.environ["KAGGLE_KIT_CACHE"] = str(folder / "cache")
    tiny.SHAPE.update(SMALL)
    config = compose(task="semeval2014t7", overrides=OVERRIDES[:2])
    return tiny.build_tiny("llama", practice.corpus_text(config.practice), steps=0)


def only_run(folder: Path) -> RunFolder:
    (path,) = (manifest.parent for manifest in folder.glob("*/manifest.json"))
    return RunFolder.open(path)


def report(result: Chained) -> list[str]:
    how = {
        1: "reached its time limit, paused",
        2: "SIGKILL in training; output readable, not mountable",
        3: "asked to stop by SIGTERM, paused",
        4: "SIGKILL in training; output lost",
    }
    lines = ["| session | what happened | ended | steps that came back | mounted |", "|---|---|---|---:|---|"]
    for one, step in zip(result.sessions, result.steps, strict=True):
        happened = how.get(one.version, "finished")
        mounted = f"output of session {one.mounts[0].rpartition('/')[2]}" if one.mounts else "nothing"
        lines.append(f"| {one.version} | {happened} | {one.status} | {step} | {mounted} |")
    different = result.differences()
    same = f"differences: {', '.join(different)}" if different else "no difference"
    steps = len(result.local.events())
    return [
        *lines,
        "",
        f"{PAGE}, {steps} optimiser steps. Weights (bytes), losses and gradient norms of every step, tokens "
        f"per task and step, predictions, metrics, totals, against one uninterrupted run: **{same}**.",
    ]


def main() -> int:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run_chain(Path(folder))
        publish("chain", "A run chained over Kaggle sessions", report(result))
        return int(bool(result.differences()))


if __name__ == "__main__":
    sys.exit(main())
