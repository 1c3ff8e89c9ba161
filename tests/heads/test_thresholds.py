"""When a candidate is a relation: hand-worked probabilities, and dev decided by its other half."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, UnifiedSample
from kaggle_kit.heads import relations
from kaggle_kit.heads.arrays import Scored
from kaggle_kit.heads.relations import Link
from kaggle_kit.heads.thresholds import (
    GRID,
    UNDECIDED,
    best_threshold,
    choose_thresholds,
    half_of,
    threshold_of,
)

LINKS = ComponentSpec("links", Kind.RELATIONS, 2, ("A", "B", "C", "D"), candidates=(("Drug", "Drug"),))
MENTIONS = (Mention("T1", ((0, 1),), "Drug"), Mention("T2", ((2, 3),), "Drug"))
HALVES = [[name for name in map(str, range(60)) if half_of(name) == half] for half in (0, 1)]


def sample(name: str = "d", split: str = "test", label: str | None = None) -> UnifiedSample:
    links = (Relation("R1", label, "T1", "T2"),) if label else ()
    return UnifiedSample(name, "a b", split, Access.PUBLIC, MENTIONS, links)


def decided(probabilities: list[float], threshold: float) -> list[tuple[str, float]]:
    table = {
        "document": [0],
        "mentions:links": [[0, 0, 0, 0, 1, 1, 1, 0]],
        "candidates:links": [[0, 1, 1, 0]],
    }
    head = SimpleNamespace(thresholds=torch.tensor([threshold, 0.0, 0.0]))
    scores = [torch.tensor([probabilities]).log()]
    (found,) = relations.decode(LINKS, head, Scored(table, scores, [sample()], [sample()]))
    return [(link.type, round(link.score, 6)) for link in found.relations]


def test_a_relation_whose_labels_share_its_probability_is_one():
    """P(relation) is .6; an arg-max over all five classes said no."""
    assert decided([0.4, 0.15, 0.25, 0.1, 0.1], 0.5) == [("B", 0.25)]
    assert decided([0.4, 0.15, 0.25, 0.1, 0.1], 0.35) == []
    assert decided([0.6, 0.4, 0.0, 0.0, 0.0], 0.5) == []
    assert decided([0.6, 0.4, 0.0, 0.0, 0.0], 0.65) == [("A", 0.4)]


def test_the_best_threshold_has_the_highest_f1():
    # two of three are right below .35 and one more is missed: F1 4/6; below .65 three of four: 6/7
    scored = [(0.1, True), (0.2, True), (0.3, False), (0.6, True), (0.9, False)]
    assert best_threshold(scored, gold=3) == pytest.approx(0.65)
    assert best_threshold(scored[:3], gold=2) == pytest.approx(
        0.3
    )  # strictly below: the wrong one is left out
    assert best_threshold([], gold=4) == best_threshold([(0.2, False)], gold=4) == UNDECIDED
    assert UNDECIDED in GRID


def link(none: float, label: str = "A") -> list[Link]:
    return [Link(0, 1, label, 1 - none, none)]


def test_each_half_of_dev_is_decided_by_the_other():
    """Half 0 is best served by .8, half 1 by .3: so half 0 gets .3's side and half 1 .8's."""
    names = [*HALVES[0][:4], *HALVES[1][:4]]
    right = [0.72, 0.72, 0.72, 0.72, 0.22, 0.22, 0.22, 0.22]
    gold = [sample(name, "dev", "A") for name in names]
    wrong = [sample(name, "dev") for name in HALVES[1][4:10]]  # which half 1 must not take
    links = [*map(link, right), *(link(0.5) for _ in wrong)]
    chosen = choose_thresholds(LINKS, links, [*gold, *wrong], [*gold, *wrong])
    assert 0.22 < chosen[1] <= 0.5 and chosen[2] > 0.72
    kept = list(chosen)
    assert threshold_of(kept, sample(HALVES[0][0], "dev")) == chosen[1]
    assert threshold_of(kept, sample(HALVES[1][0], "dev")) == chosen[2]
    for split in ("test", "train"):
        assert threshold_of(kept, sample(HALVES[0][0], split)) == chosen[0]


def test_no_document_of_dev_decides_on_itself():
    """Whatever its own links say, its threshold stays."""
    names = [*HALVES[0][:3], *HALVES[1][:3]]
    gold = [sample(name, "dev", "A") for name in names]
    base = choose_thresholds(LINKS, [link(0.4)] * 6, gold, gold)
    for number, name in enumerate(names):
        links = [link(0.4)] * 6
        links[number] = link(0.9, "B")
        changed = choose_thresholds(LINKS, links, gold, gold)
        assert threshold_of(changed, sample(name, "dev")) == threshold_of(base, sample(name, "dev"))


def test_a_wrong_label_or_a_mention_that_gold_lacks_is_wrong():
    gold = [sample(name, "dev", "A") for name in (*HALVES[0][:2], *HALVES[1][:2])]
    nothing = choose_thresholds(LINKS, [link(0.1, "B")] * 4, gold, gold)
    assert nothing == (UNDECIDED,) * 3
    other = (Mention("T1", ((0, 1),), "Drug"), Mention("T2", ((2, 4),), "Drug"))
    moved = [UnifiedSample(s.document_id, s.text, "dev", s.access, other) for s in gold]
    assert choose_thresholds(LINKS, [link(0.1)] * 4, gold, moved) == (UNDECIDED,) * 3
