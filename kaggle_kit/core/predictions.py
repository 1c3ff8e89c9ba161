"""Predictions as JSON lines: offsets, labels, scores and ids, never a word of the corpus.

    path.write_text("".join(line(sample) for sample in samples)); samples = read_lines(path)

The same file serves public and restricted corpora, so document, question and answer texts are left
out by construction, and so is a sample's metadata, which readers may fill with titles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.restricted import for_files
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample


def line(sample: UnifiedSample) -> str:
    """One sample as one line of JSON, line end included."""
    sample = for_files(sample)
    record = {
        "document_id": sample.document_id,
        "split": sample.split,
        "access": sample.access.value,
        "mentions": [_mention(mention) for mention in sample.mentions],
        "relations": [_relation(relation) for relation in sample.relations],
        "pairs": [_pair(pair) for pair in sample.pairs],
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def read_lines(path: Path) -> list[UnifiedSample]:
    """The samples of a predictions file, `text` None and candidate texts empty.

    Raises RunFolderError naming file and line where a line is not a prediction.
    """
    samples = []
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            try:
                samples.append(_sample(json.loads(text)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunFolderError(
                    f"{path}:{number}: not a prediction ({type(error).__name__}: {error}); "
                    "the file is damaged or was edited: run the page again"
                ) from error
    return samples


def _mention(mention: Mention) -> dict[str, Any]:
    return {
        "id": mention.id,
        "fragments": [list(fragment) for fragment in mention.fragments],
        "type": mention.type,
        "concepts": list(mention.concepts),
        "attributes": dict(mention.attributes),
        "score": mention.score,
    }


def _relation(relation: Relation) -> dict[str, Any]:
    return {
        "id": relation.id,
        "type": relation.type,
        "source": relation.source,
        "target": relation.target,
        "roles": list(relation.roles),
        "attributes": dict(relation.attributes),
        "score": relation.score,
    }


def _pair(pair: RankedPair) -> dict[str, Any]:
    return {
        "query_id": pair.query_id,
        "candidate_id": pair.candidate_id,
        "rank": pair.rank,
        "label": pair.label,
        "relevant": pair.relevant,
        "score": pair.score,
    }


def _sample(record: Mapping[str, Any]) -> UnifiedSample:
    return UnifiedSample(
        document_id=record["document_id"],
        text=None,
        split=record["split"],
        access=Access(record["access"]),
        mentions=tuple(
            Mention(
                **fields
                | {
                    "fragments": tuple((start, end) for start, end in fields["fragments"]),
                    "concepts": tuple(fields["concepts"]),
                }
            )
            for fields in record["mentions"]
        ),
        relations=tuple(
            Relation(**fields | {"roles": tuple(fields["roles"])}) for fields in record["relations"]
        ),
        pairs=tuple(RankedPair(text="", **fields) for fields in record["pairs"]),
    )
