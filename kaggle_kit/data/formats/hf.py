"""HuggingFace datasets as they lie on a disk: what `save_to_disk` writes, or Parquet, Arrow and JSON files.

    samples = read("hf", Path("train-00000-of-00001.parquet"), Reading(options={"tags": "labels"}))

    {"id": "1", "tokens": ["No", "fever"], "ner_tags": [0, 1]}
    {"id": "2", "text": "No fever.", "entities": [{"start": 3, "end": 8, "label": "Disease"}]}

A row is a document. The options name its columns: `tokens` and `tags` (usually `ner_tags`), or `text` and
`entities`, and `id`. Classes that are numbers are named by the file's own features, or by `options.classes`,
commas between. Files are read one by one, so that no code of a dataset runs and nothing is copied to a cache.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import unless_withheld
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading, corpus_files, decode, lines
from kaggle_kit.data.formats.conll import Tagged, report_illegal, tag_of, tagged_sample
from kaggle_kit.data.formats.jsonl import sample_of

EXPECTED_FILES = "a dataset's files (*.arrow, *.parquet, *.json, *.jsonl)"
ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
LABELS = ("label", "type", "entity_type")  # what an entity's type is called

Row = Mapping[str, Any]


def find(folder: Path) -> list[Path]:
    """Return the dataset's files below the folder, without those about it and the library's own cache."""
    files = corpus_files(folder, ".arrow", ".parquet", ".json", ".jsonl")
    return [path for path in files if path.name not in ABOUT and not path.name.startswith("cache-")]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return one document per row; a row that is none is rejected.

    Raises CorpusError for a file that cannot be read or lacks the columns.
    """
    rows, features = _rows(path)
    asked, having = reading.options, {name for _, row in rows for name in row}
    tokens, tags = reading.options.get("tokens", "tokens"), reading.options.get("tags", "ner_tags")
    text, entities = reading.options.get("text", "text"), reading.options.get("entities", "entities")
    key, named = reading.options.get("id", "id"), reading.options.get("classes")
    tagged = (
        "tokens" in asked or "tags" in asked or (tokens in having and not {"text", "entities"} & {*asked})
    )
    content, marks = (tokens, tags) if tagged else (text, entities)
    if rows and not {content, marks} <= having:
        expected = f"{content} and {marks}; options.tokens and tags, or text and entities, name other columns"
        found = unless_withheld(f"columns {', '.join(sorted(having))}", f"{len(having)} other columns")
        raise CorpusError(path, found=found, expected=expected)
    classes = named.split(",") if named else _classes(features.get(marks))
    samples: list[UnifiedSample] = []
    sentences: list[Tagged] = []
    for line, row in rows:
        name = str(row[key] if row.get(key) is not None else f"{path.stem}-{line.number}")
        with reading.record():
            try:
                if tagged:
                    sentences.append(_tagged(row[content], row[marks], classes, line))
                    samples.append(tagged_sample(name, sentences[-1:], reading))
                else:
                    mentions = [_mention(entity, classes, line) for entity in _listed(row[marks])]
                    record = {"id": name, "text": row[content], "mentions": mentions}
                    samples.append(sample_of(record, line, reading))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                found = f"a row whose {content} and {marks} do not fit ({type(error).__name__})"
                expected = "a list of tags for one of tokens, or a text with entities"
                raise line.error(found, expected) from error
    report_illegal(sentences, reading)
    return samples


def _rows(path: Path) -> tuple[list[tuple[Line, Row]], Mapping[str, Any]]:
    """Return the rows of a file, counted from 1, and the features that it stores; none in JSON."""
    import pyarrow as pa
    from pyarrow import parquet

    features: Mapping[str, Any] = {}
    try:
        if path.suffix.lower() in (".json", ".jsonl"):
            text = decode(path)
            whole = text.lstrip().startswith("[")
            rows = json.loads(text) if whole else [json.loads(line.text) for line in lines(path)]
        else:
            with pa.memory_map(str(path)) as file:
                is_parquet = path.suffix.lower() == ".parquet"
                table = parquet.read_table(file) if is_parquet else pa.ipc.open_stream(file).read_all()
                rows = table.to_pylist()
            stored = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
            features = stored.get("info", {}).get("features", {})
        return [(Line(path, n), dict(row)) for n, row in enumerate(rows, start=1)], features
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        found = f"a file that cannot be read ({type(error).__name__})"
        raise CorpusError(path, found=found, expected=EXPECTED_FILES) from error


def _classes(feature: Any) -> Sequence[str]:
    """Return the names of the first ClassLabel in a column's feature, however deep it lies."""
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return feature.get("names") or []
    inner = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
    return next(filter(None, map(_classes, inner)), [])


def _class(value: Any, classes: Sequence[str], line: Line) -> str:
    """Return the name of a class that may be stored as a number."""
    if type(value) is int and not 0 <= value < len(classes):
        expected = f"one of {len(classes)}; options.classes names them, commas between"
        raise line.error(f"class {value}", expected)
    return classes[value] if type(value) is int else value


def _tagged(tokens: list[str], tags: list[Any], classes: Sequence[str], line: Line) -> Tagged:
    names = [tag_of(_class(tag, classes, line), line) for _, tag in zip(tokens, tags, strict=True)]
    if not all(token.strip() for token in tokens) or not tokens:
        raise ValueError("a token without a letter")
    return Tagged(tokens, names, [line] * len(tokens))


def _listed(entities: Any) -> list[Row]:
    """Return entities as objects, also where they are stored as an object of lists."""
    if isinstance(entities, dict):
        columns = zip(*entities.values(), strict=True)
        return [dict(zip(entities, one, strict=True)) for one in columns]
    return entities


def _mention(entity: Row, classes: Sequence[str], line: Line) -> dict[str, Any]:
    """Return an entity as the mention of a JSONL document, whose reader checks it."""
    label = [entity[name] for name in LABELS if entity.get(name) is not None][0]
    places = {name: entity[name] for name in ("start", "end", "text") if name in entity}
    return {"type": _class(label, classes, line), **places}
