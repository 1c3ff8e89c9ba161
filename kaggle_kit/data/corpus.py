"""A whole corpus as samples: its splits read, cut where the distribution lacks one, and hashed.

corpus = load_corpus(task, locate(task))
train = limit(corpus.splits["train"], 200, seed=42)
spec = task_spec(task, corpus)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kaggle_kit.core import restricted
from kaggle_kit.core.errors import CorpusError, CorpusMissing
from kaggle_kit.core.schema import ComponentConfig, TaskConfig
from kaggle_kit.core.types import Access, ComponentSpec, Kind, TaskSpec, UnifiedSample
from kaggle_kit.data import layout
from kaggle_kit.data.candidates import between_concepts, farthest, only_forward, seen_types
from kaggle_kit.data.formats import Problem, Reading, Tally, distinct, read
from kaggle_kit.data.formats.relevancy import LABELS_FROM
from kaggle_kit.data.marker import marked

RANKING_CLASSES = ("irrelevant", "relevant")


@dataclass(frozen=True)
class Corpus:
    """What was read of a corpus.

    `sha256` covers the files read (relative path and content), the text of every document, and labels that
    come from a file beside them.
    `practice` is true for synthetic text, whichever way it was found. `left_out`: documents that the training
    split lacks because another task is scored on their text (`experiment/leakage`).
    """

    task: TaskConfig
    root: Path
    splits: Mapping[str, tuple[UnifiedSample, ...]]
    warnings: tuple[Problem, ...]
    sha256: str
    files: int
    practice: bool
    left_out: tuple[str, ...] = ()

    @property
    def access(self) -> Access:
        """Who may see the text: synthetic text is everybody's, whatever the task's own notes are.

        One real note among synthetic ones keeps the corpus restricted.
        """
        real = any(s.access == Access.RESTRICTED for samples in self.splits.values() for s in samples)
        return Access(self.task.access) if real or not self.practice else Access.PUBLIC


def load_corpus(
    task: TaskConfig, root: Path, splits: Sequence[str] = ("train", "dev"), practice: bool = False
) -> Corpus:
    """The named splits of the corpus below `root`.

    Raises CorpusMissing for a split without files, CorpusError for the first malformed file.
    """
    digest, warnings, files, sources = hashlib.sha256(), [], 0, {}
    for source in sorted({_portion(task, split)[0] for split in splits}):
        found: list[tuple[Path, UnifiedSample]] = []
        tally = Tally()
        for path, outcome in _read(task, root, source, warnings, tally):
            if isinstance(outcome, CorpusError):
                outcome.files_read = files
                raise outcome
            files += 1
            _hash(digest, path.relative_to(root), path.read_bytes(), outcome)
            found += [(path, sample) for sample in outcome]
        for problem in tally.problems(root):
            raise CorpusError(
                problem.path,
                line=problem.line,
                found=f"in split {source} {problem.found}",
                expected=problem.expected,
                files_read=files,
            )
        sources[source] = distinct(found, Reading(strict=task.strict, warnings=warnings))
    read_splits = {split: tuple(_cut(task, split, sources)) for split in splits}
    found = marked(root)
    if practice or (found.all and _texts_within(task, root)):
        read_splits = {split: tuple(map(_publish, samples)) for split, samples in read_splits.items()}
    practice = practice or found.some
    return Corpus(task, root, read_splits, tuple(warnings), digest.hexdigest(), files, practice)


def check_corpus(task: TaskConfig, root: Path) -> list[Problem]:
    """Every problem of every file of every split; a split without files is a warning."""
    problems: list[Problem] = []
    for split in layout.splits(task):
        found: list[tuple[Path, UnifiedSample]] = []
        tally = Tally()
        try:
            for path, outcome in _read(task, root, split, problems, tally):
                if isinstance(outcome, CorpusError):
                    problems.append(_error(outcome))
                else:
                    found += [(path, sample) for sample in outcome]
            distinct(found, Reading(strict=task.strict, warnings=problems))
            problems += tally.problems(root)
        except CorpusError as error:
            problems.append(_error(error))
        except CorpusMissing:
            patterns = " | ".join(layout.globs(task, split))
            problems.append(Problem("warning", root, None, f"no file of split {split!r}", patterns))
    return problems


def task_spec(task: TaskConfig, corpus: Corpus) -> TaskSpec:
    """What a model must know of the task; labels the task leaves open come from the training split.

    A component of which the training split holds nothing is left out (`unlearnable` says which). Raises
    CorpusError where that leaves none.
    """
    gaps = unlearnable(task, corpus)
    components = tuple(_component(part, corpus) for part in task.components if part.name not in gaps)
    if not components:
        found = f"nothing in the training split for {', '.join(gaps)}"
        expected = "annotations of a component, or other components of the task"
        raise CorpusError(corpus.root, found=found, expected=expected, files_read=corpus.files)
    return TaskSpec(task.name, components, corpus.access, corpus.practice, task.gold_entities)


def unlearnable(task: TaskConfig, corpus: Corpus) -> dict[str, str]:
    """Component -> why nothing can be learnt of it; empty where the training split was not read."""
    train = corpus.splits.get("train")
    if train is None:
        return {}
    reasons = {}
    for part in task.components:
        what = "relations" if part.kind == Kind.RELATIONS else "mentions"
        if not _labels(part, corpus):
            reasons[part.name] = f"the training split has no {what}"
        elif part.kind == Kind.RELATIONS and not seen_types(_spec(part, corpus), train):
            reasons[part.name] = f"the training split has no {what} with its labels"
    return reasons


def limit(samples: Sequence[UnifiedSample], n: int | None, seed: int) -> tuple[UnifiedSample, ...]:
    """At most `n` samples drawn without replacement, in their old order; all of them for None."""
    if n is None or n >= len(samples):
        return tuple(samples)
    kept = np.random.default_rng(seed).choice(len(samples), size=n, replace=False)
    return tuple(samples[index] for index in sorted(kept))


def _error(error: CorpusError) -> Problem:
    return Problem("error", error.path, error.line, error.found, error.expected)


def _read(
    task: TaskConfig, root: Path, split: str, warnings: list[Problem], tally: Tally
) -> Iterator[tuple[Path, list[UnifiedSample] | CorpusError]]:
    """Each file of a split with its samples, or with the error that makes it unreadable."""
    paths = layout.files(task, root, split)
    if not paths:
        patterns = " | ".join(layout.globs(task, split)) or "nothing: the layout has no such split"
        raise CorpusMissing(
            f"no file of split {split!r} of {task.name!r} below {root}; looked for {patterns}"
        )
    text_folder = task.options.get("text_folder")
    for path in paths:
        texts = root / text_folder if text_folder else None
        reading = Reading(split, Access(task.access), root, texts, task.options, task.strict)
        try:
            with restricted.reading(path, task.access):
                outcome: list[UnifiedSample] | CorpusError = read(task.format, path, reading)
        except CorpusError as error:
            outcome = error
        warnings.extend(reading.warnings)
        tally.add(reading.tally)
        yield path, outcome if isinstance(outcome, CorpusError) else [_retype(task, s) for s in outcome]


def _retype(task: TaskConfig, sample: UnifiedSample) -> UnifiedSample:
    if not task.types:
        return sample
    mentions = tuple(replace(m, type=task.types.get(m.type, m.type)) for m in sample.mentions)
    return replace(sample, mentions=mentions)


def _portion(task: TaskConfig, split: str) -> tuple[str, float, float]:
    """The split on disk that a split is taken from, and its share [low, high) of the document hashes."""
    source = task.held_out[split].source if split in task.held_out else split
    low = 0.0
    for name, held_out in sorted(task.held_out.items()):
        if held_out.source == source:
            if name == split:
                return source, low, low + held_out.fraction
            low += held_out.fraction
    return source, low, 1.0


def _cut(
    task: TaskConfig, split: str, sources: Mapping[str, Sequence[UnifiedSample]]
) -> Iterator[UnifiedSample]:
    source, low, high = _portion(task, split)
    for sample in sources[source]:
        if low <= _place(sample.document_id) < high:
            yield sample if sample.split == split else replace(sample, split=split)


def _place(document_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, so a document never changes its split."""
    return int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:6]) / 2**48


