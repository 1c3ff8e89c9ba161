"""A whole corpus as samples: its splits read, cut where the distribution lacks one, and hashed.

corpus = load_corpus(task, locate(task))
train = limit(corpus.splits["train"], 200, seed=42)
spec = task_spec(task, corpus)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kaggle_kit.core import restricted
from kaggle_kit.core.errors import CorpusError, CorpusMissing
from kaggle_kit.core.schema import ComponentConfig, TaskConfig
from kaggle_kit.core.types import Access, ComponentSpec, Kind, TaskSpec, UnifiedSample
from kaggle_kit.data.candidates import between_concepts, farthest, only_forward, seen_types
from kaggle_kit.data.formats import Problem, Reading, Tally, distinct, read
from kaggle_kit.data.formats.cqa import LABELS_FROM
from kaggle_kit.data.locate import globs, split_files
from kaggle_kit.data.locate import splits as on_disk
from kaggle_kit.data.marker import check_marker
from kaggle_kit.data.segments import canonical

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
    """Read the named splits of the corpus below `root`.

    Raises CorpusMissing for a split without files, CorpusError for the first malformed file.
    """
    digest, files = hashlib.sha256(), 0
    warnings: list[Problem] = []
    sources: dict[str, list[UnifiedSample]] = {}
    for source in sorted({_portion(task, split)[0] for split in splits}):
        try:
            read_files = list(_read(task, root, source, warnings))
        except CorpusError as error:
            error.files_read += files
            raise
        files += len(read_files)
        for path, samples in read_files:
            _hash(digest, path.relative_to(root), path.read_bytes(), samples)
        sources[source] = distinct(read_files, Reading(strict=task.strict, warnings=warnings))
    read_splits = {split: tuple(_cut(task, split, sources)) for split in splits}
    found = check_marker(root)
    text_folder = root / (task.options.get("text_folder") or "")
    if practice or (found.all and text_folder.resolve().is_relative_to(root.resolve())):
        for split in splits:
            read_splits[split] = tuple(replace(sample, access=Access.PUBLIC) for sample in read_splits[split])
    practice = practice or found.some
    return Corpus(task, root, read_splits, tuple(warnings), digest.hexdigest(), files, practice)


def check_corpus(task: TaskConfig, root: Path) -> list[Problem]:
    """Return every problem of every file of every split; a split without files is a warning."""
    problems: list[Problem] = []
    for split in on_disk(task):
        try:
            read_files = list(_read(task, root, split, problems, stop=False))
            distinct(read_files, Reading(strict=task.strict, warnings=problems))
        except CorpusError as error:
            problems.append(Problem.from_error("error", error))
        except CorpusMissing:
            patterns = " | ".join(globs(task, split))
            problems.append(Problem("warning", root, None, f"no file of split {split!r}", patterns))
    return problems


def task_spec(task: TaskConfig, corpus: Corpus) -> TaskSpec:
    """Return the model's view of the task; labels the task leaves open come from the training split.

    A component of which the training split holds nothing is left out (`unlearnable` says which). Raises
    CorpusError where that leaves none.
    """
    gaps = unlearnable(task, corpus)
    components = tuple(_spec(part, corpus) for part in task.components if part.name not in gaps)
    if not components:
        found = f"nothing in the training split for {', '.join(gaps)}"
        expected = "annotations of a component, or other components of the task"
        raise CorpusError(corpus.root, found=found, expected=expected, files_read=corpus.files)
    return TaskSpec(task.name, components, corpus.access, corpus.practice, task.gold_entities)


def unlearnable(task: TaskConfig, corpus: Corpus) -> dict[str, str]:
    """Return component -> why nothing can be learnt of it; empty where the training split was not read."""
    reasons = {}
    for part in task.components if "train" in corpus.splits else []:
        relates = part.kind == Kind.RELATIONS
        if not (spec := _spec(part, corpus)).labels:
            reasons[part.name] = f"the training split has no {'relations' if relates else 'mentions'}"
        elif relates and not spec.candidates:
            reasons[part.name] = "the training split has no relations with its labels"
    return reasons


def contents(samples: Sequence[UnifiedSample]) -> str:
    """Return in words what samples hold: documents, mentions and relations by type, ranked candidates."""
    held = [f"{len(samples):,} document(s)"]
    for what in ("mentions", "relations"):
        types = Counter(item.type for sample in samples for item in getattr(sample, what))
        listed = ", ".join(f"{kind} {number:,}" for kind, number in types.most_common())
        held += [f"{types.total():,} {what} ({listed})"] if types else []
    pairs = [pair for sample in samples for pair in sample.pairs]
    relevant = sum(pair.relevant is True for pair in pairs)
    return ", ".join(held + ([f"{len(pairs):,} candidates ({relevant:,} relevant)"] if pairs else []))


def limit(samples: Sequence[UnifiedSample], n: int | None, seed: int) -> tuple[UnifiedSample, ...]:
    """Draw at most `n` samples without replacement, in their old order; all of them for None."""
    if n is None or n >= len(samples):
        return tuple(samples)
    kept = np.random.default_rng(seed).choice(len(samples), size=n, replace=False)
    return tuple(samples[index] for index in sorted(kept))


def fingerprint(sample: UnifiedSample) -> str | None:
    """Return the hash of a document's text, case and white space aside; None for one without text.

    Two corpora have a document in common where these are equal, whatever its ids. A sample is a whole
    document (sentences are cut when it is encoded), so one match is one note.
    """
    words = canonical(sample.text or "")
    return hashlib.sha256(words.encode()).hexdigest() if words else None


def fingerprints(samples: Iterable[UnifiedSample]) -> frozenset[str]:
    """Return the fingerprints of all documents that have text."""
    return frozenset(filter(None, map(fingerprint, samples)))


def _read(
    task: TaskConfig, root: Path, split: str, problems: list[Problem], stop: bool = True
) -> Iterator[tuple[Path, list[UnifiedSample]]]:
    """Each file of a split with its samples; an error is raised, or with `stop=False` put to the problems."""
    paths = split_files(task, root, split)
    if not paths:
        patterns = " | ".join(globs(task, split)) or "nothing: the layout has no such split"
        what = f"no file of split {split!r} of {task.name!r} below {root}"
        raise CorpusMissing(f"{what}; looked for {patterns}")
    text_folder = task.options.get("text_folder")
    texts = root / text_folder if text_folder else None
    tally = Tally()
    for count, path in enumerate(paths):
        reading = Reading(split, Access(task.access), root, texts, task.options, task.strict, problems, tally)
        try:
            with restricted.reading(path, task.access):
                samples = read(task.format, path, reading)
        except CorpusError as error:
            error.files_read = count
            if stop:
                raise
            problems.append(Problem.from_error("error", error))
        else:
            yield path, [_retype(task, sample) for sample in samples]
    for fault in tally.errors(root):
        fault.found, fault.files_read = f"in split {split} {fault.found}", len(paths)
        if stop:
            raise fault
        problems.append(Problem.from_error("error", fault))


def _retype(task: TaskConfig, sample: UnifiedSample) -> UnifiedSample:
    mentions = tuple(replace(m, type=task.types.get(m.type, m.type)) for m in sample.mentions)
    return replace(sample, mentions=mentions) if task.types else sample


def _portion(task: TaskConfig, split: str) -> tuple[str, float, float]:
    """Return the split on disk behind a split, and its share [low, high) of the document hashes."""
    source = task.held_out[split].source if split in task.held_out else split
    low = 0.0
    for name, held_out in sorted(task.held_out.items()):
        if name == split:
            return source, low, low + held_out.fraction
        low += held_out.fraction if held_out.source == source else 0
    return source, low, 1.0


def _cut(
    task: TaskConfig, split: str, sources: Mapping[str, Sequence[UnifiedSample]]
) -> Iterator[UnifiedSample]:
    source, low, high = _portion(task, split)
    for sample in sources[source]:
        # A number in [0, 1) that depends on the id alone, so a document never changes its split.
        place = int.from_bytes(hashlib.sha256(sample.document_id.encode()).digest()[:6]) / 2**48
        if low <= place < high:
            yield replace(sample, split=split)


def _spec(part: ComponentConfig, corpus: Corpus) -> ComponentSpec:
    spec = ComponentSpec(**vars(part) | {"kind": Kind(part.kind), "labels": _labels(part, corpus)})
    if spec.kind is not Kind.RELATIONS or (train := corpus.splits.get("train")) is None:
        return spec
    types, words = seen_types(spec, train), farthest(spec, train)
    forward, concepts = only_forward(spec, train), between_concepts(spec, train)
    return replace(spec, candidates=types, forward=forward, farthest=words, concepts=concepts)


def _labels(part: ComponentConfig, corpus: Corpus) -> tuple[str, ...]:
    if part.labels or part.kind == Kind.RANKING:
        return tuple(part.labels) or RANKING_CLASSES
    train = corpus.splits.get("train", ())
    items = (s.relations if part.kind == Kind.RELATIONS else s.mentions for s in train)
    return tuple(sorted({item.type for annotated in items for item in annotated}))


def _hash(digest: hashlib._Hash, path: Path, content: bytes, samples: Sequence[UnifiedSample]) -> None:
    parts = [path.as_posix().encode(), content]
    parts += [part.encode() for s in samples for part in (s.document_id, s.text or "")]
    parts += [repr(pair.relevant).encode() for s in samples if LABELS_FROM in s.metadata for pair in s.pairs]
    for part in parts:  # the length keeps neighbouring parts apart
        digest.update(len(part).to_bytes(8) + part)
