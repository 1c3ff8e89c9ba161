"""JSONL: one document a line, with its annotations; what this project reads and writes of any kind of task.

    samples = read("jsonl", Path("notes.jsonl"))

    {"id": "n1", "text": "No fever after aspirin.",
     "mentions": [{"id": "T1", "type": "Disease", "start": 3, "end": 8, "text": "fever"},
                  {"id": "T2", "type": "Drug", "fragments": [[15, 22]], "concepts": ["D001241"]}],
     "relations": [{"type": "treats", "source": "T2", "target": "T1"}]}
    {"id": "q1", "text": "Where do I find a doctor?",
     "candidates": [{"id": "c1", "text": "In the north.", "relevant": true}]}

Only `text` must be there. Offsets count characters of `text`, ends exclusive; `text` of a mention is compared
with them. Predictions have the same form, without the document's text and with a `score`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import nearest
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import NOTHING, Mention, RankedPair, Relation, UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading, corpus_files

EXPECTED_FILES = "JSON lines (*.jsonl or *.ndjson)"
PREDICTIONS_FILE = "predictions.jsonl"
TEXT, FLAG, NUMBER, OBJECT, LIST, NAME = str, bool, (int, float), dict, list, (str, int)
# What an object may hold, and of which type; null counts as absent. What starts the list must be there.
DOCUMENT = {"text": TEXT, "id": NAME, "meta": OBJECT}
DOCUMENT |= dict.fromkeys(("mentions", "relations", "candidates"), LIST)
ANNOTATION = {"type": TEXT, "id": NAME, "attributes": OBJECT, "score": NUMBER}
MENTION = ANNOTATION | {"start": int, "end": int, "fragments": LIST, "text": TEXT, "concepts": LIST}
RELATION = ANNOTATION | {"source": NAME, "target": NAME}
CANDIDATE = {"text": TEXT, "id": NAME, "label": TEXT, "relevant": FLAG, "score": NUMBER}

Maker = Callable[[Any, Line, Reading], UnifiedSample]


def find(folder: Path) -> list[Path]:
    """Return every `.jsonl` and `.ndjson` file below the folder."""
    return corpus_files(folder, ".jsonl", ".ndjson")


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return all documents of a file; a line that is none is rejected."""
    return list(read_records(path, reading))


def read_records(path: Path, reading: Reading, make: Maker | None = None) -> Iterator[UnifiedSample]:
    """Yield the documents of a file, line by line, as they are read; a line that is none is rejected.

    `make` returns the document of an object; `sample_of` where it is left out.
    """
    make = make or sample_of
    for line in _lines(path):
        with reading.record():
            try:
                record = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                raise line.error(quoted(line.text, 40), "a JSON object") from error
            yield make(record, line, reading)


