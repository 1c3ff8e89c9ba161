"""The truth behind the practice corpora: invented terms, their class in each task, who sees them.

lexicon = draw(settings)
lexicon.class_of("semeval2014t7")["brelum"]             # "disorder"
"brelum" in lexicon.seen_in_training("semeval2014t7")   # False: only other tasks teach it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import PracticeConfig

T = TypeVar("T")
Rng = np.random.Generator

FIVE = ("semeval2014t7", "semeval2015t14", "semeval2016t12", "semeval2017t3", "semeval2021t6")
CLASSES = ("disorder", "drug", "procedure", "anatomy", "finding")  # as many as tasks: see `_assign`

# Unordered pairs of classes that stand in a relation: (type, source class, target class).
RELATIONS = (
    ("TREATS", "drug", "disorder"),
    ("CAUSES", "drug", "finding"),
    ("REVEALS", "procedure", "disorder"),
    ("EXAMINES", "procedure", "anatomy"),
    ("LOCATED_IN", "disorder", "anatomy"),
    ("LOCATED_IN", "finding", "anatomy"),
)

# How a lexicon of terms is cut into families, again and again: (modifiers, bare head is a term too).
PATTERN = ((0, True), (0, True), (0, True), (2, False), (0, True), (0, True), (0, True), (1, True))

ONSETS = ("b", "br", "d", "dr", "f", "fl", "g", "gl", "k", "kr", "m", "n", "pl", "pr", "t", "tr", "v", "z")
NUCLEI = ("a", "e", "i", "o", "u", "ae", "ou", "ei")
CODAS = ("", "l", "m", "n", "r", "x")


@dataclass(frozen=True, slots=True)
class Family:
    """Terms that share a head word, and with it their class and their visibility in every task.

    No modifier: the head alone is a term. Two modifiers: "a h" and "b h", which may be coordinated
    as "a and b h". One modifier and a bare head: "a h" with the term "h" nested inside it.
    """

    id: int
    modifiers: tuple[str, ...]
    head: str
    bare: bool

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms of the family, the bare head first where it is one."""
        inner = (Term(self, None),) if self.bare else ()
        return inner + tuple(Term(self, modifier) for modifier in self.modifiers)


@dataclass(frozen=True, slots=True)
class Term:
    """One entry of the lexicon: a head word, or a modifier and a head."""

    family: Family
    modifier: str | None

    @property
    def text(self) -> str:
        """The term's words as they stand in a text."""
        return f"{self.modifier} {self.family.head}" if self.modifier else self.family.head

    @property
    def cui(self) -> str:
        """An invented concept id, C99 and five digits, the same in every task."""
        place = self.family.modifiers.index(self.modifier) + 1 if self.modifier else 0
        return f"C99{3 * self.family.id + place:05d}"


@dataclass(frozen=True)
class Lexicon:
    """What is planted. `families`, `classes` and `seen` are keyed by task id."""

    families: Mapping[str, tuple[Family, ...]]
    classes: Mapping[str, Mapping[int, str]]  # task -> family id -> class
    seen: Mapping[str, Collection[int]]  # task -> ids of the families in its training split

    def terms(self, task: str, split: str) -> tuple[Term, ...]:
        """Return the terms a split of a task draws from: the seen ones in train, all in dev and test."""
        families = (f for f in self.families[task] if split != "train" or f.id in self.seen[task])
        return tuple(term for family in families for term in family.terms)

    def class_of(self, task: str) -> dict[str, str]:
        """Return term -> semantic class in this task."""
        return {term.text: self.classes[task][term.family.id] for term in self.terms(task, "dev")}

    def seen_in_training(self, task: str) -> frozenset[str]:
        """Return the terms that this task's own training split may contain."""
        return frozenset(term.text for term in self.terms(task, "train"))


def relation_between(first: str, second: str) -> tuple[str, str, str] | None:
    """Return the relation that two classes stand in, whichever is named first."""
    return next((r for r in RELATIONS if {first, second} == set(r[1:])), None)


