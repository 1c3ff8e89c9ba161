"""A run's token budget: found once on its GPU, kept in `batch.json`, the same in every session.

    config, note = settle_batch(config, run, network, loaded, encoded)
    plan = repack(plan, encoded, config.training.token_budget)

Only the shape of the micro-batches follows from it: the plan's steps, rows and tokens stay the same,
and so does the effective batch, which is counted in samples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.plan import StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.allocator import set_allocator
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import to_yaml
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runtime import GIB, SOURCE_ROOT, library_versions, logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment.memory_probe import ANSWER
from kaggle_kit.models.build import with_ranks
from kaggle_kit.models.decisions import Decision, always_checkpointed
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.autobatch import (
    GRAIN,
    SHARE,
    AutoBatchError,
    Found,
    Measured,
    Point,
    find_optimal_batch_size,
    layer_bytes,
)
from kaggle_kit.training.checkpoint import stored_facts

LONGEST_SEARCH = 900.0  # seconds; the best point so far is taken then


class ProbeFailed(AutoBatchError):
    """The measuring process ended or answered nonsense; the configured budget is still there."""


def settle_batch(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
) -> tuple[RunConfig, str]:
    """The configuration with the run's token budget, its layers checkpointed, and one line on why.

    What an earlier session of the run has settled stays, whatever the device: the plan depends on it.
    Raises AutoBatchError where not even the least budget fits the GPU.
    """
    earlier = settled(run)
    kept = earlier or _settle(config, network, loaded, encoded)
    if not run.batch_json.is_file():
        write_atomically(run.batch_json, to_json(kept, indent=2) + "\n")
    reason = kept["reason"]
    if earlier:
        where = f" on {kept['device']}" if kept["device"] != device_name(loaded) else ""
        reason = f"settled in an earlier session{where}: {reason}"
    budget, checkpointed = kept["token_budget"], kept["checkpointed_layers"]
    if checkpointed is not None:
        network.lora.checkpoint_layers(checkpointed)
        loaded.decisions["checkpointing"] = Decision(f"the first {checkpointed} layers", reason)
    loaded.decisions["token_budget"] = Decision(str(budget), reason)
    training = replace(config.training, token_budget=budget)
    return replace(config, training=training), f"micro-batches of {budget:,} tokens, {reason}"


def settled(run: RunFolder) -> dict[str, Any] | None:
    """What an earlier session has settled: from `batch.json`, else from the newest checkpoint."""
    if run.batch_json.is_file():
        return json.loads(run.batch_json.read_text(encoding="utf-8"))
    facts = (stored_facts(folder) for folder in sorted(run.checkpoints.glob("*/")))
    return next((told["batch"] for told in facts if told.get("batch")), None)


def as_built(config: RunConfig, network: MultiTaskModel) -> RunConfig:
    """The configuration with the model's real ranks, which an ablation solves for its page."""
    return replace(config, strategy=with_ranks(config.strategy, network.lora.ranks))


def repack(plan: StepPlan, encoded: Mapping[str, EncodedTask], token_budget: int) -> StepPlan:
    """The same steps (of the same part), rows and tokens in micro-batches of another budget."""
    if plan.settings.token_budget == token_budget:
        return plan
    rows = {name: encoded[name].plan_rows for name in plan.tasks}
    return MultiTaskBatchSampler(rows, replace(plan.settings, token_budget=token_budget), plan.seed).plan()


def device_name(loaded: Loaded) -> str:
    return torch.cuda.get_device_name() if loaded.decisions["device"].value == "cuda" else "cpu"


def _settle(
    config: RunConfig, network: MultiTaskModel, loaded: Loaded, encoded: Mapping[str, EncodedTask]
) -> dict[str, Any]:
    """What `batch.json` will say."""
    lengths = {name: TaskRows(task.lengths, task.groups).longest_group for name, task in encoded.items()}
    facts = {"device": device_name(loaded), "versions": library_versions(), "lengths": lengths}
    as_configured = {"token_budget": config.training.token_budget, "checkpointed_layers": None, **facts}
    if loaded.decisions["device"].value != "cuda":
        return as_configured | {"reason": "as configured: on a CPU memory is not the limit"}
    # where nothing is measured, all layers are checkpointed: without, 2,048 tokens of a 3B model fill a T4
    as_configured["checkpointed_layers"] = loaded.backbone.config.num_hidden_layers
    if not config.training.autobatch:
        return as_configured | {"reason": "as configured: training.autobatch is false"}
    try:
        found, limit = _search(config, network, loaded, lengths)
    except ProbeFailed as error:
        logger.warning("auto-batch: %s", error)
        return as_configured | {"reason": f"as configured: {error}"}
    best = found.best
    return facts | {
        "token_budget": best.point.token_budget,
        "checkpointed_layers": best.point.checkpointed,
        "reason": (
            f"the fastest of {len(found.measured)} points measured: {best.tokens_per_second:,.0f} tokens/s "
            f"with {best.point.checkpointed} layers checkpointed, peak {best.peak_bytes / GIB:.1f} of "
            f"{limit / GIB:.1f} GiB allowed"
        ),
        "measured": [asdict(one) for one in found.measured],
    }


def _search(
    config: RunConfig, network: MultiTaskModel, loaded: Loaded, lengths: Mapping[str, int]
) -> tuple[Found, int]:
    limit = int(SHARE * torch.cuda.mem_get_info()[1])
    least = _up(max(lengths.values()))
    most = max(least, _up(config.training.effective_batch * max(lengths.values())))
    begun = time.monotonic()
    with off_the_gpu(network, loaded.backbone.device), Probe(as_built(config, network)) as probe:
        found = find_optimal_batch_size(
            probe.measure,
            layers=probe.layers,
            limit_bytes=limit,
            least=least,
            most=most,
            layer_bytes=layer_bytes(loaded.backbone.config.hidden_size),
            fewest=probe.layers if always_checkpointed(config.model) else 0,
            enough=lambda: time.monotonic() - begun > LONGEST_SEARCH,
        )
    return found, limit


class Probe:
    """`batch_probe` in a process of its own, for as long as the block lasts."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def __enter__(self) -> Probe:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, "config.yaml")
        path.write_text(to_yaml(self.config), encoding="utf-8")
        paths = filter(None, (str(SOURCE_ROOT), os.environ.get("PYTHONPATH")))
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        set_allocator(environ, modules=())
        command = [sys.executable, "-m", "kaggle_kit.experiment.memory_probe", str(path)]
        self._log = Path(self._folder.name, "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environ
        )
        try:
            self.layers: int = self._answer()["layers"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def measure(self, point: Point) -> Measured:
        """ProbeFailed where the process has ended."""
        try:
            self._process.stdin.write(json.dumps(asdict(point)) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ProbeFailed(self._last_words()) from error
        told = self._answer()
        peak = told["peak"] if told["peak"] is not None else sys.maxsize
        measured = Measured(point, peak, told["resident"], told["speed"])
        logger.info(
            "auto-batch: %d tokens, %d layers checkpointed: %.1f GiB, %.0f tokens/s",
            point.token_budget,
            point.checkpointed,
            peak / GIB,
            measured.tokens_per_second,
        )
        return measured

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise ProbeFailed(self._last_words())

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or ["no reason given"]
        return f"the measuring process ended with {code}: {said[-1][:300]}"


@contextmanager
def off_the_gpu(network: MultiTaskModel, device: torch.device) -> Iterator[None]:
    """The model in main memory, so that the measuring process has the GPU to itself."""
    network.to("cpu")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        network.to(device)


def _up(tokens: int) -> int:
    return -(-tokens // GRAIN) * GRAIN
