"""The official figures of 2016 Task 12 (Clinical TempEval), as `anafora.evaluate` 1.2.0 prints them.

    score(gold_folder, predicted_folder)["contains_closure_f1"]

Reference: bethard/anaforatools, run on EVENT and TIMEX3 of all notes, and on CONTAINS links of clinical
notes, without and with temporal closure (UzZaman & Allen 2011).
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.data.formats.anafora import preference
from kaggle_kit.data.formats.base import leftover
from kaggle_kit.data.formats.xml_safe import parse
from kaggle_kit.evaluation.metrics.common import counts, folder_files, ratios, score_errors

ATTRIBUTES = {
    "EVENT": ("DocTimeRel", "Type", "Polarity", "Degree", "ContextualModality"),
    "TIMEX3": ("Class",),
}
ROWS = {"contains", "contains_closure"} | {
    f"{kind}_{name}".lower()
    for kind, attributes in ATTRIBUTES.items()
    for name in ("span", *attributes, *(f"{attribute}_stated" for attribute in attributes))
}
NOTHING = {"right": 0, "found": 0, "predicted": 0, "gold": 0}

Span = tuple[tuple[int, ...], ...]
Link = tuple[Span, ...]


class Entity(NamedTuple):
    """An annotated event or time expression: type, character spans and properties."""

    type: str | None
    span: Span
    properties: Mapping[str, str]


@dataclass
class Note:
    """What the scorer sees of one annotation file."""

    entities: list[Entity] = field(default_factory=list)
    contains: set[Link] = field(default_factory=set)  # spans of source and target


Rows = dict[str, Counter[str]]  # of each printed row the counts of `ratios`, added up over notes


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Compute precision, recall and F1 of every row; rows without anything to count are left out.

    In the official attribute rows an entity without the attribute counts as one more value, "none", in
    notes where the attribute occurs at all, and an empty attribute as another; `<row>_stated_…` counts
    stated values only. The closure row is left out too if a CONTAINS link lacks an end, where the
    official program stops. Raises ScoreError for files that the program cannot read, and where there
    is no gold file.
    """
    rows: Rows = {}
    closable = [_count_note(*paths, rows) for paths in _file_pairs(gold, pred)]
    if not all(closable):
        rows.pop("contains_closure", None)
    figures: dict[str, float] = {}
    for name, row in rows.items():  # precision is 1 where nothing is predicted, recall 1 without gold
        figures |= ratios(f"{name}_{{}}", **row, undefined=1.0)
    return figures


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """Return each note's counts for an F1, by its folder below `gold`.

    With closure a hit is not the same on both sides: `tp` are predictions that follow from the gold links,
    `found` gold links that follow from the predicted ones. Precision rests on one, recall on the other.
    """
    name, notes = metric.removesuffix("_f1"), {}
    for gold_path, pred_path in _file_pairs(gold, pred):
        rows: Rows = {}
        closable = _count_note(gold_path, pred_path, rows)
        if metric == "contains_closure_f1" and not closable:
            return None
        place = gold_path.parent.relative_to(gold).as_posix() if gold_path.parent != gold else gold.name
        notes[place] = counts(**rows.get(name, NOTHING))
    return notes if name in ROWS else None


def _count_note(gold_path: Path, pred_path: Path | None, rows: Rows) -> bool:
    """Add one note to the rows. False where a link lacks an end, so that there is no closure."""
    truth, guess = _read(gold_path), _read(pred_path) if pred_path else Note()
    _count_entities(truth, guess, rows)
    if "clin" not in gold_path.name.lower():
        return True
    _count("contains", truth.contains, guess.contains, rows)
    _count("contains_closure", truth.contains, guess.contains, rows, follow=closure)
    return all(len(link) == 2 for link in truth.contains | guess.contains)


def _count_entities(truth: Note, guess: Note, rows: Rows) -> None:
    for kind, attributes in ATTRIBUTES.items():
        sides = [[entity for entity in note.entities if entity.type == kind] for note in (truth, guess)]
        _count(f"{kind}_span".lower(), {e.span for e in sides[0]}, {e.span for e in sides[1]}, rows)
        for attribute in attributes:
            name = f"{kind}_{attribute}".lower()
            gold, predicted = ({(e.span, e.properties.get(attribute)) for e in side} for side in sides)
            if any(value is not None for _, value in gold | predicted):
                _count(name, gold, predicted, rows)
            gold, predicted = ({pair for pair in pairs if pair[1]} for pairs in (gold, predicted))
            _count(f"{name}_stated", gold, predicted, rows)


