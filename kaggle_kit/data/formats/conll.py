"""CoNLL columns: a token and its tags per line, a blank line between sentences (CoNLL-2003, IOB, BIO, BIOES).

    samples = read("conll", Path("train.conll"), Reading(options={"column": "4"}))

    -DOCSTART- -X- -X- O

    No      DT  B-NP  O
    fever   NN  I-NP  B-Disease

Tabs part the columns, or blanks in a line without a tab. The tag stands in the last column, or in
`options.column`; the token in the first, or in `options.token`; columns count from 1. A document reaches from
one -DOCSTART- to the next; in a file without them every sentence is one. The text is made here: a blank
between tokens, a line break between sentences. Source: Tjong Kim Sang and De Meulder 2003, W03-0419.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.core.tags import OUTSIDE, chunks, may_follow
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.formats.base import Line, Reading, corpus_files, lines, readme

EXPECTED_FILES = "columns of tokens and tags (*.conll, *.iob, *.iob2, *.bio, *.bioes, *.tsv, *.txt)"
START = "-DOCSTART-"
ALIKE = {"L": "E", "U": "S", "M": "I"}  # BILOU and BMES: the last token, the only one, one in the middle


class Tagged(NamedTuple):
    """One sentence: its tokens, their tags (`O`, or B, I, E, S and a type), and the line of each."""

    tokens: list[str]
    tags: list[str]
    lines: list[Line]


def find(folder: Path) -> list[Path]:
    """Return every file of columns below the folder, read-me and licence files left out."""
    endings = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".tsv", ".txt")
    return [path for path in corpus_files(folder, *endings) if not readme(path)]


def read_file(path: Path, reading: Reading) -> list[UnifiedSample]:
    """Return the documents of a file, named by the file and the line of their first token.

    A sentence with a malformed line is rejected. Raises ConfigError for a column that the file has not.
    """
    rows = [row for row in lines(path) if not row.text.startswith(START)]
    width = len(_fields(rows[0].text)) if rows else 0
    columns = []
    for number in (reading.options.get("token", "1"), reading.options.get("column", str(width))):
        if rows and not (number.isdecimal() and 1 <= int(number) <= width):
            raise ConfigError(f"{path} has no column {number!r}; allowed: 1 to {width}")
        columns.append(int(number) - 1)
    documents: list[list[Tagged]] = []
    for sentences in _documents(path):
        documents.append([])
        for sentence in sentences:
            with reading.record():
                documents[-1].append(_tagged(sentence, width, columns))
    report_illegal((sentence for document in documents for sentence in document), reading)
    place = path.relative_to(reading.root) if reading.root else Path(path.name)
    name = place.with_suffix("").as_posix()
    return [tagged_sample(f"{name}-{one[0].lines[0].number}", one, reading) for one in documents if one]


def tag_of(text: str, line: Line) -> str:
    """Return a tag of the four prefixes. Raises CorpusError for what is none."""
    prefix, _, label = text.partition("-")
    prefix = ALIKE.get(prefix, prefix)
    if text != OUTSIDE and not (prefix in ("B", "I", "E", "S") and label):
        raise line.error(f"tag {quoted(text, 40)}", "O, or B-, I-, E- or S- and a type")
    return OUTSIDE if text == OUTSIDE else f"{prefix}-{label}"


def report_illegal(sentences: Iterable[Tagged], reading: Reading) -> None:
    """Warn of each tag that may not follow the one before it, in the scheme that the fewest tags break.

    Such a tag begins a mention, as in conlleval. In IOB1 a `B` only parts two neighbours of one type.
    """
    sentences = list(sentences)
    single = any(tag[0] in "ES" for sentence in sentences for tag in sentence.tags)
    broken = {
        scheme: [found for sentence in sentences for found in _illegal(sentence, scheme)]
        for scheme in (["BIOES"] if single else ["BIO", "IOB1"])
    }
    scheme = min(broken, key=lambda one: len(broken[one]))
    for line, before, tag in broken[scheme]:
        reading.warn(line.error(f"{quoted(tag)} after {quoted(before)}", f"tags as {scheme} has them"))


def tagged_sample(name: str, sentences: Sequence[Tagged], reading: Reading) -> UnifiedSample:
    """Return a document of these sentences: tokens parted by one blank, sentences by a line break."""
    text = ""
    mentions: list[Mention] = []
    for sentence in sentences:
        ends = []
        for place, token in enumerate(sentence.tokens):
            text += " " if place else "\n" if text else ""
            ends.append((len(text), len(text) + len(token)))
            text += token
        for first, stop, label in chunks(sentence.tags):
            span, where = (ends[first][0], ends[stop - 1][1]), sentence.lines[first].provenance
            mentions.append(Mention(f"T{len(mentions) + 1}", (span,), label, provenance=where))
    return reading.sample(name, text, mentions, (), sentences[0].lines[0])


def _documents(path: Path) -> list[list[list[Line]]]:
    """Return the lines of each sentence of each document."""
    rows = lines(path)
    marked = any(row.text.startswith(START) for row in rows)
    documents: list[list[list[Line]]] = [[]]
    following = None  # the number of a line that goes on with a sentence
    for row in rows:
        starts = row.text.startswith(START)
        if starts or (row.number != following and not marked):
            documents.append([])
        if not starts and row.number != following:
            documents[-1].append([row])
        elif not starts:
            documents[-1][-1].append(row)
        following = None if starts else (row.number or 0) + 1
    return documents


def _fields(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))


def _tagged(rows: Sequence[Line], width: int, columns: Sequence[int]) -> Tagged:
    tokens, tags = [], []
    for row in rows:
        if len(fields := _fields(row.text)) != width:
            raise row.error(f"{len(fields)} column(s)", f"{width}, as in the file's first line")
        token, tag = (fields[column].strip() for column in columns)
        if not token:
            raise row.error("no token", f"one in column {columns[0] + 1}")
        tokens.append(token)
        tags.append(tag_of(tag, row))
    return Tagged(tokens, tags, list(rows))


def _illegal(sentence: Tagged, scheme: str) -> Iterator[tuple[Line, str, str]]:
    """Yield (line, tag before, tag) for each tag that the scheme does not have there."""
    edges = [None, *sentence.tags, None]
    for place, (before, tag) in enumerate(pairwise(edges)):
        if scheme == "IOB1":
            legal = tag is None or tag[0] != "B" or (before or OUTSIDE)[2:] == tag[2:]
        else:
            legal = may_follow(before, tag, scheme)
        if not legal:
            line = sentence.lines[min(place, len(sentence.lines) - 1)]
            yield line, before or "the beginning", tag or "the end"
