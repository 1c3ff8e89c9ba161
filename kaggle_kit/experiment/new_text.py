"""Predict new text with a trained model: texts come in as a stream, predictions go out as one.

    for sample in predict_texts(exp, ["No history of diabetes."], "ncbi_disease"): ...
    write_predictions(exp, "ncbi_disease", read_texts(Path("notes")), Destination(Path("out"), "brat"))

Texts are read a few hundred at a time, so memory does not grow with their number, and nothing of them is
written but what the destination asks for: token files are made in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.batches.encoded import encode_in_memory
from kaggle_kit.core.errors import ConfigError, CorpusError, nearest
from kaggle_kit.core.restricted import for_files, reading
from kaggle_kit.core.schema import FILES_OF
from kaggle_kit.core.types import Access, Kind, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.formats import write
from kaggle_kit.data.formats.base import Line, Reading, checked, corpus_files, decode
from kaggle_kit.data.formats.jsonl import read_records, sample_of
from kaggle_kit.experiment import preparation, scoring

if TYPE_CHECKING:
    from kaggle_kit.experiment.experiment import Experiment

Text = str | Mapping[str, Any] | UnifiedSample
SPLIT = "new"  # of what belongs to no corpus
CHARACTERS = 1 << 19  # that are read at once; a longer text is read alone
FORMATS = ("jsonl", "brat", "bigbio", "official")


@dataclass(frozen=True)
class Destination:
    """A folder for predictions, and one of `FORMATS`, of which `official` is that of the task's scorer."""

    folder: Path
    format: str = "jsonl"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            hint = nearest(self.format, FORMATS)
            raise ConfigError(f"format {self.format!r}; allowed: {', '.join(FORMATS)}{hint}")
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigError(f"{self.folder} is there and not an empty folder; name a new one")


def predict_texts(exp: Experiment, texts: Iterable[Text], task: str | None = None) -> Iterator[UnifiedSample]:
    """Yield one predicted sample per text, in order.

    Raises ConfigError for a task that the run has not, CorpusError for a text that the task cannot read.
    """
    spec = exp.specs[chosen_task(exp, task)]
    for samples in _portions(_sample(text, place, spec) for place, text in enumerate(texts, start=1)):
        yield from _predict(exp, spec, samples)


def chosen_task(exp: Experiment, task: str | None) -> str:
    """Return the task, or the only one that there is. ConfigError for any other, and where several are."""
    names = list(exp.specs)
    if task is None and len(names) == 1:
        return names[0]
    if task not in names:
        told = "it has several tasks and none was named" if task is None else f"it has no task {task!r}"
        raise ConfigError(
            f"{exp.run.run_id}: {told}; allowed: {', '.join(names)}{nearest(task or '', names)}"
        )
    return task


def read_texts(place: Path, access: Access) -> Iterator[UnifiedSample]:
    """Yield the texts of a file or of all below a folder: `.txt` is one text, `.jsonl` one a line.

    Raises CorpusError, in a folder also where there is no such file.
    """
    paths = corpus_files(place, ".txt", ".jsonl") if place.is_dir() else [place]
    if not paths or not paths[0].is_file() or paths[0].suffix.lower() not in (".txt", ".jsonl"):
        raise CorpusError(
            place, found="no text to read", expected="a .txt or .jsonl file, or a folder of them"
        )
    for path in paths:
        with reading(path, access):
            if path.suffix.lower() == ".jsonl":
                settings = Reading(SPLIT, access, strict=True)
                yield from (checked(one, path, settings) for one in read_records(path, settings))
            else:
                name = path.relative_to(place).with_suffix("").as_posix() if place.is_dir() else path.stem
                yield UnifiedSample(name, decode(path), SPLIT, access)


def write_predictions(exp: Experiment, task: str, texts: Iterable[Text], out: Destination) -> dict[str, int]:
    """Write predictions as they are made; return how many documents, mentions, relations and ranked pairs.

    Of restricted text no word is written, as in a run folder. Raises ConfigError for two documents of a name.
    """
    if out.format in ("brat", "bigbio") and _ranks(exp.specs[task]):
        raise ConfigError(f"format {out.format} holds no ranking, which {task} is; allowed: jsonl, official")
    counts = dict.fromkeys(("documents", "mentions", "relations", "pairs"), 0)
    own = FILES_OF[exp.config.tasks[task].scorer]
    seen: set[str] = set()
    for sample in predict_texts(exp, texts, task):
        if sample.document_id in seen:
            raise ConfigError(f"two documents are called {sample.document_id!r}; give each a name of its own")
        seen.add(sample.document_id)
        write(own if out.format == "official" else out.format, [for_files(sample)], out.folder, append=True)
        counts["documents"] += 1
        for part in ("mentions", "relations", "pairs"):
            counts[part] += len(getattr(sample, part))
    return counts


def _portions(samples: Iterable[UnifiedSample]) -> Iterator[list[UnifiedSample]]:
    """Yield the samples in lists of about `CHARACTERS`."""
    portion: list[UnifiedSample] = []
    characters = 0
    for sample in samples:
        size = len(sample.text or "") + sum(len(pair.text) for pair in sample.pairs)
        if portion and characters + size > CHARACTERS:
            yield portion
            portion, characters = [], 0
        portion.append(sample)
        characters += size
    if portion:
        yield portion


def _sample(text: Text, place: int, spec: TaskSpec) -> UnifiedSample:
    """Return a text as a sample that the task can read."""
    if isinstance(text, str):
        text = {"text": text}
    if isinstance(text, Mapping):
        where, read = Path(f"text {place}"), Reading(SPLIT, spec.access, strict=True)
        text = checked(sample_of({"id": str(place), **text}, Line(where), read), where, read)
    if not isinstance(text, UnifiedSample):
        raise CorpusError(
            f"text {place}", found=type(text).__name__, expected="a string, an object or a sample"
        )
    if text.text is None:
        raise CorpusError(text.document_id, found="no text", expected="the document's text")
    if _ranks(spec) and not text.pairs:
        expected = f"a question with candidates, which {spec.name} ranks (JSONL, `candidates`)"
        raise CorpusError(text.document_id, found="no candidates", expected=expected)
    if spec.gold_entities and not text.mentions and relation_parts(spec):
        expected = f"mentions, between which {spec.name} finds relations (JSONL, `mentions`)"
        raise CorpusError(text.document_id, found="no mentions", expected=expected)
    return text


def _ranks(spec: TaskSpec) -> bool:
    return spec.components[0].kind is Kind.RANKING


def _predict(exp: Experiment, spec: TaskSpec, samples: list[UnifiedSample]) -> list[UnifiedSample]:
    given = spec.gold_entities
    bare = [replace(one, mentions=one.mentions if given else (), relations=()) for one in samples]
    settings = preparation.passage_settings(exp, exp.config.tasks[spec.name])
    encoded = encode_in_memory(bare, spec, exp.backbone.tokenizer, settings)
    if not len(encoded):  # not a word in any of them
        return bare
    predicted = scoring.predictions_of(exp, encoded, bare)
    return scoring.with_concepts(exp.concept_names[spec.name], predicted)
