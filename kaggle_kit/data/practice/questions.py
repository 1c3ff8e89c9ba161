"""Synthetic question threads and their file, as in 2017 Task 3 subtask A.

A question asks for something of one class; a comment is Good if one of its two terms is of that
class, PotentiallyUseful if one is of a class related to it, Bad otherwise. Which terms a comment
names is drawn without looking at the question or at any class.

    threads = [compose(number, deck(terms, rng), rng) for number in range(1, 61)]
    write(threads, classes, path, noise=0.0, rng=rng)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from kaggle_kit.data.practice.gold import noisy
from kaggle_kit.data.practice.lexicon import CLASSES, Rng, Term, pick, relation_between
from kaggle_kit.data.practice.notes import Page, render

SUBJECT = "SYNTHETIC PRACTICE QUESTION — invented words, no patient"
COMMENTS = 10

NOUNS = dict(zip(CLASSES, ("illness", "medicine", "test", "body part", "sign"), strict=True))
QUESTIONS = (
    "Which {noun} comes to your mind when you hear of {term}?",
    "Can anybody name a {noun}? My neighbour keeps on talking about {term}.",
    "I am looking for a {noun} and only know of {term} so far. Any ideas?",
)
ANSWERS = (
    ("I would say ", " because of what they told me about ", "."),
    ("For us it was ", ", but a friend had to do with ", " all year."),
    ("Try to read about ", " first and only then about ", "!"),
    ("My cousin had ", " and she also wrote a lot on ", "."),
    ("Not sure, but ", " and ", " are two things to keep in mind."),
)

ORIGIN = {"DATE": "2000-01-01 00:00:00", "USERID": "U0", "USERNAME": "practice"}


@dataclass(frozen=True, slots=True)
class Comment:
    """An answer in a thread, and the terms it uses."""

    text: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """A question of a forum with its comments."""

    id: str
    asked: str  # the class that the question is after
    body: str
    comments: tuple[Comment, ...]


def compose(number: int, terms: Iterator[Term], rng: Rng) -> Thread:
    """Compose a question and ten comments. The term in the question is only there to be talked about."""
    asked = pick(rng, CLASSES)
    body = pick(rng, QUESTIONS).format(noun=NOUNS[asked], term=next(terms).text)
    comments = tuple(_comment(terms, rng) for _ in range(COMMENTS))
    return Thread(f"practice{number:04d}_R1", asked, body, comments)


def _comment(terms: Iterator[Term], rng: Rng) -> Comment:
    page = Page()
    before, between, after = pick(rng, ANSWERS)
    named: list[Term] = []
    for words in (before, between):
        page.add(words)
        named += [term for term, _, _ in render(page, next(terms), rng)]
    page.add(after)
    return Comment(page.text, tuple(named))


def judge(asked: str, classes: Sequence[str]) -> str:
    """Return the label of a comment that names terms of these classes."""
    if asked in classes:
        return "Good"
    return "PotentiallyUseful" if any(relation_between(asked, named) for named in classes) else "Bad"


def write(
    threads: Sequence[Thread], classes: Mapping[int, str], path: Path, *, noise: float, rng: Rng
) -> None:
    """Write all threads as one XML file; a share `noise` of the terms counts as of a random class."""
    root = etree.Element("xml", version="1.0")
    asked_by, answered_by = ({f"{who}_{key}": ORIGIN[key] for key in ORIGIN} for who in ("RELQ", "RELC"))
    for thread in threads:
        element = etree.SubElement(root, "Thread", THREAD_SEQUENCE=thread.id)
        question = etree.SubElement(element, "RelQuestion", {"RELQ_ID": thread.id, **asked_by})
        etree.SubElement(question, "RelQSubject").text = SUBJECT
        etree.SubElement(question, "RelQBody").text = thread.body
        for place, comment in enumerate(thread.comments, start=1):
            named = [noisy(classes[term.family.id], noise, rng) for term in comment.terms]
            parts = {"RELC_ID": f"{thread.id}_C{place}", "RELC_RELEVANCE2RELQ": judge(thread.asked, named)}
            answer = etree.SubElement(element, "RelComment", {**parts, **answered_by})
            etree.SubElement(answer, "RelCText").text = comment.text
    etree.indent(root, "\t")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
