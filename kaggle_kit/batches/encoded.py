"""The sequences of one split of one task, row by row: what plans, batches and prediction read.

    encoded = encode_in_memory(samples, spec, tokenizer, PassageSettings(max_length=128))
    encoded.lengths[:3], encoded.rows([0, 1])["input_ids"]

One row is one sequence the backbone reads: a passage of a document, or a question with one of its
candidates. `groups` says which rows belong together: the candidates of a question, `LIST` of them at
most. Each kind's module in `heads` lists the columns that a component adds. `encode` keeps the rows of a
corpus in a file; rows of new text lie in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import groupby
from os.path import commonprefix
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.plan import MIN_SHARED_TOKENS, TaskRows
from kaggle_kit.batches.reach import Reach
from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.types import Kind, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.passages import PairSequence, Passage, PassageSettings, pair_sequences, passages
from kaggle_kit.heads import KINDS, relations

LIST = 10  # candidates that are compared with each other: a thread's; of a hundred, thread by thread
# Columns and what a row holds of them: a number, or a list of them.
ROW = dict.fromkeys(("document", "group", "length", "overlap"), "int32") | {"input_ids": "int32[]"}
PASSAGE = dict.fromkeys(("word_tokens", "word_starts", "word_ends"), "int32[]")
PASSAGE |= dict.fromkeys(("owned", "carried", "seen"), "bool[]")
PAIR = dict.fromkeys(("pair", "second"), "int32")
Table = Any  # a `Dataset` of numpy columns, or `Rows`; ragged columns are one array per row


@dataclass(frozen=True)
class Rows:
    """A table in memory."""

    columns: Mapping[str, list[Any]]

    @cached_property
    def column_names(self) -> list[str]:
        """The names of all columns."""
        return list(self.columns)

    def __len__(self) -> int:
        return len(self.columns["document"])

    def __getitem__(self, key: str | list[int]) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: [column[row] for row in key] for name, column in self.columns.items()}


@dataclass(frozen=True)
class EncodedTask:
    """One split of one task, ready to be planned and batched.

    `lengths` (rows,) are real tokens, special tokens included; `overlap` (rows,) those of them that a
    neighbouring window reads too; `groups` (rows,) is non-decreasing. `reach` counts the annotations that
    the rows hold. `replaced` columns stand in for those of the file.
    """

    spec: TaskSpec
    table: Table
    lengths: np.ndarray
    overlap: np.ndarray
    groups: np.ndarray
    reach: Reach = field(default_factory=Reach)
    replaced: Mapping[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def beginnings(self) -> np.ndarray | None:
        """Count the tokens that all rows of a group begin with, (rows,); None where rows are passages."""
        if "second" not in self.table.column_names:
            return None
        return beginnings(self.table["input_ids"], self.groups)

    @property
    def plan_rows(self) -> TaskRows:
        """Return the lengths, groups and common beginnings from which a plan is drawn."""
        return TaskRows(self.lengths, self.groups, self.beginnings)

    def rows(self, indices: Sequence[int]) -> dict[str, Any]:
        """Read the columns of some rows; ragged columns are one array per row."""
        rows = dict(self.table[list(indices)])
        return rows | {name: [column[row] for row in indices] for name, column in self.replaced.items()}

    def relating(self, samples: Sequence[UnifiedSample]) -> EncodedTask:
        """Return the rows with the relation candidates of these samples' mentions, one sample a document.

        Prediction relates the mentions it has found; the file holds the candidates among gold ones.
        """
        parts = relation_parts(self.spec)
        if not parts:
            return replace(self, replaced={})
        replaced: dict[str, list[Any]] = {name: [] for part in parts for name in relations.features(part)}
        table = self.rows(range(len(self)))
        columns = zip(table["document"], *(table[part.name] for part in fields(Passage)), strict=True)
        for document, rows in groupby(columns, key=lambda row: int(row[0])):
            own = [Passage(*row[1:]) for row in rows]
            for row in (row for part in parts for row in relations.columns(part, own, samples[document])):
                for name, column in row.items():
                    replaced[name].append(column)
        return replace(self, replaced=replaced)


def encode_in_memory(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> EncodedTask:
    """Tokenise samples that are read once: nothing of them reaches a disk. Raises what `records` raises."""
    columns: dict[str, list[Any]] = {name: [] for name in features_of(spec)}
    ragged = {name for name, kind in features_of(spec).items() if kind.endswith("[]")}
    reach = Reach()
    for record in records(samples, spec, tokenizer, settings, reach):
        for name, column in columns.items():
            column.append(np.asarray(record[name]) if name in ragged else record[name])
    return encoded_task(Rows(columns), reach, spec)


def encoded_task(table: Table, reach: Reach, spec: TaskSpec) -> EncodedTask:
    """Return the rows as a task; a relation component learns the share of its candidates with a label."""
    shares = {part.name: relations.positive_share(part, table) for part in relation_parts(spec)}
    parts = [replace(part, positive=shares.get(part.name, part.positive)) for part in spec.components]
    spec = replace(spec, components=tuple(parts))
    lengths, overlap, groups = (
        np.asarray(table[name][:], np.int64) for name in ("length", "overlap", "group")
    )
    return EncodedTask(spec, table, lengths, overlap, groups, reach)


def features_of(spec: TaskSpec) -> dict[str, str]:
    """Return the columns of a task's rows and their types, `[]` behind those of lists."""
    features = ROW | (PAIR if _is_ranking(spec) else PASSAGE)
    for component in spec.components:
        features |= KINDS[component.kind].features(component)
    return features


