"""What the two ShARe pipe formats have in common: which files, which text, whose document.

    read_file = partial(share.read_file, parse=…, merge=…)

`parse(line)` is the mention of one line, `merge(mentions, path, reading)` makes one of those of one span.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading, corpus_files, flat, lines, readme

DISORDER = "Disease_Disorder"
NO_CONCEPT = "CUI-less"
TEXT_SUFFIXES = (".text", ".txt")

Parse = Callable[[Line], Mention]
Merge = Callable[[list[Mention], Path, Reading], Mention]


def find(folder: Path) -> list[Path]:
    """Return every `.pipe` file below the folder, and every note whose document has none, sorted.

    A note without a disorder may come without annotation file; it is a sample all the same. A note of the
    same name in another folder is another note, unless the `.pipe` file has none beside it.
    """
    pipes = corpus_files(folder, ".pipe")
    found = (path for path in corpus_files(folder, *TEXT_SUFFIXES) if not readme(path))
    texts = {path.with_suffix(""): path for path in found}
    beside = {path.with_suffix("") for path in pipes}
    elsewhere = {place.name for place in beside - texts.keys()}
    alone = [p for place, p in texts.items() if place not in beside and place.name not in elsewhere]
    return sorted(pipes + alone)


def read_file(path: Path, reading: Reading, parse: Parse, merge: Merge) -> list[UnifiedSample]:
    """Return the one document of a `.pipe` file (its text looked up), or of a bare `.text` file.

    Its name as the lines spell it is kept as `metadata["doc_field"]`, so that writing repeats it.
    """
    spans: dict[tuple[tuple[int, int], ...], list[Mention]] = {}
    doc_field = default_field(path.stem)
    for line in [] if path.suffix.lower() in TEXT_SUFFIXES else lines(path):
        with reading.record():
            mention = parse(line)
            doc_field = _document_name(line)
            spans.setdefault(mention.fragments, []).append(mention)
    merged = (merge(mentions, path, reading) for mentions in spans.values())
    numbered = [replace(mention, id=f"T{number}") for number, mention in enumerate(merged, start=1)]
    text = reading.text_of(path, path.stem, TEXT_SUFFIXES)
    sample = reading.sample(path.stem, text, numbered, (), Line(path))
    return [replace(sample, metadata={"doc_field": doc_field})]


def files(
    samples: Iterable[UnifiedSample], separator: str, rows: Callable[[Mention], Iterable[list[str]]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield one `<document>.pipe` per sample, empty without annotations; `rows` are a mention's lines."""
    for sample in samples:
        fields = [[field_of(sample), *row] for mention in sample.mentions for row in rows(mention)]
        yield f"{flat(sample.document_id)}.pipe", [separator.join(row) for row in fields]


def default_field(document_id: str) -> str:
    """Return a document's name in its own lines, as the organisers spell it."""
    return f"{flat(document_id)}.txt"


def field_of(sample: UnifiedSample) -> str:
    """Return the document's name in written lines: as it was read, or with its folder's where names recur."""
    default = default_field(sample.document_id)
    return default if "/" in sample.document_id else sample.metadata.get("doc_field", default)


def _document_name(line: Line) -> str:
    """Return the first field; CorpusError unless it names the document of its file, whatever the case."""
    doc_field = line.text.partition("|")[0]
    named = doc_field
    for suffix in TEXT_SUFFIXES:
        named = named.removesuffix(suffix)
    if named.lower() != line.path.stem.lower():
        expected = f"the file's own document, {default_field(line.path.stem)!r}"
        raise line.error(f"document name {quoted(doc_field, 80)}", expected)
    return doc_field