def _count(
    name: str, gold: set[Any], predicted: set[Any], rows: Rows, follow: Callable[[set[Any]], set[Any]] = set
) -> None:
    """Add to a row, unless there is nothing to count. A hit is in what follows from the other side."""
    if gold or predicted:
        right, found = len(predicted & follow(gold)), len(gold & follow(predicted))
        sizes = {"right": right, "found": found, "predicted": len(predicted), "gold": len(gold)}
        rows.setdefault(name, Counter()).update(sizes)


def closure(links: Collection[Link]) -> set[Link]:
    """Return all links that follow by transitivity: (a, c) where a path of given links leads from a to c.

    The official program derives this through the order of start and end points; for CONTAINS alone
    that is the same. On a cycle every span contains every other and itself.
    """
    targets: dict[Span, set[Span]] = {}
    for source, target in (link for link in links if len(link) == 2):
        targets.setdefault(source, set()).add(target)
    return {(source, reached) for source in targets for reached in _reachable(source, targets)}


def _reachable(source: Span, targets: Mapping[Span, set[Span]]) -> set[Span]:
    reached: set[Span] = set()
    frontier = set(targets[source])
    while frontier:
        reached |= frontier
        frontier = {far for near in frontier for far in targets.get(near, ())} - reached
    return reached


def _file_pairs(gold: Path, pred: Path) -> Iterator[tuple[Path, Path | None]]:
    """Gold annotation files, each with the predicted one from the folder of the same name, if any."""
    if not pred.is_dir():
        raise ScoreError(f"{pred}: no such folder; expected the predictions' <ID>/<ID>.Temporal-….xml")
    found = False
    for place, subfolders, _ in sorted(os.walk(gold)):
        if leftover(Path(place).relative_to(gold)):
            continue
        notes = [name for name in subfolders if not leftover(Path(name))]
        files = _temporal_files(Path(place), "") if not notes else []
        if files:
            found = True
            folder = pred / Path(place).relative_to(gold)
            predicted = _temporal_files(folder, Path(place).name) if folder.is_dir() else []
            yield files[0], predicted[0] if predicted else None
    if not found:
        raise ScoreError(f"{gold}: no <ID>/<ID>.Temporal-….xml in it; expected the gold annotations")


def _temporal_files(folder: Path, start: str) -> list[Path]:
    """Return the folder's temporal annotation files, the preferred one first (the program takes any)."""
    names = (path for path in folder_files(folder, "*.xml") if ".Temporal" in path.name)
    return sorted((path for path in names if path.name.startswith(start)), key=preference)


def _read(path: Path) -> Note:
    with score_errors():
        root = parse(path)
    note = Note()
    spans: dict[str | None, Span] = {}
    links: list[Mapping[str, str]] = []
    seen: set[str | None] = set()
    for element in root.iterfind("annotations/*"):
        identifier, kind = element.findtext("id"), element.findtext("type")
        if identifier in seen:
            where = f"{path}:{element.sourceline}"
            raise ScoreError(f"{where}: found id {quoted(identifier or '')} twice; expected unique ids")
        seen.add(identifier)
        if element.tag == "entity":
            spans[identifier] = _span(element, path)
            note.entities.append(Entity(kind, spans[identifier], _properties(element)))
        elif element.tag == "relation" and kind == "TLINK":
            links.append(_properties(element))
    for link in links:
        if link.get("Type") == "CONTAINS":
            note.contains.add(tuple(spans[link[end]] for end in sorted(link) if link[end] in spans))
    return note


def _span(element: etree._Element, path: Path) -> Span:
    text = element.findtext("span")
    if text is None:
        return ()
    try:
        return tuple(tuple(int(offset) for offset in piece.split(",")) for piece in text.split(";"))
    except ValueError as error:
        where = f"{path}:{element.sourceline}"
        raise ScoreError(f"{where}: found span {quoted(text, 40)}; expected start,end;start,end…") from error


def _properties(element: etree._Element) -> dict[str, str]:
    """Properties by name; one that is there but empty is an empty string."""
    properties = element.find("properties")
    return {} if properties is None else {p.tag: p.text or "" for p in properties}
