"""Cutting a document into sentences and words, without touching its text.

    [text[start:end] for start, end in sentences(text)]

A rule, not a model: a sentence ends at `.`, `!` or `?` before white space and a capital, digit or
opening bracket, unless the dot closes an initial or a known abbreviation; and at every line break.
On the NCBI disease corpus no mention is cut.
"""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_BOUNDARY = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]*[A-Z0-9])|[\r\n]+\s*")
_NO_END = re.compile(
    r"(?:^|[\s(\[])(?:[A-Za-z]|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|vs?|etc|al|ca|cf|approx|[Ff]igs?|[Nn]os?|e\.g|i\.e|resp|sp|spp|subsp|St)\.$"
)
_LOOK_BACK = 12  # characters before a dot that can hold an abbreviation


def sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) character ranges, in order, without the white space between them."""
    ranges, start = [], 0
    for boundary in _BOUNDARY.finditer(text):
        is_line_break = not {"\r", "\n"}.isdisjoint(boundary.group())
        end = boundary.start() if boundary.group(1) is None else boundary.end(1)
        if not is_line_break and _NO_END.search(text[max(start, end - _LOOK_BACK) : boundary.start()]):
            continue
        ranges.append((start, end))
        start = boundary.end()
    ranges.append((start, len(text)))
    return [trimmed for begin, end in ranges if (trimmed := _trim(text, begin, end))]


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None