def _spec(part: ComponentConfig, corpus: Corpus) -> ComponentSpec:
    return ComponentSpec(
        part.name,
        Kind(part.kind),
        part.level,
        _labels(part, corpus),
        part.scheme,
        part.loss_weight,
        part.max_span_length,
        part.attribute,
        part.relation_type,
        part.relation_attribute,
    )


def _component(part: ComponentConfig, corpus: Corpus) -> ComponentSpec:
    spec = _spec(part, corpus)
    if spec.kind is not Kind.RELATIONS or "train" not in corpus.splits:
        return spec
    train = corpus.splits["train"]
    return replace(
        spec,
        candidates=seen_types(spec, train),
        forward=only_forward(spec, train),
        farthest=farthest(spec, train),
        concepts=between_concepts(spec, train),
    )


def _labels(part: ComponentConfig, corpus: Corpus) -> tuple[str, ...]:
    if part.labels:
        return tuple(part.labels)
    train = corpus.splits.get("train", ())
    if part.kind == Kind.RANKING:
        return RANKING_CLASSES
    if part.kind == Kind.RELATIONS:
        found = {relation.type for sample in train for relation in sample.relations}
    else:
        found = {mention.type for sample in train for mention in sample.mentions}
    return tuple(sorted(found))


def _hash(digest: hashlib._Hash, path: Path, content: bytes, samples: Sequence[UnifiedSample]) -> None:
    parts = [path.as_posix().encode(), content]
    parts += [part.encode() for s in samples for part in (s.document_id, s.text or "")]
    parts += [repr(pair.relevant).encode() for s in samples if LABELS_FROM in s.metadata for pair in s.pairs]
    for part in parts:  # the length keeps neighbouring parts apart
        digest.update(len(part).to_bytes(8) + part)


def _texts_within(task: TaskConfig, root: Path) -> bool:
    """Whether the texts lie below the folder, whose marker knows them."""
    folder = task.options.get("text_folder")
    return not folder or (root / folder).resolve().is_relative_to(root.resolve())


def _publish(sample: UnifiedSample) -> UnifiedSample:
    return replace(sample, access=Access.PUBLIC)
