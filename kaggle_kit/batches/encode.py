"""Tokenise a split once into a memory-mapped Arrow file, cached by the content it was made from.

    encoded = encode(samples, spec, tokenizer, PassageSettings(max_length=128))
    encoded.lengths[:3], encoded.rows([0, 1])["input_ids"]

One row is one sequence the backbone reads: a passage of a document, or a question with one of its
candidates. `groups` says which rows belong together: the candidates of a question, `LIST` of them at
most. Each kind's module in `heads` lists the columns that a component adds.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import groupby
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.plan import MIN_SHARED_TOKENS, TaskRows
from kaggle_kit.batches.reach import Reach
from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.types import Kind, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.passages import PairSequence, Passage, PassageSettings, pair_sequences, passages
from kaggle_kit.heads import KINDS, relations

VERSION = 9  # raise when the meaning of a column changes: cached files of older versions are not read

LIST = 10  # candidates that are compared with each other: a thread's; of a hundred, thread by thread
NUMBER, NUMBERS = Value("int32"), List(Value("int32"))
ROW = {"document": NUMBER, "group": NUMBER, "length": NUMBER, "overlap": NUMBER, "input_ids": NUMBERS}
PASSAGE = {
    "word_tokens": NUMBERS,
    "word_starts": NUMBERS,
    "word_ends": NUMBERS,
    "owned": List(Value("bool")),
    "carried": List(Value("bool")),
    "seen": List(Value("bool")),
}
PAIR = {"pair": NUMBER, "second": NUMBER}


@dataclass(frozen=True)
class EncodedTask:
    """One split of one task, ready to be planned and batched.

    `lengths` (rows,) are real tokens, special tokens included; `overlap` (rows,) those of them that a
    neighbouring window reads too; `groups` (rows,) is non-decreasing. `reach` counts the annotations that
    the rows hold. `replaced` columns stand in for those of the file.
    """

    spec: TaskSpec
    table: Dataset
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


def encode(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> EncodedTask:
    """Tokenise the samples of a split, or open the cached file of the same content.

    Raises CorpusError for samples without text and ConfigError where there is nothing to encode.
    """
    digest = hashlib.sha256(json.dumps([VERSION, asdict(spec), asdict(settings)]).encode())
    digest.update(_tokenizer_state(tokenizer).encode())
    for sample in samples:
        digest.update(repr(sample).encode())
    ranking = _is_ranking(spec)

    def rows_of(sample: UnifiedSample) -> list[Passage | PairSequence]:
        return list(_sequences(sample, ranking, tokenizer, settings))

    place = cache_dir("tokens") / digest.hexdigest()[:24]
    folder = build_once(place, lambda out: _write(samples, spec, rows_of, out))
    table = Dataset.from_file(str(folder / "rows.arrow"))
    reach = Reach(**json.loads((folder / "reach.json").read_text(encoding="utf-8")))
    if len(table) == 0:
        raise ConfigError(f"{spec.name}: the split holds no text to encode; check its layout and limits")
    flat = table.with_format("numpy", columns=["length", "overlap", "group"])[:]
    table = table.with_format("numpy")
    # a relation component knows the share of its candidates that have a label: its loss weighs by it
    shares = {part.name: relations.positive_share(part, table[:]) for part in relation_parts(spec)}
    parts = [replace(part, positive=shares.get(part.name, part.positive)) for part in spec.components]
    spec = replace(spec, components=tuple(parts))
    lengths = flat["length"].astype(np.int64)
    return EncodedTask(spec, table, lengths, flat["overlap"], flat["group"], reach)


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides on tokens; what the last call truncated and padded to stays in it, and does not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({name: part for name, part in state.items() if name not in ("truncation", "padding")})


def _write(samples: Sequence[UnifiedSample], spec: TaskSpec, rows_of: Callable, folder: Path) -> None:
    ranking = _is_ranking(spec)
    features = ROW | (PAIR if ranking else PASSAGE)
    for component in spec.components:
        features |= KINDS[component.kind].features(component)
    number, reach = -1, Reach()
    with ArrowWriter(path=str(folder / "rows.arrow"), features=Features(features)) as writer:
        for document, sample in enumerate(samples):
            rows = rows_of(sample)
            columns = {
                part.name: list(KINDS[part.kind].columns(part, rows, sample)) for part in spec.components
            }
            if not ranking:
                reach.add(spec, rows, sample, columns)
            for place, (row, *parts) in enumerate(zip(rows, *columns.values(), strict=True)):
                number += not ranking or place % LIST == 0
                record = {"document": document, "group": number, "length": len(row.input_ids)} | vars(row)
                for part in parts:
                    record |= part
                writer.write(record)
        writer.finalize()
    (folder / "reach.json").write_text(json.dumps(asdict(reach)), encoding="utf-8")


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
