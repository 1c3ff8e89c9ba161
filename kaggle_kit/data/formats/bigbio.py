"""BigBIO's schema for knowledge bases, `bigbio_kb`, as JSON lines: one document a line.

    samples = read("bigbio", Path("train.jsonl"))

    {"id": "1", "document_id": "n1",
     "passages": [{"id": "p1", "type": "note", "text": ["No fever."], "offsets": [[0, 9]]}],
     "entities": [{"id": "e1", "type": "Disease", "text": ["fever"], "offsets": [[3, 8]],
                   "normalized": [{"db_name": "MESH", "db_id": "D005334"}]}],
     "relations": [{"id": "r1", "type": "treats", "arg1_id": "e2", "arg2_id": "e1", "normalized": []}],
     "events": [], "coreferences": []}

The text is the passages at their offsets, line breaks between them. An event becomes a mention (its trigger)
and a relation per argument, named by its role; coreferences are read past. Events and scores are not written.
Format: https://github.com/bigscience-workshop/biomedical/blob/main/bigbio/schemas/kb.py
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading
from kaggle_kit.data.formats.jsonl import PREDICTIONS_FILE, read_records, sample_of
from kaggle_kit.data.formats.jsonl import find as find

EXPECTED_FILES = "JSON lines in the schema bigbio_kb (*.jsonl or *.ndjson)"
FARTHEST = 10_000  # characters between two passages; more is no text with a gap


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return all documents of a file; a line that is none is rejected. Without passages, text is None."""
    return list(read_records(path, reading, _document))


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one file with a line per document; where its text is withheld, without passages."""
    yield PREDICTIONS_FILE, [json.dumps(_written(sample), ensure_ascii=False) for sample in samples]


def _document(record: Any, line: Line, reading: Reading) -> UnifiedSample:
    """Return a document by way of JSONL, whose reader checks mentions and relations."""
    try:
        text = _text(record["passages"], line)
        events = record["events"]
        triggers = [one["trigger"] | {"id": one["id"], "type": one["type"]} for one in events]
        mentions = [_mention(entity) for entity in (*record["entities"], *triggers)]
        links = [(one["type"], one["arg1_id"], one["arg2_id"]) for one in record["relations"]]
        for event in events:
            links += [(one["role"], event["id"], one["ref_id"]) for one in event["arguments"]]
        relations = [dict(zip(("type", "source", "target"), link, strict=True)) for link in links]
        held = {"text": text or "", "mentions": mentions, "relations": relations}
        document = held | {"id": record["document_id"]}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        lacking = f" without {error}" if isinstance(error, KeyError) else ""
        found = f"{type(record).__name__}{lacking} that does not follow bigbio_kb"
        raise line.error(found, "passages, entities, events and relations as BigBIO has them") from error
    return replace(sample_of(document, line, reading), text=text)


def _text(passages: list[Any], line: Line) -> str | None:
    """Return the passages in one text, each at its offsets; None where there is none."""
    pieces = [
        (start, end, words)
        for passage in passages
        for (start, end), words in zip(passage["offsets"], passage["text"], strict=True)
    ]
    text = ""
    for start, end, words in sorted(pieces):
        said = text[start : start + len(words)]
        if not 0 <= start == end - len(words) <= len(text) + FARTHEST or not words.startswith(said):
            found = f"a passage at {start}-{end} of {len(words)} characters"
            raise line.error(found, "its place in one text")
        text += "\n" * (start - len(text)) + words[len(said) :]
    return text if passages else None


def _mention(entity: Mapping[str, Any]) -> dict[str, Any]:
    named = ((one["db_name"], one["db_id"]) for one in entity.get("normalized", ()))
    concepts = [":".join(filter(None, one)) for one in named]
    place = {"fragments": entity["offsets"], "text": " ".join(entity["text"]) or None}
    return {"id": entity["id"], "type": entity["type"], "concepts": concepts, **place}


def _written(sample: UnifiedSample) -> dict[str, Any]:
    text, name = sample.text, sample.document_id
    whole = {"id": f"{name}-text", "type": "document", "text": [text], "offsets": [[0, len(text or "")]]}
    entities = []
    for mention in sample.mentions:
        words = [text[start:end] for start, end in mention.fragments] if text is not None else []
        entity: dict[str, Any] = {"id": mention.id, "type": mention.type, "text": words}
        entity["offsets"] = [list(piece) for piece in mention.fragments]
        names = (concept.rpartition(":")[::2] for concept in mention.concepts)
        entities.append(entity | {"normalized": [{"db_name": db, "db_id": id} for db, id in names]})
    relations = [
        {"id": link.id, "type": link.type, "arg1_id": link.source, "arg2_id": link.target, "normalized": []}
        for link in sample.relations
    ]
    document = {"id": name, "document_id": name, "passages": [whole] if text is not None else []}
    return document | {"entities": entities, "events": [], "coreferences": [], "relations": relations}
