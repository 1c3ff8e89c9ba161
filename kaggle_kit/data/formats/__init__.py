"""Reading and writing corpora by the name of their format.

samples = read("brat", folder, Reading(split="train"))
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kaggle_kit.core.errors import ConfigError, CorpusError, nearest
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Problem, Reading, validate

FORMATS = ("share_pipe", "share_slots", "anafora", "cqa", "brat", "pubtator", "measeval")

__all__ = ["FORMATS", "Problem", "Reading", "format_module", "read", "write"]


def format_module(name: str) -> ModuleType:
    """The module that reads and writes a format; ConfigError for an unknown name."""
    if name not in FORMATS:
        raise ConfigError(
            f"unknown corpus format {name!r}; allowed: {', '.join(FORMATS)}{nearest(name, FORMATS)}"
        )
    return import_module(f"kaggle_kit.data.formats.{name}")


def read(name: str, folder: Path, reading: Reading) -> list[UnifiedSample]:
    """All samples of a folder (or of one file); the first malformed file raises CorpusError.

    A document id that was already read is dropped with a warning: the first one stands.
    """
    module = format_module(name)
    samples: dict[str, UnifiedSample] = {}
    for count, path in enumerate(_files(module, folder)):
        try:
            for sample in module.read_file(path, reading):
                _keep(sample, path, samples, reading)
        except CorpusError as error:
            error.files_read = count
            raise
    return list(samples.values())


def write(name: str, samples: Iterable[UnifiedSample], folder: Path) -> list[Path]:
    """Annotations in the format's own files below `folder`; texts are never written."""
    folder.mkdir(parents=True, exist_ok=True)
    return format_module(name).write(list(samples), folder)


def _files(module: ModuleType, folder: Path) -> list[Path]:
    if not folder.exists():
        raise CorpusError(folder, found="no such file or folder", expected="a corpus folder")
    files = [folder] if folder.is_file() else module.find(folder)
    if not files:
        raise CorpusError(folder, found="no corpus file in it", expected=module.EXPECTED_FILES)
    return files


def _keep(sample: UnifiedSample, path: Path, samples: dict[str, UnifiedSample], reading: Reading) -> None:
    validate(sample, path)
    if sample.document_id in samples:
        line = sample.provenance.line if sample.provenance else None
        reading.warn(
            path, line, found=f"document {sample.document_id!r} again", expected="each document once"
        )
    else:
        samples[sample.document_id] = sample
