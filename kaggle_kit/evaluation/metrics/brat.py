"""BRAT entities and relations as brateval counts them, and the strict figures beside them.

    score(gold_folder, predicted_folder)["entity_f1"]

Source: READ-BioMed/brateval 0.3.2, CompareEntities and CompareRelations, `-s exact -t exact`, row `all`.
Two defects are reproduced under its names: a predicted mention with further pieces matches, and matches
are taken greedily in the order of a Java HashMap over the ids. `entity_strict_*` and `relation_strict_*`
compare sets of (document, type, pieces) instead, and count the T lines that brateval drops.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.data.formats.base import corpus_files
from kaggle_kit.evaluation.metrics.common import counts, ratios, summed

Part = tuple[str, tuple[tuple[int, int], ...]]  # type, pieces
Item = tuple[Part, ...]  # a mention is one part; a relation its type, without pieces, and both mentions


@dataclass
class Document:
    """The lines of one `.ann` file: id -> entity, id -> relation. brateval does not count those `dropped`."""

    entities: dict[str, Item] = field(default_factory=dict)
    dropped: dict[str, Item] = field(default_factory=dict)
    links: dict[str, Item] = field(default_factory=dict)

    @property
    def every_entity(self) -> dict[str, Item]:
        """All entities by id, those that brateval does not count included."""
        return self.dropped | self.entities


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Compute precision, recall and F1 (0 to 1) of entities and relations, official and strict.

    Every gold `.ann` needs a predicted one at the same place below the folder, or else of the same
    name; predicted files without gold are ignored. Raises ScoreError where brateval stops, but for two
    cases that MACCROBAT has: a relation of events is one of their triggers, and a relation may name a
    mention whose own line does not count.
    """
    compared = [_document_counts(*paths) for paths in _paired_files(gold, pred)]
    figures: dict[str, float] = {}
    for name in compared[0]:
        figures |= ratios(f"{name}_{{}}", **summed(rows[name] for rows in compared))
    return figures


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """Return each document's counts for one of the four F1 figures, by its path without the ending."""
    rows = {
        paths[0].relative_to(gold).with_suffix("").as_posix(): _document_counts(*paths)
        for paths in _paired_files(gold, pred)
    }
    name = metric.removesuffix("_f1")
    known = metric.endswith("_f1") and all(name in row for row in rows.values())
    return {document: counts(**row[name]) for document, row in rows.items()} if known else None


def _document_counts(gold: Path, predicted: Path) -> dict[str, dict[str, int]]:
    """One document's counts for entities and relations, official and strict."""
    wanted, found = read_document(gold), read_document(predicted)
    return {
        "entity": _greedy(wanted.entities, found.entities),
        "entity_strict": _shared(wanted.every_entity.values(), found.every_entity.values()),
        "relation": _greedy(wanted.links, found.links),
        "relation_strict": _shared(wanted.links.values(), found.links.values()),
    }


def read_document(path: Path) -> Document:
    """Read T and R lines as brateval does: a T line counts with three fields, an R line with three words.

    So a mention whose stored text holds a tab does not count; the strict figures have it.
    """
    document = Document()
    triggers: dict[str, str] = {}
    relations: dict[str, tuple[int, str]] = {}
    lines = re.split(r"\r\n|\r|\n", path.read_bytes().decode("utf-8-sig", errors="replace"))  # as Java's
    for number, line in enumerate(lines, start=1):
        cells = line.rstrip("\t").split("\t")  # like Java's split, which drops empty fields at the end
        if line.startswith("T") and len(cells) > 1:
            counted = document.entities if len(cells) == 3 else document.dropped
            counted[cells[0]] = _entity(cells[1], f"{path}:{number}")
        elif line.startswith("R") and line.strip().count(" ") == 2:
            relations[cells[0]] = (number, line.strip())
        elif line.startswith("E") and len(cells) > 1:
            triggers[cells[0]] = _argument(cells[1].split(" ")[0])
    for name, (number, line) in relations.items():
        document.links[name] = _link(line, document.every_entity, triggers, f"{path}:{number}")
    return document


def _entity(cell: str, where: str) -> Item:
    kind, _, spans = cell.partition(" ")
    try:
        ends = [span.split(" ")[:2] for span in spans.strip().split(";")]
        return ((kind, tuple((int(start), int(end)) for start, end in ends)),)
    except ValueError as error:
        expected = "start end[;start end …]"
        raise ScoreError(f"{where}: found offsets {quoted(spans)}; expected {expected}") from error


def _link(line: str, entities: Mapping[str, Item], triggers: Mapping[str, str], where: str) -> Item:
    head, *arguments = line.split(" ")
    names = [_argument(argument) for argument in arguments]
    ends = [entities.get(triggers.get(name, name)) for name in names]
    if "\t" not in head or ends[0] is None or ends[1] is None:
        expected = "R<n>, TAB, type Arg1:id Arg2:id, ids of this file"
        raise ScoreError(f"{where}: found {quoted(line)}; expected {expected}")
    return ((head.split("\t")[1], ()), *ends[0], *ends[1])


def _argument(text: str) -> str:
    """Return the id in `role:id`, empty where there is none."""
    return text.partition(":")[2]


def _paired_files(gold: Path, pred: Path) -> list[tuple[Path, Path]]:
    wanted = corpus_files(gold, ".ann")
    if not wanted:
        raise ScoreError(f"{gold}: found no .ann file; expected the gold standard in BRAT stand-off")
    by_name = {path.name: path for path in corpus_files(pred, ".ann")}
    pairs = []
    for path in wanted:
        beside = pred / path.relative_to(gold)
        predicted = beside if beside.is_file() else by_name.get(path.name)
        if predicted is None:
            wants = "brateval wants one for every gold file, if an empty one"
            raise ScoreError(f"{pred}: found no {path.name}; {wants}")
        pairs.append((path, predicted))
    return pairs


def _greedy(gold: Mapping[str, Item], predicted: Mapping[str, Item]) -> dict[str, int]:
    """Each gold item takes the first free prediction that holds it, both in HashMap order."""
    free = {name: predicted[name] for name in java_hash_order(predicted)}
    right = 0
    for name in java_hash_order(gold):
        taken = next((other for other, item in free.items() if _found_in(gold[name], item)), None)
        if taken is not None:
            del free[taken]
            right += 1
    return dict(right=right, gold=len(gold), predicted=len(predicted))


def _found_in(item: Item, predicted: Item) -> bool:
    """brateval's exact match: every piece is a piece of the prediction, which may have more."""
    parts = zip(item, predicted, strict=True)
    return all(kind == told and set(pieces) <= set(more) for (kind, pieces), (told, more) in parts)


def java_hash_order(names: Iterable[str]) -> list[str]:
    """Return the order in which java.util.HashMap (Java 8 on) iterates keys that were put in this order.

    Keys stand by bucket, inside a bucket by arrival; the table doubles beyond three quarters full.
    """
    keys = list(dict.fromkeys(names))
    buckets = 16
    while len(keys) > 0.75 * buckets:
        buckets *= 2
    return sorted(keys, key=lambda name: _java_hash(name) & (buckets - 1))


def _java_hash(name: str) -> int:
    code = 0
    for character in name:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return code ^ (code >> 16)


def _shared(gold: Iterable[Item], predicted: Iterable[Item]) -> dict[str, int]:
    wanted, found = (
        {tuple((kind, tuple(sorted(pieces))) for kind, pieces in item) for item in items}
        for items in (gold, predicted)
    )
    return dict(right=len(wanted & found), gold=len(wanted), predicted=len(found))