def sample_of(record: Any, line: Line, reading: Reading) -> UnifiedSample:
    """Return one document. Raises CorpusError for an object that does not follow the format."""
    fields = checked_object(record, DOCUMENT, line, "a document")
    text, name = fields["text"], str(fields.get("id", f"{line.path.stem}-{line.number}"))

    def parts(key: str, allowed: Mapping[str, Any], what: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number the objects of a list, each checked."""
        return enumerate((checked_object(one, allowed, line, what) for one in fields.get(key, ())), start=1)

    mentions = [_mention(one, n, text, line, reading) for n, one in parts("mentions", MENTION, "a mention")]
    relations = [_relation(one, n, line) for n, one in parts("relations", RELATION, "a relation")]
    pairs = [_pair(one, n, name, line) for n, one in parts("candidates", CANDIDATE, "a candidate")]
    reading.tally.records += len(mentions) + len(relations)  # each of which may be rejected
    sample = reading.sample(name, text, mentions, relations, line)
    return replace(sample, pairs=tuple(pairs), metadata=_texts(fields.get("meta"), line))


def _lines(path: Path) -> Iterator[Line]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield Line(path, number, text)
    except UnicodeDecodeError as error:
        raise Line(path, number + 1).error("bytes that are not UTF-8", "UTF-8 text") from error


def files(samples: Iterable[UnifiedSample]) -> Iterator[tuple[str, list[str]]]:
    """Yield one file with a line of annotations for every document, without its text."""
    yield PREDICTIONS_FILE, [json.dumps(_written(sample), ensure_ascii=False) for sample in samples]


def checked_object(value: Any, allowed: Mapping[str, Any], line: Line, what: str) -> dict[str, Any]:
    """Return an object without its nulls.

    Raises CorpusError where it lacks the first key of `allowed`, has others, or values of other types.
    """
    if not isinstance(value, dict):
        raise line.error(f"{type(value).__name__} for {what}", "a JSON object")
    held = {key: part for key, part in value.items() if part is not None}
    first = next(iter(allowed))
    if first not in held:
        raise line.error(f"{what} without {first!r}", f"an object with {', '.join(allowed)}")
    for key, part in held.items():
        if key not in allowed:
            found = f"key {quoted(key, 40)} of {what}"
            raise line.error(found, f"{', '.join(allowed)}{nearest(key, allowed)}")
        flag_for_number = isinstance(part, bool) and allowed[key] is not FLAG
        if not isinstance(part, allowed[key]) or flag_for_number:
            kinds = allowed[key] if isinstance(allowed[key], tuple) else (allowed[key],)
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise line.error(f"{type(part).__name__} for {key!r} of {what}", expected)
    return held


def _mention(fields: Mapping[str, Any], place: int, text: str, line: Line, reading: Reading) -> Mention:
    pieces = fields.get("fragments", [[fields.get("start"), fields.get("end")]])
    whole = all(isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p) for p in pieces)
    if not pieces or not whole or ("fragments" in fields and "start" in fields):
        raise line.error("a mention's place", "start and end, or fragments [[start, end], …], in characters")
    name, concepts = str(fields.get("id", f"T{place}")), tuple(map(str, fields.get("concepts", ())))
    spans = tuple((start, end) for start, end in pieces)
    more = _texts(fields.get("attributes"), line), line.provenance, fields.get("score")
    mention = Mention(name, spans, fields["type"], concepts, *more)
    if "text" in fields:
        reading.compare(mention, fields["text"], text, line.path)
    return mention


def _relation(fields: Mapping[str, Any], place: int, line: Line) -> Relation:
    if not {"source", "target"} <= fields.keys():
        raise line.error("a relation without its ends", "source and target, ids of mentions")
    name, ends = str(fields.get("id", f"R{place}")), (str(fields["source"]), str(fields["target"]))
    told, score = _texts(fields.get("attributes"), line), fields.get("score")
    return Relation(name, fields["type"], *ends, attributes=told, provenance=line.provenance, score=score)


def _pair(fields: Mapping[str, Any], place: int, question: str, line: Line) -> RankedPair:
    name = str(fields.get("id", f"{question}-{place}"))
    more = fields.get("label"), fields.get("relevant"), line.provenance, fields.get("score")
    return RankedPair(question, name, fields["text"], place, *more)


def _texts(values: Mapping[str, Any] | None, line: Line) -> Mapping[str, str]:
    if any(isinstance(value, list | dict) for value in (values or {}).values()):
        raise line.error("a list or an object as the value of an attribute", "a text, number or truth value")
    return {key: str(value) for key, value in values.items()} if values else NOTHING


def _written(sample: UnifiedSample) -> dict[str, Any]:
    """One document's annotations, without what is empty."""
    mentions = []
    for mention in sample.mentions:
        words = mention.text(sample.text) if sample.text is not None else None
        pieces = [list(piece) for piece in mention.fragments]
        mentions.append(_annotation(mention, fragments=pieces, text=words, concepts=list(mention.concepts)))
    relations = [_annotation(link, source=link.source, target=link.target) for link in sample.relations]
    ranked = sorted(sample.pairs, key=lambda pair: -(pair.score or 0.0))
    candidates = [{"id": p.candidate_id, "relevant": p.relevant, "score": p.score} for p in ranked]
    parts: dict[str, list[Any]] = {"mentions": mentions, "relations": relations, "candidates": candidates}
    return {"id": sample.document_id} | {name: [*map(_held, part)] for name, part in parts.items() if part}


def _annotation(of: Mention | Relation, **own: Any) -> dict[str, Any]:
    """What mentions and relations have in common, around what is their own."""
    return {"id": of.id, "type": of.type, **own, "attributes": dict(of.attributes), "score": of.score}


def _held(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that hold something, scores to six digits."""
    held = {name: value for name, value in fields.items() if value not in (None, [], {})}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in held.items()}
