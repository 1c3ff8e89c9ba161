"""Reading and writing corpora by the name of their format.

samples = read("brat", folder, Reading(split="train"))
"""

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kaggle_kit.core.errors import CorpusError, unknown
from kaggle_kit.core.schema import FORMATS
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Problem, Reading, Tally, checked, leftover, origin

__all__ = ["FORMATS", "Problem", "Reading", "Tally", "distinct", "format_module", "read", "write"]


def format_module(name: str) -> ModuleType:
    """Return the module that reads and writes a format; ConfigError for an unknown name."""
    if name not in FORMATS:
        raise unknown("corpus format", name, FORMATS)
    return import_module(f"kaggle_kit.data.formats.{name}")


def read(name: str, folder: Path, reading: Reading) -> list[UnifiedSample]:
    """Read all samples of a folder (or of one file); the first unreadable file raises CorpusError."""
    module = format_module(name)
    found: list[tuple[Path, list[UnifiedSample]]] = []
    if not folder.exists():
        raise CorpusError(folder, found="no such file or folder", expected="a corpus folder")
    paths = [folder] if folder.is_file() else module.find(folder)
    if not paths:
        raise CorpusError(folder, found="no corpus file in it", expected=module.EXPECTED_FILES)
    for path in paths:
        try:
            samples = module.read_file(path, reading)
            if not samples:
                reading.warn(CorpusError(path, found="no document", expected=module.EXPECTED_FILES))
            found.append((path, [checked(sample, path, reading) for sample in samples]))
            for sample in found[-1][1]:
                reading.tally.place(sample)
        except CorpusError as error:
            error.files_read = len(found)
            raise
    return distinct(found, reading)


def distinct(found: Iterable[tuple[Path, list[UnifiedSample]]], reading: Reading) -> list[UnifiedSample]:
    """Yield each document of these files once, under an id of its own.

    A document that comes again with the same text is dropped with a warning; the first one stands. Different
    documents whose files have one name, in different folders, are named by folder and name. Another text
    under an id that the files themselves give is rejected.
    """
    by_id: dict[str, list[tuple[Path, UnifiedSample]]] = {}
    for path, samples in found:
        for sample in samples:
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
                reading.warn(origin(sample, path).error(found_again, expected))
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
        reading.reject(origin(sample, path).error(found, expected))
    return [one]


def write(name: str, samples: Iterable[UnifiedSample], folder: Path, append: bool = False) -> list[Path]:
    """Write annotations in the format's own files below `folder`; `append` to those that are there.

    No text is written but what the format demands.

    Raises CorpusError for a document whose id would lead its file out of the folder, and for annotations
    that no reader would take.
    """
    samples, root = list(samples), folder.resolve()
    for sample in samples:
        named = Path(sample.document_id)
        if root not in (root / named).resolve().parents or leftover(named):
            found = f"document id {sample.document_id!r}"
            raise CorpusError(folder, found=found, expected="a name or a path below, no dot before it")
        checked(sample, folder / sample.document_id, Reading(strict=True))
    files = {folder / path: lines for path, lines in format_module(name).files(samples)}
    folder.mkdir(parents=True, exist_ok=True)
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8", newline="") as file:
            file.writelines(f"{line}\n" for line in lines)
    return list(files)
