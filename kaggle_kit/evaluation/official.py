"""Score predicted samples with the task's own scorer, on files in the scorer's own format.

    figures = score_samples(task, gold, predicted, run.official(task.name))

Gold and predictions go through the same writer into `gold/` and `pred/`, so what is scored can be
handed to the organisers' script as it lies there. No text is written but what a format demands. Of a
restricted corpus none is: where a scorer counts the words of a mention, it reads files in the local cache.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_kit.core.artifacts import Metric
from kaggle_kit.core.cache import cache_dir
from kaggle_kit.core.restricted import for_files, reading
from kaggle_kit.core.schema import FILES_OF, TaskConfig
from kaggle_kit.core.types import NOTHING, UnifiedSample
from kaggle_kit.data.formats import write
from kaggle_kit.evaluation.metrics import score


def score_samples(
    task: TaskConfig, gold: Sequence[UnifiedSample], predicted: Sequence[UnifiedSample], folder: Path
) -> dict[str, float]:
    """Return the official figures of `predicted` against `gold`, under the scorer's own names."""
    marked = [replace(sample, metadata={**sample.metadata, "status": "gold"}) for sample in gold]
    sides = {"gold": marked, "pred": list(predicted)}
    kept = {name: [for_files(sample) for sample in samples] for name, samples in sides.items()}
    _write(task, kept, folder)
    if kept == sides:
        return score(task.scorer, folder / "gold", folder / "pred")
    with tempfile.TemporaryDirectory(dir=cache_dir("scoring")) as local, reading(folder, task.access):
        _write(task, sides, Path(local))
        return score(task.scorer, Path(local) / "gold", Path(local) / "pred")


def metrics_of(
    task: TaskConfig, figures: dict[str, float], gold: Sequence[UnifiedSample], split: str
) -> list[Metric]:
    """Return the figures as records: with unit, split, number of gold items and scorer."""
    items = sum(len(sample.mentions) + len(sample.pairs) for sample in gold)
    units = {name: "percent" if name.endswith("percent") else "fraction" for name in figures}
    scored = (split, items, task.scorer, task.name)
    return [Metric(name, value, units[name], *scored) for name, value in figures.items()]


def _write(task: TaskConfig, sides: Mapping[str, Sequence[UnifiedSample]], folder: Path) -> None:
    form = FILES_OF[task.scorer]
    for name, samples in sides.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        write(form, samples if form == task.format else map(_bare, samples), folder / name)


def _bare(sample: UnifiedSample) -> UnifiedSample:
    """Return a sample of a `GENERAL` format as a scorer's files hold it: without attributes and metadata."""
    mentions = (replace(mention, attributes=NOTHING) for mention in sample.mentions)
    links = (
        replace(link, id=f"R{n}", roles=("Arg1", "Arg2"), attributes=NOTHING)
        for n, link in enumerate(sample.relations, start=1)
    )
    return replace(sample, mentions=tuple(mentions), relations=tuple(links), metadata=NOTHING)
