"""The official figures of 2016 Task 12 (Clinical TempEval), as `anafora.evaluate` 1.2.0 prints them.

    score(gold_folder, predicted_folder)["contains_closure_f1"]

Reference: bethard/anaforatools, run on EVENT and TIMEX3 of all notes, and on CONTAINS links of clinical
notes, without and with temporal closure (UzZaman & Allen 2011).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from kaggle_kit.core.errors import CorpusError, ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.data.formats.anafora import preference
from kaggle_kit.data.formats.base import leftover
from kaggle_kit.data.formats.xml_safe import parse
from kaggle_kit.evaluation.metrics.score_files import folder_files

ATTRIBUTES = {
    "event_doctimerel": ("EVENT", "DocTimeRel"),
    "event_type": ("EVENT", "Type"),
    "event_polarity": ("EVENT", "Polarity"),
    "event_degree": ("EVENT", "Degree"),
    "event_contextualmodality": ("EVENT", "ContextualModality"),
    "timex3_class": ("TIMEX3", "Class"),
}
SPANS = {"event_span": "EVENT", "timex3_span": "TIMEX3"}

Span = tuple[tuple[int, ...], ...]
Link = tuple[Span, ...]


class Entity(NamedTuple):
    type: str | None
    span: Span
    properties: Mapping[str, str]


@dataclass
class Note:
    """What the scorer sees of one annotation file."""

    entities: list[Entity] = field(default_factory=list)
    contains: set[Link] = field(default_factory=set)  # spans of source and target


@dataclass
class Row:
    """Counts of one printed row, added up over notes."""

    gold: int = 0
    predicted: int = 0
    correct_predictions: int = 0
    correct_gold: int = 0

    def add(self, gold: Collection[Hashable], predicted: Collection[Hashable], hits: int, found: int) -> None:
        self.gold += len(gold)
        self.predicted += len(predicted)
        self.correct_predictions += hits
        self.correct_gold += found

    def figures(self, name: str) -> dict[str, float]:
        """Precision is 1 where nothing is predicted, recall 1 where nothing is to be found."""
        precision = self.correct_predictions / self.predicted if self.predicted else 1.0
        recall = self.correct_gold / self.gold if self.gold else 1.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_f1": f1}

    def counts(self) -> dict[str, int]:
        hits = {"tp": self.correct_predictions, "found": self.correct_gold}
        return {**hits, "fp": self.predicted - self.correct_predictions, "fn": self.gold - self.correct_gold}


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Precision, recall and F1 of every row; rows without anything to count are left out.

    In the official attribute rows an entity without the attribute counts as one more value, "none", in
    notes where the attribute occurs at all, and an empty attribute as another; `<row>_stated_…` counts
    stated values only. The closure row is left out too if a CONTAINS link lacks an end, where the
    official program stops. Raises ScoreError for files that the program cannot read, and where there
    is no gold file.
    """
    rows: dict[str, Row] = {}
    closable = [_count_note(*paths, rows) for paths in _file_pairs(gold, pred)]
    if not all(closable):
        rows.pop("contains_closure", None)
    return {name: value for row in rows for name, value in rows[row].figures(row).items()}


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """What each note adds to an F1, by its folder below `gold`.

    With closure a hit is not the same on both sides: `tp` are predictions that follow from the gold links,
    `found` gold links that follow from the predicted ones. Precision rests on one, recall on the other.
    """
    notes: dict[str, Row] = {}
    for gold_path, pred_path in _file_pairs(gold, pred):
        rows: dict[str, Row] = {}
        closable = _count_note(gold_path, pred_path, rows)
        if metric == "contains_closure_f1" and not closable:
            return None
        place = gold_path.parent.relative_to(gold).as_posix() if gold_path.parent != gold else gold.name
        notes[place] = rows.get(metric.removesuffix("_f1"), Row())
    known = {"contains", "contains_closure", *SPANS, *ATTRIBUTES, *(f"{name}_stated" for name in ATTRIBUTES)}
    return (
        {name: row.counts() for name, row in notes.items()} if metric.removesuffix("_f1") in known else None
    )


def _count_note(gold_path: Path, pred_path: Path | None, rows: dict[str, Row]) -> bool:
    """Add one note to the rows. False where a link lacks an end, so that there is no closure."""
    truth, guess = _read(gold_path), _read(pred_path) if pred_path else Note()
    _count_entities(truth, guess, rows)
    if "clin" not in gold_path.name.lower():
        return True
    _count_links(truth.contains, guess.contains, rows)
    return all(len(link) == 2 for link in truth.contains | guess.contains)


def _count_entities(truth: Note, guess: Note, rows: dict[str, Row]) -> None:
    for name, kind in SPANS.items():
        gold, predicted = ({e.span for e in note.entities if e.type == kind} for note in (truth, guess))
        _count(name, gold, predicted, rows)
    for name, (kind, attribute) in ATTRIBUTES.items():
        gold, predicted = (
            {(e.span, e.properties.get(attribute)) for e in note.entities if e.type == kind}
            for note in (truth, guess)
        )
        if any(value is not None for _, value in gold | predicted):
            _count(name, gold, predicted, rows)
        stated = [{element for element in elements if element[1]} for elements in (gold, predicted)]
        _count(f"{name}_stated", *stated, rows)


def _count_links(gold: set[Link], predicted: set[Link], rows: dict[str, Row]) -> None:
    _count("contains", gold, predicted, rows)
    if gold or predicted:
        hits = len(predicted & closure(gold))
        found = len(gold & closure(predicted))
        rows.setdefault("contains_closure", Row()).add(gold, predicted, hits, found)


def _count(name: str, gold: Set[Hashable], predicted: Set[Hashable], rows: dict[str, Row]) -> None:
    if gold or predicted:
        common = len(gold & predicted)
        rows.setdefault(name, Row()).add(gold, predicted, common, common)


def closure(links: Collection[Link]) -> set[Link]:
    """All links that follow by transitivity: (a, c) where a path of given links leads from a to c.

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
    """The folder's temporal annotation files, the preferred one first (the program takes any)."""
    names = (path for path in folder_files(folder, "*.xml") if ".Temporal" in path.name)
    return sorted((path for path in names if path.name.startswith(start)), key=preference)


def _read(path: Path) -> Note:
    try:
        root = parse(path)
    except CorpusError as error:
        raise ScoreError(str(error)) from error
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