def pick(rng: Rng, options: Sequence[T]) -> T:
    """Draw one of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]


def draw(settings: PracticeConfig) -> Lexicon:
    """Draw the lexicon of these settings. Words, families and visibility do not depend on `transfer`.

    Raises ConfigError if a training split would be left without any term.

    A conflicting term has one class in all training splits that show it, and another one in each task
    that does not: were it different wherever it is shown, a task could learn from the others what a term
    is not, and would gain by it.
    """
    rng = np.random.default_rng([settings.seed, 0])
    shapes = _shapes(settings.terms)
    common = round(settings.lexicon_overlap * len(shapes))
    words = _words(rng)
    shared = _families(words, 0, shapes[:common])
    starts = {task: 5 * len(shapes) * place for place, task in enumerate(FIVE, start=1)}
    private = {task: _families(words, start, shapes[common:]) for task, start in starts.items()}
    seen = _visibility(rng, shared, private, settings.coverage)
    families = {task: (*shared, *private[task]) for task in FIVE}
    classes = {task: {family.id: CLASSES[family.id % 5] for family in families[task]} for task in FIVE}
    for task in FIVE:
        if settings.transfer == "none":
            for start in range(0, len(shared), 5):
                five = zip(shared[start : start + 5], rng.permutation(5), strict=True)
                classes[task].update((family.id, CLASSES[which]) for family, which in five)
        if settings.transfer == "conflicting":
            classes[task].update(_deranged(rng, [f for f in shared if f.id not in seen[task]]))
    return Lexicon(families, classes, seen)


def _shapes(terms: int) -> list[tuple[int, bool]]:
    """Family shapes of one class, `terms` terms in all."""
    shapes: list[tuple[int, bool]] = []
    while terms > 0:
        modifiers, bare = PATTERN[len(shapes) % len(PATTERN)]
        shapes.append((modifiers, bare) if modifiers + bare <= terms else (0, True))
        terms -= sum(shapes[-1])
    return shapes


def _families(words: Iterator[str], first: int, shapes: Sequence[tuple[int, bool]]) -> list[Family]:
    """Five families of each shape (modifiers, bare), one for each class, numbered from `first`."""
    fives = [shape for shape in shapes for _ in CLASSES]
    return [
        Family(number, tuple(next(words) for _ in range(modifiers)), next(words), bare)
        for number, (modifiers, bare) in enumerate(fives, start=first)
    ]


def _words(rng: Rng) -> Iterator[str]:
    """Distinct pronounceable pseudo-words of two or three syllables and at least five letters."""
    known: set[str] = set()
    while True:
        word = "".join(pick(rng, part) for _ in range(rng.integers(2, 4)) for part in (ONSETS, NUCLEI))
        word += pick(rng, CODAS)
        if len(word) >= 5 and word not in known:
            known.add(word)
            yield word


def _deranged(rng: Rng, families: Sequence[Family]) -> Iterator[tuple[int, str]]:
    """Another class for each family; each class goes to as many families of a shape as it had before.

    Where one class has over half of a shape's families, that many cannot be: some get any other class.
    """
    for shape in sorted({(len(family.modifiers), family.bare) for family in families}):
        order = rng.permutation(5)
        alike = [family for family in families if (len(family.modifiers), family.bare) == shape]
        alike.sort(key=lambda family: order[family.id % 5])
        most = max(Counter(family.id % 5 for family in alike).values())
        for family, other in zip(alike, alike[most:] + alike[:most], strict=True):
            other_class = other.id % 5 != family.id % 5
            which = other.id if other_class else family.id + rng.integers(1, 5)
            yield family.id, CLASSES[which % 5]


def _visibility(
    rng: Rng, shared: Sequence[Family], private: Mapping[str, Sequence[Family]], coverage: float
) -> dict[str, set[int]]:
    """Which families each training split shows."""
    seen: dict[str, set[int]] = {task: set() for task in FIVE}
    for r in range(5):
        column = shared[r::5]
        for family, tasks in zip(column, _sharings(rng, len(column), coverage), strict=True):
            for task in tasks:
                seen[task].add(family.id)
        for task in FIVE:
            own = private[task][r::5]
            shown = rng.permutation(len(own))[: round(coverage * len(own))]
            seen[task].update(own[i].id for i in shown)
    if not all(seen.values()):
        why = "with so few terms a split would show none; raise practice.coverage or practice.terms"
        raise ConfigError(f"practice.coverage is {coverage}: {why}")
    return seen


def _sharings(rng: Rng, number: int, coverage: float) -> list[tuple[str, ...]]:
    """Return the tasks that show each of `number` common families: `coverage` of the five on average.

    All sets of that many tasks are used equally often, so every task teaches every other task the
    same share of what it does not see itself.
    """
    low, share = divmod(coverage * len(FIVE), 1)
    more = round(share * number)
    sharings: list[tuple[str, ...]] = []
    for size, count in ((int(low) + 1, more), (int(low), number - more)):
        subsets = list(combinations(FIVE, min(size, len(FIVE))))
        order = rng.permutation(len(subsets))
        sharings += [subsets[order[i % len(subsets)]] for i in range(count)]
    return [sharings[i] for i in rng.permutation(number)]
