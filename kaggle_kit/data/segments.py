"""Cutting a document into sentences and words, without touching its text.

    [text[start:end] for start, end in sentences(text)]

A rule, not a model: a sentence ends at `.`, `!` or `?` before white space and a capital, digit or
opening bracket, unless the dot closes an initial or a known abbreviation; and at a line break, unless
that break only wraps a line (`_wraps`). On NCBI, DDI, MACCROBAT and MeasEval fewer than 1 mention in 1,000 is
cut, as published or wrapped at 40 to 120 columns.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_BOUNDARY = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]*[A-Z0-9])|[\r\n]+\s*")
_NO_END = re.compile(
    r"(?:^|[\s(\[])(?:(?:[A-Z]\.)*[A-Za-z]|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|vs?|etc|al|ca|cf|approx|[Ff]igs?|[Nn]os?|e\.g|i\.e|resp|sp|spp|subsp|St)\.$"
)
_LOOK_BACK = 12  # characters before a dot that can hold an abbreviation

_BREAK = re.compile(r"\r\n|\r|\n")
_WIDTHS = range(40, 161)  # characters a wrapped line may be wide; a break in shorter lines is meant as one
_ITEM = re.compile(r"[*•·▪#>]|[-–—]\s+[A-Z]|\(?(?:\d{1,3}[.)]|[a-z]\))\s+\S")
_HEADING = re.compile(r"[A-Z][A-Z /&-]{2,40}:|[A-Z][A-Za-z /&-]{2,40}:$")
_CONTINUES = re.compile(r"[\"'(\[]*[^\W\d_]|[,;:.)\]}%/]")
_UNFINISHED = re.compile(
    r"(?:[,/(\[-]|\b(?:of|the|an?|and|or|with|without|in|on|to|for|by|from|at|as|no|per|is|was|were))$"
)


def canonical(text: str) -> str:
    """Lower the case and join runs of white space, for a mention may go over a line's end."""
    return " ".join(text.casefold().split())


def sentences(text: str) -> list[tuple[int, int]]:
    """Return [start, end) character ranges, in order, without the white space between them."""
    ranges, start = [], 0
    wraps = _wraps(text)
    for boundary in _BOUNDARY.finditer(text):
        line_break = _BREAK.search(boundary.group())
        at_period = boundary.group(1) is not None
        end = boundary.end(1) if at_period else boundary.start()
        if line_break is None or boundary.start() + line_break.start() in wraps:
            before = text[max(start, end - _LOOK_BACK) : boundary.start()]
            if not at_period or _NO_END.search(before):
                continue
        ranges.append((start, end))
        start = boundary.end()
    ranges.append((start, len(text)))
    return [trimmed for begin, end in ranges if (trimmed := _trim(text, begin, end))]


def _wraps(text: str) -> set[int]:
    """Where the line breaks stand inside of which a sentence may go on.

    The next line goes on in small letters or with a closing sign, this one ends in a comma or a word like
    `of`, or the next word had no room in it. A blank line, a list sign or a heading always ends a sentence.
    """
    breaks = [*(found.span() for found in _BREAK.finditer(text)), (len(text), len(text))]
    starts = [0, *(end for _, end in breaks[:-1])]
    lines = [(text[start:at].rstrip(), at) for start, (at, _) in zip(starts, breaks, strict=True)]
    pairs = [(line, after.lstrip(), at) for (line, at), (after, _) in pairwise(lines) if line and after]
    width = _width([(line, after) for line, after, _ in pairs], [len(line) for line, _ in lines])
    return {at for line, after, at in pairs if _goes_on(line, after, width)}


def _goes_on(line: str, after: str, width: int | None) -> bool:
    if _ITEM.match(after) or _HEADING.match(after):
        return False
    continues = _CONTINUES.match(after)
    goes_on = bool(continues and not continues.group()[-1].isupper())
    if line[-1] in ".!?" and goes_on:
        return bool(_NO_END.search(line[-_LOOK_BACK:]))
    if width is not None and len(line) + len(_first_word(after)) >= width:
        return True
    return bool(line[-1] not in ".!?:" and (goes_on or _UNFINISHED.search(line)))


def _width(pairs: Iterable[tuple[str, str]], lengths: Sequence[int]) -> int | None:
    """Return the width at which the text is wrapped, which explains most breaks; of equals, the smallest.

    A break is explained by a width that its line does not exceed but would with the next line's first word;
    each line longer than a width speaks against it. None where no width has more for it than against it.
    """
    votes = Counter(map(_clipped, lengths))
    for line, after in pairs:
        votes[_clipped(len(line))] += 1
        votes[_clipped(len(line) + len(_first_word(after)) + 1)] -= 1
    explained = dict(zip(_WIDTHS, accumulate(votes[width] for width in _WIDTHS), strict=True))
    best = max(explained, key=explained.__getitem__)
    return best if explained[best] > len(lengths) else None


def _clipped(width: int) -> int:
    return min(max(width, _WIDTHS.start), _WIDTHS.stop)


def _first_word(line: str) -> str:
    return line.split(maxsplit=1)[0]


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    inside = text[start:end].strip()
    first = text.find(inside, start)
    return (first, first + len(inside)) if inside else None
