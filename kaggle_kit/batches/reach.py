"""Count the annotations of a split that its passages hold; no model can find the others.

reach.add(spec, passages, sample, columns)      # document by document, while a split is encoded
reach.summary("bc5cdr, train")  # bc5cdr, train: 3 of 5,134 mentions and 12 of 801 relations are in no passage
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kaggle_kit.core.types import Kind, Mention, TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.candidates import gold
from kaggle_kit.data.passages import Passage
from kaggle_kit.heads import relations
from kaggle_kit.heads.arrays import Columns

ENOUGH = 0.9  # of the relations; fewer deserve a word
ENTITY_KINDS = (Kind.TOKENS, Kind.SPANS)


@dataclass
class Reach:
    """Counts over one split of one task.

    `outside` of the `mentions` are in no passage. `inexact` of the others begin or end inside a word, or
    have a fragment of more words than a span component knows: a prediction can only come near them. `apart`
    of the `relations` have no two mentions in one passage. `candidates` maps a component to how many of its
    relations are candidates and how many there are: others lie farther apart than training's, or between
    types that training does not relate. A relation between two concepts counts once.
    """

    mentions: int = 0
    outside: int = 0
    inexact: int = 0
    relations: int = 0
    apart: int = 0
    candidates: dict[str, list[int]] = field(default_factory=dict)

    def add(
        self, spec: TaskSpec, passages: Sequence[Passage], sample: UnifiedSample, columns: Columns
    ) -> None:
        """Count one document. `columns` are those of each component, one dict per passage."""
        holding: dict[str, set[int]] = {}
        for mention in sample.mentions:
            holding[mention.id] = {n for n, one in enumerate(passages) if one.holds(mention.fragments)}
        for mention, longest in _wanted(spec, sample):
            places = holding[mention.id]
            self.mentions += 1
            self.outside += not places
            exact = any(passages[place].matches(mention.fragments, longest) for place in places)
            self.inexact += bool(places) and not exact
        names = [mention.id for mention in sample.mentions]
        for part in relation_parts(spec):
            related = relations.related(part, columns[part.name])
            reachable = {tuple(names[n] for n in ends if n >= 0) for ends in related}
            # a pair with several labels counts once
            pairs_of = {ends: pairs for (ends, _), pairs in gold(part, sample).items()}
            self.relations += len(pairs_of)
            for pairs in pairs_of.values():
                self.apart += not any(set.intersection(*(holding[name] for name in pair)) for pair in pairs)
            counts = self.candidates.setdefault(part.name, [0, 0])
            counts[0] += sum(not reachable.isdisjoint(pairs) for pairs in pairs_of.values())
            counts[1] += len(pairs_of)

    def summary(self, what: str) -> str | None:
        """Write a sentence that begins with `what`; None where there is nothing to hold."""
        counts = [f"{self.outside:,} of {self.mentions:,} mentions"] if self.mentions else []
        counts += [f"{self.apart:,} of {self.relations:,} relations"] if self.relations else []
        edges = f"; {self.inexact:,} mentions do not begin and end with a word" if self.inexact else ""
        return f"{what}: {' and '.join(counts)} are in no passage{edges}" if counts else None

    def too_few(self, what: str, task: str) -> Iterator[str]:
        """Write a sentence and its remedy for each component with fewer than `ENOUGH` candidates."""
        for name, (reached, total) in self.candidates.items():
            if reached < ENOUGH * total:
                text = f"{reached:,} of {total:,} gold relations of {name} are candidates"
                more = f"set tasks.{task}.segments=windows, and raise training.max_length and training.stride"
                yield f"{what}: {text}; to reach more {more}"


def _wanted(spec: TaskSpec, sample: UnifiedSample) -> Iterator[tuple[Mention, int | None]]:
    """The mentions that the task finds or relates, and the longest fragment in words that it can find."""
    types: dict[str, int | None] = {}
    for part in relation_parts(spec):
        types |= dict.fromkeys(relations.mention_types(part))
    for part in spec.components:
        if part.kind in ENTITY_KINDS:
            types |= dict.fromkeys(part.labels, part.max_span_length if part.kind is Kind.SPANS else None)
    for mention in sample.mentions:
        if mention.type in types:
            yield mention, types[mention.type]
