"""What a finished run costs to use: its size, and how fast it reads the texts of its own split.

rows = inference_rows(run, "semeval2014t7", Load(batches=(1, 8)))
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.evaluation.timing import MIB, REPEATS, timed
from kaggle_kit.experiment.load_trained_run import TrainedRun, judged_split
from kaggle_kit.models.decisions import POST_TRAINING
from kaggle_kit.models.merging import merged, model_bytes, why_unmergeable

AS_TRAINED, MERGED = "as trained", "merged"


@dataclass(frozen=True)
class Load:
    """Texts a request, requests that are timed, and what an hour of the machine costs in dollars."""

    batches: Sequence[int] = (1, 8)
    repeats: int = REPEATS
    dollars_per_hour: float = 0.0


def inference_rows(run: TrainedRun, task: str, load: Load) -> Iterator[dict[str, Any]]:
    """Yield a row for the model as trained, and for its adapters merged where that is possible, by batch.

    Read are the texts of the split that the run reports, without their gold.
    """
    texts = bare(run.samples(judged_split(run))[task], run.specs[task].gold_entities)
    tokens = run.encode({task: texts})[task].lengths.sum() / len(texts)
    decided = {name: run.backbone.decisions[name].value for name in ("quantization", "dtype", "device")}
    precision = decided["dtype"] if decided["quantization"] == "none" else decided["quantization"]
    common: dict[str, Any] = {
        "run": run.run.run_id,
        "task": task,
        "precision": precision,
        "device": decided["device"],
    }
    common["size MiB"] = model_bytes(run.model) / MIB
    mergeable, quantised = why_unmergeable(run.model) is None, precision in POST_TRAINING
    for way in (MERGED,) if quantised else (AS_TRAINED, MERGED) if mergeable else (AS_TRAINED,):
        with merged(run.model, task) if way == MERGED and mergeable else nullcontext():
            for batch in load.batches:
                found = timed(lambda some: list(run.predict(some, task)), texts, batch, load.repeats)
                row = found.row(load.dollars_per_hour)
                yield common | {"adapters": way} | row | {"tokens/s": row["texts/s"] * tokens}


def bare(samples: Sequence[UnifiedSample], keep_mentions: bool) -> list[UnifiedSample]:
    """Return texts as a user has them: without relations, and without mentions unless they are given."""
    return [replace(one, mentions=one.mentions if keep_mentions else (), relations=()) for one in samples]
