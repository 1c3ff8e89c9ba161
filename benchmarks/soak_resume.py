"""Kill training again and again, and count what it costs.

    python -m benchmarks.soak_resume --deaths 100 > benchmarks/results/soak_resume.md

A toy study (two practice tasks, a tiny random Llama, PCGrad, dropout, quick evaluation) trains in
child processes that die by SIGKILL: at random moments, and on purpose at the first step, between a
task's backward passes, inside an evaluation and inside a save. Every finished run is compared with
one that never died: weights, losses, token counts, the best step. Steps lost are those of a whole
checkpoint on the disk from which the next session did not go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from transformers import logging as transformers_logging  # noqa: E402

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import PlanSettings, StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.artifacts import RunFolder  # noqa: E402
from kaggle_kit.core.config import compose  # noqa: E402
from kaggle_kit.core.records import read_records  # noqa: E402
from kaggle_kit.core.schema import LoraSettings, RunConfig  # noqa: E402
from kaggle_kit.core.types import TaskSpec  # noqa: E402
from kaggle_kit.experiment.experiment import Experiment  # noqa: E402
from kaggle_kit.models import tiny  # noqa: E402
from kaggle_kit.models.adapters import SharedPrivateLoRA  # noqa: E402
from kaggle_kit.models.loading import load_backbone  # noqa: E402
from kaggle_kit.models.multitask import MultiTaskModel  # noqa: E402
from kaggle_kit.training import checkpoint  # noqa: E402
from kaggle_kit.training.arguments import training_arguments  # noqa: E402
from kaggle_kit.training.callbacks import QuickEvaluationCallback, StudyCallback, study_callbacks  # noqa: E402
from kaggle_kit.training.checkpoint import CheckpointManager  # noqa: E402
from kaggle_kit.training.resume import CheckpointCallback, train_session  # noqa: E402
from kaggle_kit.training.trainer import MultiTaskTrainer  # noqa: E402

TASKS = ("semeval2014t7", "semeval2017t3")
STEPS, SAVE_EVERY, EVALUATE_EVERY, SEED = 24, 5, 4, 7
MOMENTS = {"any moment": 6, "first step": 1, "backward": 2, "evaluation": 1, "save": 2}  # with weights
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Toy:
    config: RunConfig
    specs: dict[str, TaskSpec]
    encoded: dict[str, EncodedTask]
    plan: StepPlan


@dataclass
class Report:
    deaths: Counter[str] = field(default_factory=Counter)
    survived: int = 0  # deaths of runs that ended as if there had been none
    steps_lost: int = 0
    damaged: int = 0  # checkpoints: a death must never leave a half one
    runs: int = 0
    divergent: int = 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingTrainer(MultiTaskTrainer):
    """Dies where it is told: inside the n-th backward pass, counted over this session."""

    backwards_left = -1

    def _backward(self, *args: Any) -> torch.Tensor:
        self.backwards_left -= 1
        if self.backwards_left == 0:
            die()
        return super()._backward(*args)


def build(folder: Path) -> Toy:
    """Corpora, token files and the plan, once for all children."""
    os.environ["KAGGLE_KIT_CACHE"] = str(folder / "cache")
    tiny.SHAPE.update(SMALL)
    overrides = ["practice.documents=8", "practice.terms=20"]
    config = compose(
        model="tiny", task=list(TASKS), strategy="s2_shared", profile="smoke", overrides=overrides, seed=1
    )
    exp = Experiment(config)
    texts = [sample.text for sample in exp.corpora[TASKS[0]].splits["train"]]
    config.model.path = str(tiny.build_tiny("llama", texts, steps=0))
    encoded = exp.encode({name: exp.corpora[name].splits["train"] for name in TASKS})
    rows = {name: TaskRows(task.lengths, task.groups) for name, task in encoded.items()}
    settings = PlanSettings(effective_batch=4, max_steps=STEPS)
    return Toy(config, exp.specs, encoded, MultiTaskBatchSampler(rows, settings, SEED).plan())


def train(toy: Toy, folder: Path, moment: str = "", count: int = 0) -> None:
    """One session in a process of its own; writes `result.json` if it lives to the end of the run."""
    torch.manual_seed(1)
    loaded = load_backbone(toy.config.model, device="cpu")
    lora = LoraSettings(rank=8, alpha=16, dropout=0.1, targets=["q_proj", "v_proj", "down_proj"])
    adapters = SharedPrivateLoRA(loaded.backbone, lora, {"single": lora.rank})
    model = MultiTaskModel(adapters, toy.specs.values(), causal=True)
    made = training_arguments(
        toy.config.training, steps=len(toy.plan), output_dir=folder, seed=5, device="cpu"
    )
    made.disable_tqdm, made.logging_strategy = True, "no"
    run = RunFolder(folder)
    evaluation = Evaluation(model, count if moment == "evaluation" else -1)
    quick = QuickEvaluationCallback(evaluation, "norm", every=EVALUATE_EVERY, patience=100)
    keeper = CheckpointCallback(every=SAVE_EVERY)
    trainer = DyingTrainer(
        model,
        PlanDataset(toy.plan, toy.encoded),
        made,
        [Began(folder / "began"), *study_callbacks(run, quick), keeper],
        pcgrad_seed=4,
    )
    trainer.backwards_left = {"first step": 1, "backward": count}.get(moment, -1)
    if moment == "save":
        checkpoint.sync = counted(checkpoint.sync, count)
    logs = (run.events_jsonl, run.tokens_jsonl)
    manager = CheckpointManager(run.checkpoints, identity={"plan": toy.plan.sha256}, logs=logs)
    (folder / "ready").touch()
    end = train_session(trainer, manager, keeper)
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    result = {"weights": weights.hexdigest(), "best": quick.best_step, "resumed_from": end.resumed_from}
    (folder / "result.json").write_text(json.dumps(result))


class Evaluation:
    """A score that depends on the weights alone; dies at its n-th call."""

    def __init__(self, model: torch.nn.Module, dies_at: int) -> None:
        self.model, self.left = model, dies_at

    def __call__(self) -> dict[str, float]:
        self.left -= 1
        if self.left == 0:
            die()
        weights = [p.detach() for name, p in self.model.named_parameters() if "lora" in name]
        return {"norm": -float(sum(weight.square().sum() for weight in weights))}


class Began(StudyCallback):
    """Leaves the step that a session goes on from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.path.write_text(str(state.global_step))


