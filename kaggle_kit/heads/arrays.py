"""Small moves between the ragged columns of a token file and the tensors of a micro-batch.

long(flat([[1, 2], [], [3]]))               # tensor([1, 2, 3])
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kaggle_kit.core.types import UnifiedSample

Columns = Mapping[str, Any]  # of rows of a token file, by name
Records = Iterator[dict[str, Any]]  # the columns of one row after the other


@dataclass(frozen=True)
class Scored:
    """A head's outputs over a split, with the columns and samples that decoding needs."""

    table: Columns  # of all rows
    outputs: Sequence[Any]  # one part per row, as `split` cuts them
    gold: Sequence[UnifiedSample]
    predicted: Sequence[UnifiedSample]  # decoding adds to these


def flat(parts: Iterable[Any]) -> np.ndarray:
    """Concatenate the parts as int64; parts may be empty, and so may be the whole."""
    return np.concatenate([np.empty(0, np.int64), *(np.asarray(part).astype(np.int64) for part in parts)])


def table(column: Any, width: int) -> np.ndarray:
    """Reshape one row's flat column into its records: (records * width,) -> (records, width)"""
    return np.asarray(column).astype(np.int64).reshape(-1, width)


def before(sizes: Any) -> np.ndarray:
    """Count the entries before each part: sizes (3, 1, 4) -> (0, 3, 4)"""
    return np.cumsum(sizes) - np.asarray(sizes)


def long(values: Any) -> Tensor:
    """Return an int64 tensor on the CPU."""
    return torch.from_numpy(np.asarray(values).astype(np.int64))


def split(output: Tensor, targets: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """Split a head's output into one part per row, float32 on the CPU."""
    return output.float().cpu().split(targets["sizes"].tolist())


def repeated(rows: Tensor, entries: Tensor) -> Tensor:
    """Gather rows of an (entries, width) matrix, some of them several times."""
    if rows.device.type == "cpu":
        return rows.index_select(0, entries)
    return F.embedding(entries, rows)  # the gradient is summed in one order, unlike index_select's
