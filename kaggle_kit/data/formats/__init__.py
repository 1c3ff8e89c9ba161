"""Reading and writing corpora by the name of their format.

samples = read("brat", folder, Reading(split="train"))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kaggle_kit.core.errors import ConfigError, CorpusError, nearest
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Problem, Reading, Tally, checked, line_of

FORMATS = ("share_pipe", "share_slots", "anafora", "cqa", "brat", "pubtator", "measeval")

__all__ = ["FORMATS", "Problem", "Reading", "Tally", "distinct", "format_module", "read", "write"]


def format_module(name: str) -> ModuleType:
    """The module that reads and writes a format; ConfigError for an unknown name."""
    if name not in FORMATS:
        raise ConfigError(
            f"unknown corpus format {name!r}; allowed: {', '.join(FORMATS)}{nearest(name, FORMATS)}"
        )
    return import_module(f"kaggle_kit.data.formats.{name}")


def read(name: str, folder: Path, reading: Reading) -> list[UnifiedSample]:
    """All samples of a folder (or of one file); the first unreadable file raises CorpusError."""
    module = format_module(name)
    found: list[tuple[Path, UnifiedSample]] = []
    files = _files(module, folder)
    for count, path in enumerate(files):
        try:
            samples = module.read_file(path, reading)
            if not samples:
                reading.warn(path, None, found="no document", expected=module.EXPECTED_FILES)
            found += [(path, checked(each, path, reading)) for each in samples]
        except CorpusError as error:
            error.files_read = count
            raise
    return distinct(found, reading)


def distinct(found: Iterable[tuple[Path, UnifiedSample]], reading: Reading) -> list[UnifiedSample]:
    """Each document once, under an id of its own.

    A document that comes again with the same text is dropped with a warning; the first one stands. Different
    documents whose files have one name, in different folders, are named by folder and name. Another text
    under an id that the files themselves give is rejected.
    """
    by_id: dict[str, list[tuple[Path, UnifiedSample]]] = {}
    for path, sample in found:
        by_id.setdefault(sample.document_id, []).append((path, sample))
    kept: list[UnifiedSample] = []
    for name, same in by_id.items():
        first: dict[object, tuple[Path, UnifiedSample]] = {}
        for path, sample in same:
            marks = [(mention.type, mention.fragments) for mention in sample.mentions]
            content = sample.text if sample.text is not None else str(marks)
            kept_one = first.setdefault(content, (path, sample))[1]
            if kept_one is not sample:
                equal = marks == [(mention.type, mention.fragments) for mention in kept_one.mentions]
                found_again = f"document {name!r} again" + ("" if equal else ", with other annotations")
                expected = "each document once; the first stands"
                reading.warn(path, line_of(sample.provenance), found=found_again, expected=expected)
        kept += _told_apart(name, list(first.values()), reading)
    return kept


def _told_apart(
    name: str, different: list[tuple[Path, UnifiedSample]], reading: Reading
) -> list[UnifiedSample]:
    """Samples of one id and different texts, renamed by the folders of their files where that is possible."""
    (first, one), *others = different
    named_by_file = all(path.name.startswith(name) for path, _ in different)
    if others and named_by_file and len({path.parent for path, _ in different}) == len(different):
        above = next(p for p in first.parents if all(path.is_relative_to(p) for path, _ in others))
        folders = [path.parent.relative_to(above) for path, _ in different]
        while len({folder.name for folder in folders}) == 1:  # `tsv`, or a note's own folder
            folders = [folder.parent for folder in folders]
        return [
            replace(sample, document_id=(folder / name).as_posix())
            for folder, (_, sample) in zip(folders, different, strict=True)
        ]
    for path, sample in others:
        found = f"document {name!r} with another text than in {first}"
        expected = "an id for one document; rename one, or remove it"
        reading.reject(CorpusError(path, line=line_of(sample.provenance), found=found, expected=expected))
    return [one]


def write(name: str, samples: Iterable[UnifiedSample], folder: Path) -> list[Path]:
    """Annotations in the format's own files below `folder`; texts are never written.

    Raises CorpusError for a document whose id would lead its file out of the folder.
    """
    samples, root = list(samples), folder.resolve()
    for sample in samples:
        place = (root / sample.document_id).resolve()
        if root not in place.parents:
            raise CorpusError(
                folder, found=f"document id {sample.document_id!r}", expected="a name, or a path below"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return format_module(name).write(samples, folder)


def _files(module: ModuleType, folder: Path) -> list[Path]:
    if not folder.exists():
        raise CorpusError(folder, found="no such file or folder", expected="a corpus folder")
    files = [folder] if folder.is_file() else module.find(folder)
    if not files:
        raise CorpusError(folder, found="no corpus file in it", expected=module.EXPECTED_FILES)
    return files
