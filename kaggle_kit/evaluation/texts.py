"""New texts, read by a trained model: they come in as a stream, and predictions go out as one.

    reader = TextReader(predictor, tokenizer, specs, passages, concepts)
    for sample in reader(["No history of diabetes."], "ncbi_disease"): ...
    for sample in reader(read_texts(Path("notes"), Access.PUBLIC)): ...

Texts are read half a million characters at a time, so memory does not grow with their number. Nothing of them
is written: token files are made in memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.encoded import encode_in_memory
from kaggle_kit.core.errors import ConfigError, CorpusError, nearest
from kaggle_kit.core.restricted import reading
from kaggle_kit.core.types import Access, Kind, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.formats.base import Line, Reading, checked, corpus_files, decode
from kaggle_kit.data.formats.jsonl import read_records, sample_of
from kaggle_kit.data.normalise import with_concepts
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.evaluation.predict import Predictor

Text = str | Mapping[str, Any] | UnifiedSample
SPLIT = "new"  # of what belongs to no corpus
CHARACTERS = 1 << 19  # that are read at once; a longer text is read alone


@dataclass(frozen=True)
class TextReader:
    """A trained model with all that prediction needs of its run: per task its specification, how documents
    are cut into passages, and what training mentions are called -> their concepts (empty where none are)."""

    predictor: Predictor
    tokenizer: PreTrainedTokenizerBase
    specs: Mapping[str, TaskSpec]
    passages: Mapping[str, PassageSettings]
    concepts: Mapping[str, dict[str, str]]

    def __call__(self, texts: Iterable[Text], task: str | None = None) -> Iterator[UnifiedSample]:
        """Yield one predicted sample per text, in order; `task` may be left out where there is one.

        Raises ConfigError for another task, CorpusError for a text that the task cannot read.
        """
        spec = self.specs[chosen_task(self.specs, task)]
        for samples in _portions(_sample(text, place, spec) for place, text in enumerate(texts, start=1)):
            yield from self._predict(spec, samples)

    def _predict(self, spec: TaskSpec, samples: list[UnifiedSample]) -> list[UnifiedSample]:
        bare = [replace(s, mentions=s.mentions if spec.gold_entities else (), relations=()) for s in samples]
        encoded = encode_in_memory(bare, spec, self.tokenizer, self.passages[spec.name])
        if not len(encoded):  # not a word in any of them
            return bare
        return with_concepts(self.concepts[spec.name], self.predictor.predict(encoded, bare))


def chosen_task(tasks: Iterable[str], task: str | None) -> str:
    """Return the task, or the only one that there is. ConfigError for any other, and where several are."""
    names = list(tasks)
    if task is None and len(names) == 1:
        return names[0]
    if task not in names:
        told = "there are several tasks and none was named" if task is None else f"there is no task {task!r}"
        raise ConfigError(f"{told}; allowed: {', '.join(names)}{nearest(task or '', names)}")
    return task


def ranks(spec: TaskSpec) -> bool:
    """Return whether the task orders the candidates of a question."""
    return spec.components[0].kind is Kind.RANKING


def read_texts(place: Path, access: Access) -> Iterator[UnifiedSample]:
    """Yield the texts of a file or of all below a folder: `.txt` is one text, `.jsonl` one a line.

    Raises CorpusError, in a folder also where there is no such file.
    """
    paths = corpus_files(place, ".txt", ".jsonl") if place.is_dir() else [place]
    if not paths or not paths[0].is_file() or paths[0].suffix.lower() not in (".txt", ".jsonl"):
        raise CorpusError(place, found="no text to read", expected="a .txt or .jsonl file, or such a folder")
    for path in paths:
        with reading(path, access):
            if path.suffix.lower() == ".jsonl":
                settings = Reading(SPLIT, access, strict=True)
                yield from (checked(one, path, settings) for one in read_records(path, settings))
            else:
                name = path.relative_to(place).with_suffix("").as_posix() if place.is_dir() else path.stem
                yield UnifiedSample(name, decode(path), SPLIT, access)


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
        raise CorpusError(f"text {place}", found=type(text).__name__, expected="a string, object or sample")
    if text.text is None:
        raise CorpusError(text.document_id, found="no text", expected="the document's text")
    if ranks(spec) and not text.pairs:
        expected = f"a question with candidates, which {spec.name} ranks (JSONL, `candidates`)"
        raise CorpusError(text.document_id, found="no candidates", expected=expected)
    if spec.gold_entities and not text.mentions and relation_parts(spec):
        expected = f"mentions, between which {spec.name} finds relations (JSONL, `mentions`)"
        raise CorpusError(text.document_id, found="no mentions", expected=expected)
    return text
