"""A document with its annotations marked in the text, as HTML and as plain text."""

from collections.abc import Iterable
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
    """Return (HTML, text) of a sample with its gold annotations."""
    text = sample.text
    if sample.access == Access.RESTRICTED or text is None:
        return BODY.format(f"<i>{WITHHELD}</i>"), WITHHELD
    if sample.pairs:
        pairs = [f"{'' if pair.relevant else 'not '}relevant: {pair.text[:160]}" for pair in sample.pairs]
        more = len(pairs) - CANDIDATES
        shown = [text[:MOST], *pairs[:CANDIDATES], *([f"… and {more} more candidates"] if more > 0 else [])]
        return BODY.format("<br>".join(map(escape, shown))), "\n".join(shown)
    html, plain = marked_text(text, [(mention, GOLD, mention.type) for mention in sample.mentions])
    words = {mention.id: mention.text(text) for mention in sample.mentions}
    ends = [(r.type, words.get(r.source, "?"), words.get(r.target, "?")) for r in sample.relations[:3]]
    relations = [f"{kind}: {source} → {target}" for kind, source, target in ends]
    return html + "".join(f"<div>{escape(line)}</div>" for line in relations), "\n".join((plain, *relations))


def marked_text(text: str, marks: Iterable[tuple[Mention, str, str]]) -> tuple[str, str]:
    """Return (HTML, text) with fragments in colour and labelled; of those that overlap the first alone."""
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


def error_view(gold: UnifiedSample, predicted: UnifiedSample) -> tuple[str, str] | None:
    """Return (HTML, text) of mentions that differ, or of a wrong first candidate; None if all is right."""
    if gold.pairs:
        first = max(predicted.pairs, key=lambda pair: pair.score or 0.0)
        relevant = {pair.candidate_id for pair in gold.pairs if pair.relevant}
        if not relevant or first.candidate_id in relevant:
            return None
        line = f"ranked first and not relevant: {first.text[:200]}"
        return f"<div>{escape(line)}</div>", line
    right, found = ({(m.type, m.fragments): m for m in sample.mentions} for sample in (gold, predicted))
    if right.keys() == found.keys() or gold.text is None:
        return None
    marks = [(m, MISSED, f"{m.type}, missed") for key, m in right.items() if key not in found]
    marks += [(m, WRONG, f"{m.type}, made up") for key, m in found.items() if key not in right]
    marks += [(m, GOLD, m.type) for key, m in right.items() if key in found]
    return marked_text(gold.text, marks)