def counted(function: Callable, count: int) -> Callable:
    """`function`, dying at its n-th call."""
    left = iter(range(count - 1, -1, -1))
    return lambda path: die() if next(left, -1) == 0 else function(path)


def session(toy: Toy, folder: Path, moment: str = "", count: int = 0, seconds: float = 600.0) -> bool:
    """Runs a child and kills it after `seconds` of training, unless it dies by itself; whether it died."""
    for name in ("ready", "began"):
        (folder / name).unlink(missing_ok=True)
    child = FORK.Process(target=quietly, args=(toy, folder, moment, count))
    child.start()
    while child.is_alive() and not (folder / "ready").exists():
        time.sleep(0.005)
    child.join(seconds)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a session ended with {child.exitcode}:\n{(folder / 'output.txt').read_text()}")
    return child.exitcode != 0


def quietly(toy: Toy, folder: Path, moment: str, count: int) -> None:
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    train(toy, folder, moment, count)


def outcome(folder: Path) -> dict[str, Any]:
    """What must be equal: everything but times."""
    kept = ("step", "losses", "grad_norm", "learning_rate", "quick_evaluation", "conflicts")
    events = [{key: event.get(key) for key in kept} for event in read_records(RunFolder(folder).events_jsonl)]
    result = json.loads((folder / "result.json").read_text())
    return {
        "weights": result["weights"],
        "best": result["best"],
        "events": events,
        "tokens": RunFolder(folder).tokens(),
    }


def whole_step(folder: Path) -> int:
    """The step of the newest checkpoint on the disk that is whole."""
    for path in checkpoint.list_checkpoints(RunFolder(folder).checkpoints):
        return checkpoint.read_checkpoint(path)[0]["step"]
    return 0


def soak(toy: Toy, folder: Path, deaths: int, generator: random.Random) -> Report:
    whole = folder / "whole"
    new_run(whole)
    begun = time.monotonic()
    session(toy, whole)
    usual = time.monotonic() - begun
    expected = outcome(whole)
    report = Report()
    while (died := report.deaths.total()) < deaths:
        place = folder / f"run-{report.runs}"
        new_run(place)
        while one_session(toy, place, usual, report, deaths, generator):
            pass
        same = outcome(place) == expected
        report.runs += 1
        report.divergent += not same
        report.survived += same * (report.deaths.total() - died)
        shutil.rmtree(place)
    return report


def one_session(
    toy: Toy, place: Path, usual: float, report: Report, deaths: int, generator: random.Random
) -> bool:
    """Whether the run has to go on; once enough have died, the last one may live."""
    enough = report.deaths.total() >= deaths
    moment = "" if enough else generator.choices(list(MOMENTS), list(MOMENTS.values()))[0]
    count = generator.randint(1, {"backward": 2 * STEPS, "evaluation": 3, "save": 30}.get(moment, 1))
    seconds = generator.uniform(0.0, 0.4 * usual) if moment == "any moment" else 600.0
    before = whole_step(place)
    died = session(toy, place, moment, count, seconds)
    if (place / "began").exists():  # else it died before its first step, or training was over
        report.steps_lost += max(0, before - int((place / "began").read_text()))
    report.damaged += len(list(RunFolder(place).checkpoints.glob(f"{checkpoint.DAMAGED}*")))
    report.deaths[moment] += died
    return died


def new_run(folder: Path) -> None:
    RunFolder.create(folder, "seed: 1\n", "00", {})


def table(report: Report, seconds: float) -> str:
    rows = {
        "deaths survived / deaths": f"{report.survived} / {report.deaths.total()}",
        **{f"of these, killed at: {moment}": count for moment, count in report.deaths.items() if moment},
        "steps lost beyond the last checkpoint": report.steps_lost,
        "checkpoints found damaged": report.damaged,
        "runs finished": report.runs,
        "divergent resumes": report.divergent,
    }
    head = f"SIGKILL, {date.today()}: runs of {STEPS} steps, saved every {SAVE_EVERY}; {seconds:.0f} s in all"
    return "\n".join(
        [head, "", "| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deaths", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(build(Path(folder)), Path(folder), arguments.deaths, random.Random(arguments.seed))
    print(table(report, time.monotonic() - begun))
    return int(report.steps_lost + report.divergent + report.damaged > 0)


if __name__ == "__main__":
    sys.exit(main())
