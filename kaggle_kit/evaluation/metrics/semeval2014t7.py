"""SemEval-2014 Task 7, disorder mentions (A) and their concepts (B), as the organisers' eval.pl.

    figures = score(Path("gold"), Path("predictions"))
    figures["task_a_strict_f1"], figures["task_b_strict_accuracy"]

Two known defects of the script stand under the official names. It keeps the carriage return of a
CRLF file in the last offset, so that no span of such a file equals one of an LF file; and its
relaxed recall counts right predictions where found gold mentions belong, so that many predictions
on one mention raise it. The figures with the suffix `_corrected` have neither. Source: Pradhan et
al. 2014 (S14-2007).
"""

import re
from itertools import pairwise
from pathlib import Path

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.evaluation.metrics.common import counts, file_lines, pipe_files, ratios

Spans = dict[tuple[str, ...], str]  # offsets as written -> CUI in lower case
Pieces = list[tuple[int, int]]


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Return all figures of two folders of `.pipe` files, unrounded; a figure with nothing right is 0.

    Raises ScoreError where the script stops: a file that is not a pipe file, an even number of
    fields, offsets that decrease along a line.
    """
    official = _figures(_read(gold), _read(pred))
    corrected = _figures(_read(gold, "\r\n"), _read(pred, "\r\n"), recall_of_gold=True)
    return official | {f"{name}_corrected": value for name, value in corrected.items()}


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """Return each document's counts for `task_a_strict_f1`, by its name in the lines."""
    if metric != "task_a_strict_f1":
        return None
    wanted, found = _read(gold), _read(pred)
    sides = {name: (wanted.get(name, {}), found.get(name, {})) for name in wanted | found}
    return {
        name: counts(right=len(truth.keys() & guess.keys()), predicted=len(guess), gold=len(truth))
        for name, (truth, guess) in sides.items()
    }


def _read(folder: Path, line_end: str = "\n") -> dict[str, Spans]:
    """document name -> its mentions; of lines with the same offsets the last counts."""
    documents: dict[str, Spans] = {}
    for path in (path for path in pipe_files(folder) if not path.name.endswith("~")):
        for number, raw in enumerate(file_lines(path), start=1):
            line = raw.decode("latin-1").rstrip(line_end)
            if line:
                document, cui, offsets = _mention(line, f"{path}:{number}")
                documents.setdefault(document, {})[offsets] = cui
    return documents


def _mention(line: str, where: str) -> tuple[str, str, tuple[str, ...]]:
    fields = line.split("||")
    while fields and not fields[-1]:
        fields.pop()  # as Perl's split
    if len(fields) < 5 or len(fields) % 2 == 0:
        wants = "document||type||CUI and pairs of offsets, and nothing but such files in the folder"
        raise ScoreError(f"{where}: {len(fields)} field(s) where the scorer wants {wants}")
    document, _, cui, *offsets = fields
    if any(_number(later) < _number(earlier) for earlier, later in pairwise(offsets)):
        found = f"offsets {quoted('||'.join(offsets))}"
        raise ScoreError(f"{where}: {found}; the scorer wants them in increasing order")
    return document, cui.lower(), tuple(offsets)


def _figures(
    gold: dict[str, Spans], pred: dict[str, Spans], recall_of_gold: bool = False
) -> dict[str, float]:
    gold_size = sum(map(len, gold.values()))
    pred_size = sum(map(len, pred.values()))
    same_span = same_concept = met_pred = met_gold = 0
    for document, spans in pred.items():
        answers = gold.get(document, {})
        same_span += len(spans.keys() & answers.keys())
        same_concept += len(spans.items() & answers.items())
        met_pred += _meeting(spans, answers)
        met_gold += _meeting(answers, spans)
    found = met_gold if recall_of_gold else met_pred
    reached = found + gold_size - met_gold  # the script's gold: what it takes for found, and what was missed
    return {
        **ratios("task_a_strict_{}", right=same_span, predicted=pred_size, gold=gold_size),
        **ratios("task_a_relaxed_{}", right=met_pred, predicted=pred_size, gold=reached, found=found),
        "task_b_strict_accuracy": same_concept / (gold_size or 1),
        "task_b_relaxed_accuracy": same_concept / (same_span or 1),
    }


def _meeting(spans: Spans, others: Spans) -> int:
    """How many of the spans share a character with any of the others; touching shares none."""
    targets = [piece for other in others for piece in _pieces(other)]
    return sum(any(a < d and c < b for a, b in _pieces(span) for c, d in targets) for span in spans)


def _pieces(offsets: tuple[str, ...]) -> Pieces:
    return [(_number(start), _number(end)) for start, end in zip(offsets[::2], offsets[1::2], strict=True)]


def _number(text: str) -> int:
    """Return the leading digits of a field, 0 without any, as Perl reads a number."""
    digits = re.match(r"\s*[+-]?[0-9]+", text)
    return int(digits[0]) if digits else 0
