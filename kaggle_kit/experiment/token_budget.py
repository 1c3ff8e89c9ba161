"""A run's token budget: found once on its GPU, kept in `batch.json`, the same in every session.

    note = find_token_budget(exp)                 # sets exp.config.training.token_budget
    plan = repack(plan, exp.encoded, exp.config.training.token_budget)

Only the shape of the micro-batches follows from it: the plan's steps, rows and tokens stay the same,
and so does the effective batch, which is counted in samples.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.records import write_json
from kaggle_kit.core.runtime import GIB, library_versions, logger
from kaggle_kit.experiment.memory_probe import MeasuringProcess, ProbeFailed
from kaggle_kit.models.build import with_ranks
from kaggle_kit.models.decisions import Decision, always_checkpointed
from kaggle_kit.training.autobatch import GRAIN, SHARE, Found, find_optimal_batch_size, layer_bytes
from kaggle_kit.training.checkpoint import stored_facts

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

MAX_SEARCH_SECONDS = 900.0  # the best point so far is taken then


def find_token_budget(exp: "Experiment") -> str:
    """Set the run's token budget in `exp.config`, checkpoint the layers that it needs, and return why.

    What an earlier session of the run has found stays, whatever the device: the plan depends on it.
    Raises AutoBatchError where not even the least budget fits the GPU.
    """
    saved = saved_token_budget(exp.run)
    facts = saved or _found_or_configured(exp)
    if not exp.run.batch_json.is_file():
        write_json(exp.run.batch_json, facts)
    reason = facts["reason"]
    if saved:
        device = f" on {facts['device']}" if facts["device"] != device_name(exp) else ""
        reason = f"settled in an earlier session{device}: {reason}"
    budget, checkpointed = facts["token_budget"], facts["checkpointed_layers"]
    decisions = exp.backbone.decisions
    if checkpointed is not None:
        exp.model.lora.checkpoint_layers(checkpointed)
        decisions["checkpointing"] = Decision(f"the first {checkpointed} layers", reason)
    decisions["token_budget"] = Decision(str(budget), reason)
    exp.config = replace(exp.config, training=replace(exp.config.training, token_budget=budget))
    return f"micro-batches of {budget:,} tokens, {reason}"


def saved_token_budget(run: RunFolder) -> dict[str, Any] | None:
    """Return what an earlier session has found: from `batch.json`, else from the newest checkpoint."""
    if run.batch_json.is_file():
        return json.loads(run.batch_json.read_text(encoding="utf-8"))
    facts = (stored_facts(folder) for folder in sorted(run.checkpoints.glob("*/")))
    return next((stored["batch"] for stored in facts if stored.get("batch")), None)


def repack(plan: StepPlan, encoded: Mapping[str, EncodedTask], token_budget: int) -> StepPlan:
    """Return the same steps (of the same part), rows and tokens in micro-batches of another budget."""
    if plan.settings.token_budget == token_budget:
        return plan
    rows = {name: encoded[name].plan_rows for name in plan.tasks}
    return MultiTaskBatchSampler(rows, replace(plan.settings, token_budget=token_budget), plan.seed).plan()


def device_name(exp: "Experiment") -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name() if exp.backbone.decisions["device"].value == "cuda" else "cpu"


def _found_or_configured(exp: "Experiment") -> dict[str, Any]:
    """Return the content of `batch.json`."""
    lengths = {name: TaskRows(task.lengths, task.groups).longest_group for name, task in exp.encoded.items()}
    facts: dict[str, Any] = {"device": device_name(exp), "versions": library_versions(), "lengths": lengths}
    facts |= {"token_budget": exp.config.training.token_budget, "checkpointed_layers": None}
    if exp.backbone.decisions["device"].value != "cuda":
        return facts | {"reason": "as configured: on a CPU memory is not the limit"}
    # where nothing is measured, all layers are checkpointed: without, 2,048 tokens of a 3B model fill a T4
    facts["checkpointed_layers"] = exp.backbone.backbone.config.num_hidden_layers
    if not exp.config.training.autobatch:
        return facts | {"reason": "as configured: training.autobatch is false"}
    limit = int(SHARE * torch.cuda.mem_get_info()[1])
    try:
        found = _search(exp, lengths, limit)
    except ProbeFailed as error:
        logger.warning("auto-batch: %s", error)
        return facts | {"reason": f"as configured: {error}"}
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


def _search(exp: "Experiment", lengths: Mapping[str, int], limit_bytes: int) -> Found:
    longest = max(lengths.values())
    ends = (longest, exp.config.training.effective_batch * longest)
    least, most = (-(-tokens // GRAIN) * GRAIN for tokens in ends)
    built = replace(exp.config, strategy=with_ranks(exp.config.strategy, exp.model.lora.ranks))
    begun = time.monotonic()
    with _off_the_gpu(exp), MeasuringProcess(built) as process:
        return find_optimal_batch_size(
            process.measure,
            layers=process.layers,
            limit_bytes=limit_bytes,
            least=least,
            most=most,
            layer_bytes=layer_bytes(exp.backbone.backbone.config.hidden_size),
            fewest=process.layers if always_checkpointed(exp.config.model) else 0,
            enough=lambda: time.monotonic() - begun > MAX_SEARCH_SECONDS,
        )


@contextmanager
def _off_the_gpu(exp: "Experiment") -> Iterator[None]:
    """Keep the model in main memory, so that the measuring process has the GPU to itself."""
    device = exp.backbone.backbone.device
    exp.model.to("cpu")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        exp.model.to(device)
