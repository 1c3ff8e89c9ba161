"""Predictions as JSON lines: offsets, labels, scores and ids, never a word of the corpus.

    path.write_text("".join(line(sample) for sample in samples))

The same file serves public and restricted corpora, so document, question and answer texts are left
out by construction, and so is a sample's metadata, which readers may fill with titles.
"""

from __future__ import annotations

import json
from typing import Any

from kaggle_kit.core.restricted import for_files
from kaggle_kit.core.types import Mention, RankedPair, Relation, UnifiedSample


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
