"""What the ports of the official scorers share: files as those programs read them, and figures of counts.

for line in file_lines(path): ...
ratios("entity_{}", right=3, predicted=4, gold=6)  # entity_precision 0.75, entity_recall 0.5, entity_f1 0.6
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kaggle_kit.core.errors import CorpusError, ScoreError
from kaggle_kit.data.formats.base import leftover


def ratios(
    pattern: str, *, right: int, predicted: int, gold: int, found: int | None = None, undefined: float = 0.0
) -> dict[str, float]:
    """Return precision, recall and F1, 0 to 1, under the names that `pattern` makes of these words.

    `found` are the gold items found, where they are counted otherwise than the predictions that are `right`.
    Precision without predictions and recall without gold are `undefined`.
    """
    precision = right / predicted if predicted else undefined
    recall = (right if found is None else found) / gold if gold else undefined
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return named(pattern, {"precision": precision, "recall": recall, "f1": f1})


def named(pattern: str, figures: dict[str, float]) -> dict[str, float]:
    """Return the figures under the names that `pattern` makes of theirs: `task1_{}`."""
    return {pattern.format(name): value for name, value in figures.items()}


def counts(*, right: int, predicted: int, gold: int, found: int | None = None) -> dict[str, int]:
    """Return the same counts as hits, false positives and misses: what a document adds to `ratios`."""
    if found is None:
        return {"tp": right, "fp": predicted - right, "fn": gold - right}
    return {"tp": right, "found": found, "fp": predicted - right, "fn": gold - found}


def summed(documents: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return the sum over documents of the counts of `ratios`."""
    total = Counter(right=0, predicted=0, gold=0)
    for sizes in documents:
        total.update(sizes)
    return total


@contextmanager
def score_errors() -> Iterator[None]:
    """Turn an error of a reader of the official format into a ScoreError."""
    try:
        yield
    except CorpusError as error:
        raise ScoreError(str(error)) from error


def folder_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the folder's own files that match, sorted; hidden ones and those of a Mac's archive are none."""
    files = (path for path in folder.glob(pattern) if path.is_file())
    return sorted(path for path in files if not leftover(path.relative_to(folder)))


def pipe_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return `folder_files`; ScoreError for a folder that is not there, or that holds folders alone."""
    files = folder_files(folder, pattern) if folder.is_dir() else []
    if not folder.is_dir() or (not files and any(path.is_dir() for path in folder.iterdir())):
        raise ScoreError(f"{folder}: no such folder, or no files in it; give the one of the .pipe files")
    return files


def file_lines(path: Path) -> list[bytes]:
    """Return the file's lines as the official scripts see them: LF alone ends one, a CR before it stays.

    Raises ScoreError for a file whose lines end in CR alone, which those scripts take for a single line.
    """
    raw = path.read_bytes()
    if b"\r" in raw.rstrip() and b"\n" not in raw.rstrip():
        raise ScoreError(f"{path}: found lines that end in CR alone; write the file with LF at its line ends")
    return raw.removesuffix(b"\n").split(b"\n") if raw else []
