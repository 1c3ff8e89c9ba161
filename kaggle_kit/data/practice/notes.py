"""Synthetic notes: carrier sentences filled with terms, every offset known by construction.

The text is composed without looking at any class: each slot takes the next term of a shuffled deck,
so neither a sentence nor a pre-training text tells what a term is.

    note = compose(deck(terms, rng), rng)
    note.text[slice(*note.sentences[0].spans[0].fragments[0])]
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kaggle_kit.data.practice.lexicon import Rng, Term, pick

HEADER = "SYNTHETIC PRACTICE NOTE — invented words, no patient"
SECTIONS = ("History", "Course")
SENTENCES, LISTING_SENTENCES = 5, 3  # per section

# {0} is a slot; {1@} a slot that may locate what stands in slot 0; {name=value|word} a cue on slot 0
# (`when` holds for the whole sentence); {DATE} … a time expression of that TIMEX3 class, {DATE+} one
# of a list.
CARRIERS = (
    "{0} was noted together with {1} on admission on {DATE}.",
    "The patient {negation=yes|denies} {0}, while {1} was talked over at length.",
    "There is {negation=yes|no} {0} in the {1@}, and the {2} stays as before.",
    "{severity=severe|Severe} {0} in the {1@} {when=BEFORE|was} recorded on {DATE} next to {2}.",
    "{severity=moderate|Moderate} {0} of the {1@} {when=BEFORE/OVERLAP|has lasted} {DURATION} despite {2}.",
    "{severity=slight|Slight} {0} remains and {1} is unchanged {TIME}.",
    "{uncertainty=yes|Possible} {0} near the {1@}, so we {when=AFTER|will try} {2} {FUTURE}.",
    "{course=worsened|Worsening} {0} at the {1@} was compared with {2} on {DATE}.",
    "{course=improved|Improving} {0} is seen since {1} was written down {SET}.",
    "{course=resolved|Resolved} {0} leaves only the {1} to be followed.",
    "{course=increased|Increasing} {0} {when=BEFORE/OVERLAP|has bothered} her {DURATION}, more than {1}.",
    "Her {subject=family_member|mother} {when=BEFORE|had} {0} and later {1} on {DATE}.",
    "{conditional=true|If} {0} comes back, {1} {when=AFTER|will be} repeated {FUTURE}.",
    "A handout on {generic=true|general} {0} and on {1} went to the family.",
    "We {when=AFTER|will look} at {0} {FUTURE} and then think about {1} again.",
    "{0} and {1} {when=BEFORE|were} reviewed on {DATE}, as was the {2}.",
    "It is {0} with some {1} in the {2} that brings her here {TIME}.",
    "{PREPOSTEXP} notes mention {0} with {1}, while {2} was left alone.",
    "The report lists {0}, {1} and {2} without any comment.",
    "Staff asked about {0} {QUANTIFIER} before they came to {1}.",
)
PIECE = re.compile(
    r"\{(?:(?P<slot>\d+)(?P<locates>@?)|(?P<name>[a-z]+)=(?P<value>[^|]+)\|(?P<word>[^}]+)|(?P<time>[A-Z]+)(?P<listed>\+?))\}"
)

MONTHS = ("January", "March", "April", "June", "July", "October", "November")
TIMES = {
    "TIME": ("this morning", "tonight", "at 9 am", "since noon"),
    "DURATION": ("for two weeks", "for three days", "over a month", "for a year"),
    "SET": ("twice a day", "every night", "once a week"),
    "QUANTIFIER": ("twice", "three times"),
    "PREPOSTEXP": ("Postoperative", "Preoperative"),
    "FUTURE": ("next week", "tomorrow", "in two days", "next month"),
}
GAPS = ("with mild", "and possible", "plus some")
# How a list of terms begins. Neither they nor the time of the list are related to anything.
LISTS = ("besides", "the list of {DATE+} adds", "on file since {DATE+}")
LISTED = 10  # the slot of all terms of a list
LIST = "{10}, {10}, {10}, {10} and {10}."

Fragment = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """One mention of a term. `inner`: it stands nested inside a longer term."""

    term: Term
    fragments: tuple[Fragment, ...]
    slot: int
    locates: bool = False
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Timex:
    """A time expression: its place in the text, and its kind."""

    fragment: Fragment
    kind: str
    listed: bool = False


@dataclass
class Sentence:
    """The places of a sentence's mentions, time expressions and cues."""

    spans: list[Span] = field(default_factory=list)
    timexes: list[Timex] = field(default_factory=list)
    cues: dict[str, tuple[str, Fragment]] = field(default_factory=dict)  # name -> value and place

    @property
    def outer(self) -> list[Span]:
        """The mentions that lie within no other."""
        return [span for span in self.spans if not span.inner]

    @property
    def about(self) -> list[Span]:
        """The outermost mentions in slot 0, of which the sentence speaks."""
        return [span for span in self.outer if span.slot == 0]

    @property
    def others(self) -> list[Span]:
        """The outermost mentions in the other slots, without the listed ones."""
        return [span for span in self.outer if 0 < span.slot < LISTED]