def records(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
    reach: Reach,
) -> Iterator[dict[str, Any]]:
    """Yield one row after the other; `reach` counts what the rows hold of the annotations.

    Raises CorpusError for samples without text.
    """
    number, ranking = -1, _is_ranking(spec)
    for document, sample in enumerate(samples):
        rows: list[Any] = list(_sequences(sample, ranking, tokenizer, settings))
        columns = {part.name: list(KINDS[part.kind].columns(part, rows, sample)) for part in spec.components}
        if not ranking:
            reach.add(spec, rows, sample, columns)
        for place, (row, *parts) in enumerate(zip(rows, *columns.values(), strict=True)):
            number += not ranking or place % LIST == 0
            record = {"document": document, "group": number, "length": len(row.input_ids)} | vars(row)
            for part in parts:
                record |= part
            yield record


def _is_ranking(spec: TaskSpec) -> bool:
    ranking = [component.kind is Kind.RANKING for component in spec.components]
    if any(ranking) and not all(ranking):
        raise ConfigError(
            f"{spec.name}: {Kind.RANKING.value} reads questions with candidates, the other kinds "
            "passages of documents; make them two tasks"
        )
    return any(ranking)


def _sequences(
    sample: UnifiedSample, ranking: bool, tokenizer: PreTrainedTokenizerBase, settings: PassageSettings
) -> Iterator[Passage | PairSequence]:
    if sample.text is None:
        path = sample.provenance.path if sample.provenance else sample.document_id
        expected = "the document's text beside them"
        raise CorpusError(path, found="annotations without their text", expected=expected)
    if ranking:
        candidates = [pair.text for pair in sample.pairs]
        return pair_sequences(sample.text, candidates, tokenizer, settings.max_length)
    return passages(sample.text, tokenizer, settings)


def beginnings(
    sequences: Sequence[np.ndarray], groups: np.ndarray, least: int = MIN_SHARED_TOKENS
) -> np.ndarray:
    """Count the tokens that all rows of a row's group begin with, shape (rows,); 0 below `least`.

    The last token of a row is its own, whatever stands there.
    """
    members: dict[int, list[list[int]]] = defaultdict(list)
    for ids, group in zip(sequences, groups, strict=True):
        members[group].append(np.asarray(ids).tolist())
    common = {group: min(len(commonprefix(rows)), min(map(len, rows)) - 1) for group, rows in members.items()}
    return np.array([common[group] if common[group] >= least else 0 for group in groups], dtype=np.int64)
