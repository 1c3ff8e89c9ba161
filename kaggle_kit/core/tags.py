"""BIO and BIOES tags: from labelled chunks of words to tags and back.

names = tag_names(("Drug",), "BIO")                 # ("O", "B-Drug", "I-Drug")
chunks(["B-Drug", "I-Drug", "O"])                   # [(0, 2, "Drug")]
"""

from collections.abc import Iterable, Sequence

from kaggle_kit.core.errors import unknown

OUTSIDE = "O"
_PREFIXES = {"BIO": "BI", "BIOES": "BIES"}


def tag_names(labels: Sequence[str], scheme: str) -> tuple[str, ...]:
    """Return `O`, then every prefix of every label; the index of a name is its class."""
    if scheme not in _PREFIXES:
        raise unknown("tagging scheme", scheme, _PREFIXES)
    return (OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in _PREFIXES[scheme]))


def tag_chunks(spans: Iterable[tuple[int, int, str]], words: int, scheme: str) -> list[str]:
    """Tag `words` words by [first, stop) chunks. Of overlapping chunks the longest is tagged."""
    tags = [OUTSIDE] * words
    for first, stop, label in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if any(tag != OUTSIDE for tag in tags[first:stop]):
            continue
        tags[first:stop] = [f"{prefix}-{label}" for prefix in _chunk_prefixes(stop - first, scheme)]
    return tags


def _chunk_prefixes(length: int, scheme: str) -> str:
    if scheme == "BIO":
        return "B" + "I" * (length - 1)
    return "S" if length == 1 else "B" + "I" * (length - 2) + "E"


def chunks(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the [first, stop) chunks of a tag sequence; an `I` or `E` that continues nothing starts one."""
    found: list[tuple[int, int, str]] = []
    is_open = False  # whether a tag may continue the last chunk
    for position, tag in enumerate(tags):
        prefix, _, label = tag.partition("-")
        if is_open and prefix in ("I", "E") and label == found[-1][2]:
            found[-1] = (found[-1][0], position + 1, label)
        elif prefix != OUTSIDE:
            found.append((position, position + 1, label))
        is_open = prefix in ("B", "I")
    return found


def may_follow(previous: str | None, tag: str | None, scheme: str) -> bool:
    """Whether a tag may stand after another; None is the start or the end of the sequence."""
    before, _, before_label = (previous or OUTSIDE).partition("-")
    after, _, after_label = (tag or OUTSIDE).partition("-")
    if after in ("I", "E"):
        return before in ("B", "I") and before_label == after_label
    return not (scheme == "BIOES" and before in ("B", "I"))
