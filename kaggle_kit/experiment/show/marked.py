"""A document with its annotations marked in the text, as HTML and as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from kaggle_kit.core.types import Access, Mention, UnifiedSample

MOST = 600  # characters shown of a document
CANDIDATES = 4  # shown of a question
MARK = (
    '<mark style="background:{colour};padding:0 .2em;border-radius:3px">{text}'
    '<sub style="color:#555;margin-left:.25em">{label}</sub></mark>'
)
BODY = '<div style="white-space:pre-wrap;line-height:1.7;max-width:48rem">{}</div>'
WITHHELD = "text of a restricted corpus: withheld"
GOLD, MISSED, WRONG = "#dcebf7", "#fbe3b5", "#f6cfc9"


def sample_view(sample: UnifiedSample) -> tuple[str, str]:
    """(HTML, text) of a sample with its gold annotations."""
    if sample.access == Access.RESTRICTED or sample.text is None:
        return BODY.format(f"<i>{WITHHELD}</i>"), WITHHELD
    if sample.pairs:
        return _question(sample)
    marks = [(mention, GOLD, mention.type) for mention in sample.mentions]
    relations = [_relation(sample, number) for number in range(min(3, len(sample.relations)))]
    html, text = marked_text(sample.text, marks)
    return html + "".join(f"<div>{escape(line)}</div>" for line in relations), "\n".join((text, *relations))


def marked_text(text: str, marks: Iterable[tuple[Mention, str, str]]) -> tuple[str, str]:
    """(HTML, text): fragments in their colours with labels. Of those that overlap the first is marked."""
    pieces = sorted((start, end, colour, label) for m, colour, label in marks for start, end in m.fragments)
    begin = max(0, min((piece[0] for piece in pieces), default=0) - MOST // 3)
    stop = min(len(text), begin + MOST)
    html, plain, place = ["…" if begin else ""], ["…" if begin else ""], begin
    for start, end, colour, label in pieces:
        if start < place or end > stop:
            continue
        between, inside = text[place:start], text[start:end]
        html += [escape(between), MARK.format(colour=colour, text=escape(inside), label=escape(label))]
        plain += [between, f"[{inside} / {label}]"]
        place = end
    rest = text[place:stop] + ("…" if stop < len(text) else "")
    return BODY.format("".join([*html, escape(rest)])), "".join([*plain, rest])


def _question(sample: UnifiedSample) -> tuple[str, str]:
    lines = [f"{'relevant' if pair.relevant else 'not relevant'}: {pair.text[:160]}" for pair in sample.pairs]
    shown: Sequence[str] = [sample.text[:MOST], *lines[:CANDIDATES]]
    if len(lines) > CANDIDATES:
        shown = [*shown, f"… and {len(lines) - CANDIDATES} more candidates"]
    return BODY.format("<br>".join(map(escape, shown))), "\n".join(shown)


def _relation(sample: UnifiedSample, number: int) -> str:
    relation = sample.relations[number]
    words = {mention.id: mention.text(sample.text) for mention in sample.mentions}
    return f"{relation.type}: {words.get(relation.source, '?')} → {words.get(relation.target, '?')}"
