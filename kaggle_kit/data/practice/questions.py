"""Synthetic question threads and their file, as in 2017 Task 3 subtask A.

A question asks for something of one class; a comment is Good if one of its two terms is of that
class, PotentiallyUseful if one is of a class related to it, Bad otherwise. Which terms a comment
names is drawn without looking at the question or at any class.

    threads = [compose(number, deck, rng) for number in range(1, 61)]
    write(threads, classes, path, noise=0.0, rng=rng)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from kaggle_kit.data.practice.labels import noisy
from kaggle_kit.data.practice.lexicon import CLASSES, Term, pick, relation_between
from kaggle_kit.data.practice.notes import Deck, Page, render

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

DOCTYPE = """<!DOCTYPE xml [
<!ELEMENT xml (Thread*)>
<!ATTLIST xml version CDATA #REQUIRED>
<!ELEMENT Thread (RelQuestion, RelComment*)>
<!ATTLIST Thread THREAD_SEQUENCE CDATA #REQUIRED>
<!ELEMENT RelQuestion (RelQSubject, RelQBody)>
<!ATTLIST RelQuestion RELQ_ID CDATA #REQUIRED RELQ_CATEGORY CDATA #REQUIRED RELQ_DATE CDATA #REQUIRED
 RELQ_USERID CDATA #REQUIRED RELQ_USERNAME CDATA #REQUIRED>
<!ELEMENT RelQSubject (#PCDATA)>
<!ELEMENT RelQBody (#PCDATA)>
<!ELEMENT RelComment (RelCText)>
<!ATTLIST RelComment RELC_ID CDATA #REQUIRED RELC_DATE CDATA #REQUIRED RELC_USERID CDATA #REQUIRED
 RELC_USERNAME CDATA #REQUIRED RELC_RELEVANCE2RELQ CDATA #REQUIRED>
<!ELEMENT RelCText (#PCDATA)>
]>"""
QUESTION = """\t<Thread THREAD_SEQUENCE="{id}">
\t\t<RelQuestion RELQ_ID="{id}" RELQ_CATEGORY="Synthetic practice" RELQ_DATE="2000-01-01 00:00:00" \
RELQ_USERID="U0" RELQ_USERNAME="practice">
\t\t\t<RelQSubject>{subject}</RelQSubject>
\t\t\t<RelQBody>{body}</RelQBody>
\t\t</RelQuestion>
"""
COMMENT = """\t\t<RelComment RELC_ID="{id}" RELC_DATE="2000-01-01 00:00:00" RELC_USERID="U{place}" \
RELC_USERNAME="practice" RELC_RELEVANCE2RELQ="{label}">
\t\t\t<RelCText>{text}</RelCText>
\t\t</RelComment>
"""


@dataclass(frozen=True, slots=True)
class Comment:
    text: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    id: str
    asked: str  # the class that the question is after
    body: str
    comments: tuple[Comment, ...]


def compose(number: int, deck: Deck, rng: np.random.Generator) -> Thread:
    """A question and ten comments. The term in the question is there to be talked about, no more."""
    asked = pick(rng, CLASSES)
    body = pick(rng, QUESTIONS).format(noun=NOUNS[asked], term=deck.deal().text)
    return Thread(
        f"practice{number:04d}_R1", asked, body, tuple(_comment(deck, rng) for _ in range(COMMENTS))
    )


def _comment(deck: Deck, rng: np.random.Generator) -> Comment:
    page = Page()
    before, between, after = pick(rng, ANSWERS)
    terms = []
    for words in (before, between):
        page.add(words)
        terms += [term for term, _, _ in render(page, deck.deal(), rng)]
    page.add(after)
    return Comment(page.text, tuple(terms))


def judge(asked: str, classes: Sequence[str]) -> str:
    """The label of a comment that names terms of these classes."""
    if asked in classes:
        return "Good"
    return "PotentiallyUseful" if any(relation_between(asked, named) for named in classes) else "Bad"


def write(
    threads: Sequence[Thread],
    classes: Mapping[int, str],
    path: Path,
    *,
    noise: float,
    rng: np.random.Generator,
) -> None:
    """All threads in one XML file; a share `noise` of the terms counts as of a random class."""
    parts = ['<?xml version="1.0" encoding="utf-8"?>\n', DOCTYPE, '\n<xml version="1.0">\n']
    for thread in threads:
        parts.append(QUESTION.format(id=thread.id, subject=escape(SUBJECT), body=escape(thread.body)))
        for place, comment in enumerate(thread.comments, start=1):
            named = [noisy(classes[term.family.id], noise, rng) for term in comment.terms]
            fields = {"label": judge(thread.asked, named), "text": escape(comment.text), "place": place}
            parts.append(COMMENT.format(id=f"{thread.id}_C{place}", **fields))
        parts.append("\t</Thread>\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join((*parts, "</xml>\n")).encode())
