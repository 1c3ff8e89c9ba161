"""What each document adds to a task's primary metric, and how the parts make the official figure.

    run.write_documents(name, split, document_statistics(task, gold, run.official(name)))
    ids, sums = document_table(run.read_documents(name, split))
    figure(sums.sum(axis=0))                 # the official primary metric

A document (a note, an abstract, a question with its thread) is what a bootstrap resamples; where several
come from one patient or one original question, the records name it as their `cluster`, and clusters are
resampled. Matching is the scorer ports' own. Two official figures are no F1 of hits and misses: MeasEval's is
a mean over rows, so a document's own mean is weighted by its rows; the closure F1 of Clinical TempEval counts
other hits for recall (`found`) than for precision (`tp`). Records hold ids and numbers, never text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.core.schema import TaskConfig
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import flat
from kaggle_kit.data.formats.share import field_of
from kaggle_kit.evaluation.metrics import documents

CLUSTERS = {  # format -> the part of a document's id that other documents share
    "share_pipe": r"(\d+)-\d+-.+",
    "share_slots": r"(\d+)-\d+-.+",
    "cqa": r"(.+?)(?:_R\d+)?",
}


def document_statistics(
    task: TaskConfig, gold: Sequence[UnifiedSample], folder: Path
) -> list[dict[str, Any]]:
    """Return one record per document of `gold`, in order, for the primary metric of `score_samples`.

    A document without anything to count is a record of zeros. Empty where the metric has no parts.
    """
    found = documents(task.scorer, folder / "gold", folder / "pred", task.primary_metric)
    if not found:
        return []
    first = next(iter(found.values()))
    zeros = {"value": 0.0, "weight": 0} if "value" in first else dict.fromkeys(first, 0)
    ids = [sample.document_id for sample in gold]
    parts = [found.get(_name(task, sample), zeros) for sample in gold]
    return [{"document": one, **cluster_of(task, one), **part} for one, part in zip(ids, parts, strict=True)]


def cluster_of(task: TaskConfig, document_id: str) -> dict[str, str]:
    """Return `cluster`: the patient of a ShARe note, the question of a cQA thread; empty elsewhere.

    Notes are named `00098-016139-DISCHARGE_SUMMARY`, after patient and stay; threads `Q268_R4`.
    """
    pattern = CLUSTERS.get(task.format)
    match = re.fullmatch(pattern, document_id.rpartition("/")[2]) if pattern else None
    return {"cluster": match[1]} if match else {}


def document_table(records: Iterable[Mapping[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Return document ids, and an array (documents, columns) whose sum over documents `figure` takes.

    Four columns for an F1 (tp, fp, found, fn), two for a mean (total, weight).
    """
    records = list(records)
    rows = [
        (r["tp"], r["fp"], r.get("found", r["tp"]), r["fn"])
        if "tp" in r
        else (r["value"] * r.get("weight", 1), r.get("weight", 1))
        for r in records
    ]
    return [record["document"] for record in records], np.array(rows, dtype=float)


def figure(sums: np.ndarray) -> np.ndarray:
    """Compute (..., columns) -> (...): the F1 of four summed columns, the mean of two; 0 where undefined."""
    if sums.shape[-1] == 2:
        return _ratio(sums[..., 0], sums[..., 1])
    tp, fp, found, fn = np.moveaxis(sums, -1, 0)
    precision, recall = _ratio(tp, tp + fp), _ratio(found, found + fn)
    return _ratio(2 * precision * recall, precision + recall)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)


def _name(task: TaskConfig, sample: UnifiedSample) -> str:
    """Return the document's name in its scorer: the ShARe scorers go by the name that stands in the lines."""
    if task.format in ("share_pipe", "share_slots"):
        return field_of(sample).lower() if task.format == "share_slots" else field_of(sample)
    return flat(sample.document_id) if task.format == "measeval" else sample.document_id