@dataclass(frozen=True, slots=True)
class Note:
    """An invented clinical note: its text, sentences and dates."""

    text: str
    sentences: tuple[Sentence, ...]
    doctime: Fragment
    sectiontimes: tuple[Fragment, ...]


def deck(terms: Sequence[Term], rng: Rng) -> Iterator[Term]:
    """Deal terms in random order; every term comes up once before any comes up again."""
    while True:
        yield from (terms[place] for place in reversed(rng.permutation(len(terms))))


class Page:
    """A text that grows at its end and tells where each piece went."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, piece: str) -> Fragment:
        """Append a piece of text and return its [start, end) characters."""
        start = len(self.text)
        self.text += piece
        return start, len(self.text)


def compose(terms: Iterator[Term], rng: Rng, listing: bool = False) -> Note:
    """Compose one note: header, its date, and two dated sections of five sentences.

    In a `listing` they are three, each of which ends in a list of terms.
    """
    page = Page()
    page.add(f"{HEADER}\nDate of note: ")
    doctime = page.add(_date(rng))
    sentences, sectiontimes = [], []
    for section in SECTIONS:
        page.add(f"\n\n{section} (")
        sectiontimes.append(page.add(_date(rng)))
        page.add(")")
        for place in range(LISTING_SENTENCES if listing else SENTENCES):
            page.add("\n" if place == 0 or rng.random() < 0.3 else " ")
            carrier = pick(rng, CARRIERS)
            if listing:
                carrier = carrier.removesuffix(".") + f"; {pick(rng, LISTS)} {LIST}"
            sentences.append(_sentence(page, carrier, terms, rng))
    page.add("\n")
    return Note(page.text, tuple(sentences), doctime, tuple(sectiontimes))


def _sentence(page: Page, carrier: str, terms: Iterator[Term], rng: Rng) -> Sentence:
    sentence = Sentence()
    done = 0
    for match in PIECE.finditer(carrier):
        page.add(carrier[done : match.start()])
        done = match.end()
        if match["slot"]:
            slot, locates = int(match["slot"]), bool(match["locates"])
            capital = match.start() == 0
            for term, fragments, inner in render(page, next(terms), rng, capital=capital):
                sentence.spans.append(Span(term, fragments, slot, locates, inner))
        elif match["name"]:
            sentence.cues[match["name"]] = (match["value"], page.add(match["word"]))
        else:
            kind = match["time"]
            place = page.add(_date(rng) if kind == "DATE" else pick(rng, TIMES[kind]))
            sentence.timexes.append(Timex(place, "DATE" if kind == "FUTURE" else kind, bool(match["listed"])))
    page.add(carrier[done:])
    return sentence


def render(
    page: Page, term: Term, rng: Rng, *, capital: bool = False
) -> list[tuple[Term, tuple[Fragment, ...], bool]]:
    """Write a term to the page; returns its mentions as (term, fragments, inner).

    "a h" may come out with a gap ("a with mild h") or, where "b h" is a term too, coordinated with
    it ("a and b h"): then "a … h" is discontiguous and overlaps "b h".
    """
    family = term.family
    if term.modifier is None:
        return [(term, (page.add(_cased(family.head, capital)),), False)]
    modifier = page.add(_cased(term.modifier, capital))
    style = rng.random()
    others = [other for other in family.terms if other.modifier not in (None, term.modifier)]
    if others and style < 0.4:
        page.add(" and ")
        start, _ = page.add(others[0].modifier or "")
        page.add(" ")
        head = page.add(family.head)
        return [(term, (modifier, head), False), (others[0], ((start, head[1]),), False)]
    gap = style > 0.85
    page.add(f" {pick(rng, GAPS)} " if gap else " ")
    head = page.add(family.head)
    fragments = (modifier, head) if gap else ((modifier[0], head[1]),)
    inner = [(Term(family, None), (head,), True)] if family.bare else []
    return [(term, fragments, False), *inner]


def _cased(word: str, capital: bool) -> str:
    return word.capitalize() if capital else word


def _date(rng: Rng) -> str:
    return f"{rng.integers(1, 29)} {pick(rng, MONTHS)} {rng.integers(2009, 2014)}"
