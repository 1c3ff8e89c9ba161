"""Several experiments on one machine, one per GPU at a time; one run is never spread over two.

    ended = run_side_by_side([["run", "s1_single_task", "--seed", "1"], […]], visible_gpus(), Path("logs"))

Two T4s finish two experiments in the time of one, while splitting each over both made published
QLoRA runs several times slower.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from kaggle_kit.core.runtime import KEPT_TO_ONE, logger, printed, python_path

PAUSED = 75  # the exit code of `run` for a run that its session was too short for


@dataclass(frozen=True, slots=True)
class Ended:
    """One experiment that ran: its arguments, the GPU it had ("" for none), exit code and log."""

    arguments: tuple[str, ...]
    gpu: str
    returncode: int
    log: Path

    @property
    def outcome(self) -> str:
        """finished, paused or failed, by the exit code."""
        return {0: "finished", PAUSED: "paused"}.get(self.returncode, "failed")


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA names them; asked of the driver, not of torch.

    All of them, too, where a kernel's first cell has kept its own page to one.
    """
    named = None if environ.get(KEPT_TO_ONE) else environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return (printed("nvidia-smi", "--query-gpu=index", "--format=csv,noheader") or "").split()


def run_side_by_side(
    experiments: Sequence[Sequence[str]],
    gpus: Sequence[str],
    logs: Path,
    program: Sequence[str] = (sys.executable, "-m", "kaggle_kit"),
) -> list[Ended]:
    """Run `program` with each experiment's arguments, as many at once as there are GPUs (at least one).

    Each sees its own GPU alone and logs to a file of its own. A failed one does not stop the others.
    """
    logs.mkdir(parents=True, exist_ok=True)
    free: SimpleQueue[str] = SimpleQueue()
    for gpu in gpus or [""]:
        free.put(gpu)

    def run(number: int, arguments: Sequence[str]) -> Ended:
        gpu, log = free.get(), logs / f"{number}.log"
        logger.info("GPU %s: %s", gpu or "none", " ".join(arguments))
        environ = os.environ | {"CUDA_VISIBLE_DEVICES": gpu, KEPT_TO_ONE: "", "PYTHONPATH": python_path()}
        try:
            with log.open("w", encoding="utf-8") as file:
                done = subprocess.run([*program, *arguments], env=environ, stdout=file, stderr=file)
        finally:
            free.put(gpu)
        return Ended(tuple(arguments), gpu, done.returncode, log)

    with ThreadPoolExecutor(max_workers=max(1, len(gpus))) as pool:
        return list(pool.map(run, range(1, len(experiments) + 1), experiments))
