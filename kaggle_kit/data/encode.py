"""Tokenise a split once into a memory-mapped Arrow file, cached by the content it was made from.

    encoded = encode(samples, spec, tokenizer, PassageSettings(max_length=128))
    encoded.lengths[:3], encoded.rows([0, 1])["input_ids"]

One row is one sequence the backbone reads: a passage of a document, or a question with one of its
candidates. `groups` says which rows belong together (all candidates of a question).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from transformers import PreTrainedTokenizerBase

from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.errors import ConfigError, CorpusError
from kaggle_kit.core.tags import tag_chunks, tag_names
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec, UnifiedSample
from kaggle_kit.data.passages import Passage, PassageSettings, SpecialTokens, passages

VERSION = 1  # raise when the meaning of a column changes: cached files of older versions are not read


@dataclass(frozen=True)
class EncodedTask:
    """One split of one task, ready to be planned and batched.

    `lengths` (rows,) are real tokens, special tokens included; `overlap` (rows,) those of them that a
    neighbouring window reads too; `groups` (rows,) is non-decreasing.
    """

    spec: TaskSpec
    table: Dataset
    lengths: np.ndarray
    overlap: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """The columns of some rows; ragged columns are lists of numpy arrays."""
        return self.table[list(indices)]


def encode(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> EncodedTask:
    """Raises CorpusError for samples without text and ConfigError where there is nothing to encode."""
    key = _content_key(samples, spec, tokenizer, settings)
    folder = build_once(cache_dir("tokens") / key, lambda out: _write(samples, spec, tokenizer, settings, out))
    table = Dataset.from_file(str(folder / "rows.arrow"))
    if len(table) == 0:
        raise ConfigError(f"{spec.name}: the split holds no text to encode; check its layout and limits")
    flat = table.with_format("numpy", columns=["length", "overlap", "group"])[:]
    return EncodedTask(
        spec, table.with_format("numpy"), flat["length"].astype(np.int64), flat["overlap"], flat["group"]
    )


def _content_key(
    samples: Sequence[UnifiedSample], spec: TaskSpec, tokenizer: PreTrainedTokenizerBase, settings: PassageSettings
) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, asdict(spec), asdict(settings)]).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for sample in samples:
        digest.update(repr(sample).encode())
    return digest.hexdigest()[:24]


def _write(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
    folder: Path,
) -> None:
    ranking = any(component.kind is Kind.RANKING for component in spec.components)
    rows = _pair_rows if ranking else _passage_rows
    features = _pair_features() if ranking else _passage_features(spec)
    with ArrowWriter(path=str(folder / "rows.arrow"), features=features) as writer:
        for row in rows(samples, spec, tokenizer, settings):
            writer.write(row)
        writer.finalize()


# --- passages of documents -------------------------------------------------------------------------


def _passage_features(spec: TaskSpec) -> Features:
    columns: dict[str, Any] = {name: Value("int32") for name in ("document", "group", "length", "overlap")}
    for name in ("input_ids", "word_tokens", "word_starts", "word_ends"):
        columns[name] = List(Value("int32"))
    columns["owned"] = List(Value("bool"))
    for component in spec.components:
        if component.kind is Kind.TOKENS:
            columns[f"tags:{component.name}"] = List(Value("int16"))
    return Features(columns)


def _passage_rows(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> Iterator[dict[str, Any]]:
    group = 0
    for document, sample in enumerate(samples):
        for passage in passages(_text(sample), tokenizer, settings):
            row: dict[str, Any] = {
                "document": document,
                "group": group,
                "length": len(passage.input_ids),
                **asdict(passage),
            }
            for component in spec.components:
                if component.kind is Kind.TOKENS:
                    row[f"tags:{component.name}"] = _tags(passage, sample, component)
            yield row
            group += 1


def _text(sample: UnifiedSample) -> str:
    if sample.text is None:
        path = sample.provenance.path if sample.provenance else sample.document_id
        raise CorpusError(path, found="annotations without their text", expected="the document's text beside them")
    return sample.text


def _tags(passage: Passage, sample: UnifiedSample, component: ComponentSpec) -> list[int]:
    """Tag classes of the passage's words. A discontiguous mention is tagged fragment by fragment."""
    index = {name: number for number, name in enumerate(tag_names(component.labels, component.scheme))}
    spans = []
    for mention in sample.mentions:
        if mention.type in component.labels:
            for start, end in mention.fragments:
                first, stop = _words_between(passage, start, end)
                if first < stop:
                    spans.append((first, stop, mention.type))
    return [index[tag] for tag in tag_chunks(spans, len(passage.word_tokens), component.scheme)]


def _words_between(passage: Passage, start: int, end: int) -> tuple[int, int]:
    """[first, stop) words that share a character with [start, end)."""
    first = int(np.searchsorted(passage.word_ends, start, side="right"))
    stop = int(np.searchsorted(passage.word_starts, end, side="left"))
    return first, stop


# --- questions with candidates ---------------------------------------------------------------------


def _pair_features() -> Features:
    columns: dict[str, Any] = {
        name: Value("int32") for name in ("document", "pair", "group", "length", "overlap", "second")
    }
    return Features({**columns, "input_ids": List(Value("int32")), "relevant": Value("int8")})


def _pair_rows(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> Iterator[dict[str, Any]]:
    special = SpecialTokens.of(tokenizer)
    room = settings.max_length - len(special.prefix) - len(special.between) - len(special.suffix)
    for document, sample in enumerate(samples):
        texts = [_text(sample)] + [pair.text for pair in sample.pairs]
        question, *candidates = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for number, (pair, candidate) in enumerate(zip(sample.pairs, candidates, strict=True)):
            left, right = _truncate(len(question), len(candidate), room)
            head = special.prefix + question[:left] + special.between
            input_ids = head + candidate[:right] + special.suffix
            yield {
                "document": document,
                "pair": number,
                "group": document,
                "length": len(input_ids),
                "overlap": 0,
                "second": len(head),
                "input_ids": input_ids,
                "relevant": -1 if pair.relevant is None else int(pair.relevant),
            }


def _truncate(question: int, candidate: int, room: int) -> tuple[int, int]:
    """How much of each stays: the longer one is shortened first, to no less than the other."""
    if question + candidate <= room:
        return question, candidate
    half = room // 2
    if question <= half:
        return question, room - question
    if candidate <= room - half:
        return room - candidate, candidate
    return half, room - half
