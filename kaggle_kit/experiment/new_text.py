"""Prediction of new text with a run, and its way into files.

for sample in text_reader(exp)(["No history of diabetes."], "ncbi_disease"): ...
write_predictions(exp, "ncbi_disease", read_texts(Path("notes"), access), Destination(Path("out")))
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.core.errors import ConfigError, unknown
from kaggle_kit.core.restricted import for_files
from kaggle_kit.core.schema import FILES_OF
from kaggle_kit.data.formats import write
from kaggle_kit.evaluation.texts import Text, TextReader, ranks
from kaggle_kit.experiment import preparation, scoring

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

FORMATS = ("jsonl", "brat", "bigbio", "official")


@dataclass(frozen=True)
class Destination:
    """A folder for predictions, and one of `FORMATS`, of which `official` is that of the task's scorer."""

    folder: Path
    format: str = "jsonl"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigError(f"{self.folder} is there and not an empty folder; name a new one")


def text_reader(exp: "Experiment") -> TextReader:
    """Return what reads new text with the run's model as it stands."""
    passages = {name: preparation.passage_settings(exp, task) for name, task in exp.config.tasks.items()}
    return TextReader(scoring.predictor(exp), exp.backbone.tokenizer, exp.specs, passages, exp.concept_names)


def write_predictions(
    exp: "Experiment", task: str, texts: Iterable[Text], out: Destination
) -> dict[str, int]:
    """Write predictions as they are made; return how many documents, mentions, relations and ranked pairs.

    Of restricted text no word is written, as in a run folder. Raises ConfigError for two documents of a name.
    """
    if out.format in ("brat", "bigbio") and ranks(exp.specs[task]):
        raise ConfigError(f"format {out.format} holds no ranking, which {task} is; allowed: jsonl, official")
    counts = dict.fromkeys(("documents", "mentions", "relations", "pairs"), 0)
    own = FILES_OF[exp.config.tasks[task].scorer]
    seen: set[str] = set()
    for sample in exp.predict(texts, task):
        if sample.document_id in seen:
            raise ConfigError(f"two documents are called {sample.document_id!r}; give each a name of its own")
        seen.add(sample.document_id)
        write(own if out.format == "official" else out.format, [for_files(sample)], out.folder, append=True)
        counts["documents"] += 1
        for part in ("mentions", "relations", "pairs"):
            counts[part] += len(getattr(sample, part))
    return counts
