"""The words in which the floors speak to each other.

A corpus reader turns official files into `UnifiedSample`s; collation, models and writers know
nothing else of a corpus. Predictions use the same types: a predicted sample is a `UnifiedSample`
whose annotations carry scores.

    Mention("T1", fragments=((10, 17), (25, 31)), type="Disease_Disorder", concepts=("C0221755",))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

NOTHING: Mapping[str, str] = MappingProxyType({})


class Access(StrEnum):
    """Who may see a corpus's text. Restricted text never leaves the machine."""

    PUBLIC = "public"
    RESTRICTED = "restricted"


class Kind(StrEnum):
    """What a component predicts, and so which head it gets."""

    TOKENS = "token_classification"
    SPANS = "span_classification"
    RELATIONS = "relation_extraction"
    RANKING = "sequence_ranking"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an annotation stands in its file. `line` counts from 1."""

    path: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Mention:
    """A typed entity. `fragments` are [start, end) character offsets into the untouched text."""

    id: str
    fragments: tuple[tuple[int, int], ...]
    type: str
    concepts: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)
    provenance: Provenance | None = field(default=None, compare=False)
    score: float | None = None

    @property
    def start(self) -> int:
        """Offset of its first character."""
        return min(start for start, _ in self.fragments)

    @property
    def end(self) -> int:
        """Offset after its last character."""
        return max(end for _, end in self.fragments)

    @property
    def discontiguous(self) -> bool:
        """Whether it consists of several fragments."""
        return len(self.fragments) > 1

    def text(self, document: str) -> str:
        """Return the mention's words as they stand in the document, fragments joined by one blank."""
        return " ".join(document[start:end] for start, end in self.fragments)


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed, directed link between two mentions of one sample, named by their ids."""

    id: str
    type: str
    source: str
    target: str
    roles: tuple[str, str] = ("Arg1", "Arg2")
    attributes: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)
    provenance: Provenance | None = field(default=None, compare=False)
    score: float | None = None


@dataclass(frozen=True, slots=True)
class RankedPair:
    """One candidate answer of the sample's question.

    `label` is the corpus's own word (Good, PerfectMatch, …); `relevant` is what the official
    scorer makes of it, None where the gold label is withheld. `rank` is the candidate's place in
    the file, counted from 1.
    """

    query_id: str
    candidate_id: str
    text: str
    rank: int
    label: str | None = None
    relevant: bool | None = None
    provenance: Provenance | None = field(default=None, compare=False)
    score: float | None = None


@dataclass(frozen=True, slots=True)
class UnifiedSample:
    """One document, or one question with its candidates, from any corpus.

    `text` is the untouched document (for ranking: the question), None where a corpus ships
    offsets without text. `metadata` keeps what a writer needs to produce the same files again.
    """

    document_id: str
    text: str | None
    split: str
    access: Access
    mentions: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()
    pairs: tuple[RankedPair, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)
    provenance: Provenance | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One head's job: what it predicts, with which labels, at which level of the hierarchy.

    Level 1 identifies entities; level 2 relates or reasons. `labels` are entity types, relation
    types, or for ranking the two classes, without BIO prefixes and without the empty class.
    Spans: `max_span_length` is the longest fragment in words. Relations: `candidates` are the
    (source, target) mention types that training relates, or (type,) where `attribute` is set: then
    the label is that attribute of one mention, its relation to the document. With
    `relation_attribute` the label is that attribute of relations of type `relation_type`. With
    `forward` a pair is a candidate only in the order of the text, as in all of training. `farthest` is how
    many words may lie from one mention of a pair to the other (1: they are neighbours). `concepts`: the
    relations hold between concepts, so that one pair of their mentions is enough to find one. `positive` is
    the share of the encoded candidates that have a label.
    """

    name: str
    kind: Kind
    level: int
    labels: tuple[str, ...]
    scheme: str = "BIO"
    loss_weight: float = 1.0
    max_span_length: int = 8
    attribute: str | None = None
    relation_type: str | None = None
    relation_attribute: str | None = None
    candidates: tuple[tuple[str, ...], ...] = ()
    forward: bool = False
    farthest: int | None = None
    concepts: bool = False
    positive: float | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a model must know of a task; it never asks the registry.

    `gold_entities`: relations are predicted between given mentions, not between predicted ones.
    """

    name: str
    components: tuple[ComponentSpec, ...]
    access: Access = Access.PUBLIC
    practice: bool = False
    gold_entities: bool = False


def relation_parts(spec: TaskSpec) -> list[ComponentSpec]:
    """Return the task's relation components."""
    return [part for part in spec.components if part.kind is Kind.RELATIONS]


class Prefix(NamedTuple):
    """How a sequence of a batch begins: its first `tokens` tokens are those of the earlier sequence `of`."""

    of: int
    tokens: int


WHOLE = Prefix(0, 0)  # shares nothing
