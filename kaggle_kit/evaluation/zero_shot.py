"""One prompt, its answer, and what the answer says: predictions of any task by a model that was not trained.

    spec, left_out = askable(spec)
    prompt = prompt_for(spec, sample)                     # messages, and the JSON schema of the answer
    predicted, counts = read_answer(spec, sample, answer) # a sample like any predicted one

An answer holds words, and predictions hold offsets. The first answer with some words gets their first
occurrence in the text, the next one the next; an occurrence that meets a mention placed already comes last.
Nothing is guessed. An answer that is no JSON of the form, an item of another form, words that are not in the
text (any more), and relations whose ends name no mention are counted and left out.

Candidates without a rating go behind all others, and a hash orders equal ratings, so that the order of the
file, which is a strong baseline, helps nobody.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import (
    NOTHING,
    Access,
    ComponentSpec,
    Kind,
    Mention,
    RankedPair,
    Relation,
    TaskSpec,
    UnifiedSample,
)
from kaggle_kit.data.candidates import gold

ENTITY_KINDS = (Kind.TOKENS, Kind.SPANS)
GAP = " ... "  # between the pieces of a mention
BEST, RELEVANT_FROM = 100, 50  # of ratings, which begin at 0
TIE = 1e-4  # of the score: below it a hash decides
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*(?:```.*)?", re.DOTALL)
UNPARSABLE, ODD, ABSENT = "unparsable answers", "items of another form", "mentions not in the text"
LOOSE, UNRATED = "relations without their ends", "candidates without a rating"
Answers = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a model said of one prompt. `problem`: why there is no text, or why it may be cut."""

    text: str | None
    problem: str = ""


@dataclass(frozen=True)
class Prompt:
    """Messages of a chat, and the strict JSON schema of the answer. `access`: who may see the text in it."""

    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any]
    access: Access


@dataclass(frozen=True)
class Form:
    """The form of a task's answers."""

    spec: TaskSpec

    @cached_property
    def ranks(self) -> bool:
        """Whether candidates are rated."""
        return self.spec.components[0].kind is Kind.RANKING

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types of mentions to find; empty where mentions are given."""
        parts = () if self.spec.gold_entities else self.spec.components
        return tuple(dict.fromkeys(one for part in parts if part.kind in ENTITY_KINDS for one in part.labels))

    @cached_property
    def unary(self) -> dict[str, tuple[str, ...]]:
        """Attribute of mentions -> its labels."""
        parts = (part for part in self.spec.components if part.kind is Kind.RELATIONS)
        return {part.attribute: part.labels for part in parts if part.attribute}

    @cached_property
    def binary(self) -> dict[str, ComponentSpec]:
        """Label of relations -> its component."""
        parts = [p for p in self.spec.components if p.kind is Kind.RELATIONS and not p.attribute]
        return {label: part for part in reversed(parts) for label in part.labels}

    @cached_property
    def items(self) -> dict[str, dict[str, Any]]:
        """The answer's lists -> field of an item -> its JSON schema."""
        word = {"type": "string"}
        if self.ranks:
            return {"ratings": {"id": word, "rating": {"type": "integer"}}}
        mention: dict[str, Any] = {"id": word} if self.binary or not self.types else {}
        if self.types:
            mention |= {"text": word, "type": {"type": "string", "enum": list(self.types)}}
        for attribute, labels in self.unary.items():
            mention[attribute] = {"type": "string", "enum": [*labels, ""]}
        relation = {"source": word, "target": word, "type": {"type": "string", "enum": list(self.binary)}}
        lists = {"mentions": mention} if self.types or self.unary else {}
        return lists | ({"relations": relation} if self.binary else {})

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The strict JSON schema of an answer."""
        lists = {name: {"type": "array", "items": _object(fields)} for name, fields in self.items.items()}
        return _object(lists)

    @cached_property
    def instructions(self) -> str:
        """What every prompt of the task begins with."""
        shown = {
            "id": "c1" if self.ranks else "m1",
            "rating": BEST,
            "source": "m1",
            "target": "m2",
            "text": "words",
        }
        example = {
            name: [{key: shown.get(key) or value["enum"][0] for key, value in fields.items()}]
            for name, fields in self.items.items()
        }
        form = json.dumps(example, ensure_ascii=False)
        said = [f"Answer with one JSON object of this form, and nothing else: {form}", *self._rules()]
        return "\n".join(said)

    def _rules(self) -> Iterator[str]:
        if self.ranks:
            yield f"Rate each candidate once: how well it answers the question, from 0 (not) to {BEST}."
        if self.types:
            yield (
                f"List every mention of: {', '.join(self.types)}. Keep the order of the text, and copy the "
                "words exactly. List a mention again each time that it occurs."
            )
        if any(part.kind is Kind.SPANS for part in self.spec.components):
            yield f'Write "{GAP}" between the pieces of a mention that is not in one piece.'
        for attribute, labels in self.unary.items():
            yield f'{attribute} of a mention is one of {", ".join(labels)}; "" where none holds.'
        if self.binary:
            listed = ", ".join(self.binary)
            yield f"List every relation between two mentions by their ids, from source to target: {listed}."

    def bare(self, sample: UnifiedSample) -> UnifiedSample:
        """Return the sample as an answer finds it: given mentions alone, and no rating."""
        kept = () if self.types or self.ranks else sample.mentions
        mentions = tuple(Mention(m.id, m.fragments, m.type) for m in kept)
        return replace(sample, mentions=mentions, relations=(), pairs=())


def askable(spec: TaskSpec) -> tuple[TaskSpec, list[str]]:
    """Return what a prompt can ask for, and the names of the components that are left out.

    Those are relations between concepts, whose ids are in no text. ConfigError where nothing is left.
    """
    parts = tuple(part for part in spec.components if not (part.kind is Kind.RELATIONS and part.concepts))
    if not parts or (spec.gold_entities and not any(p.kind is Kind.RELATIONS for p in parts)):
        raise ConfigError(f"{spec.name} relates concepts alone, which no text names; take another task")
    return replace(spec, components=parts), [p.name for p in spec.components if p not in parts]


def prompt_for(spec: TaskSpec, sample: UnifiedSample) -> Prompt:
    """Return the prompt of one document, or of one question with its candidates in a drawn order."""
    form, text = Form(spec), sample.text or ""
    if form.ranks:
        listed = (f"{name}: {sample.pairs[place].text}" for name, place in _shown(sample).items())
        asked = "\n\n".join([f"Question: {text}", "Candidates:", *listed])
    else:
        given = (f"{name}: {m.text(text)} ({m.type})" for name, m in _given(form.bare(sample)).items())
        asked = "\n".join([f"Text:\n{text}", *(["\nMentions:"] if not form.types else []), *given])
    system, user = ({"role": who} for who in ("system", "user"))
    says = (system | {"content": form.instructions}, user | {"content": asked})
    return Prompt(says, form.schema, sample.access)


def read_answer(spec: TaskSpec, sample: UnifiedSample, answer: Answer) -> tuple[UnifiedSample, Counter[str]]:
    """Return the predicted sample, and what was counted: documents, and whatever could not be read."""
    form = Form(spec)
    lists = _lists(answer.text, form)
    counts = Counter({"documents": 1})
    if lists is None:
        counts[answer.problem or UNPARSABLE] += 1
    fitting: dict[str, list[Answers]] = {}
    for name, fields in form.items.items():
        items = (lists or {}).get(name, [])
        fitting[name] = [item for item in items if _fits(item, fields)]
        counts[ODD] += len(items) - len(fitting[name])
    if form.ranks:
        return _rated(sample, fitting["ratings"], counts), counts
    predicted, names = _with_mentions(form, sample, fitting.get("mentions", []), counts)
    relations = _relations(form, fitting.get("relations", []), names, counts)
    return replace(predicted, relations=relations), counts


def perfect_answer(spec: TaskSpec, sample: UnifiedSample) -> str:
    """Return the answer that says all of a gold sample; what it scores is what this form can say at most."""
    form = Form(spec)
    if form.ranks:
        rated = {name: BEST if sample.pairs[n].relevant else 0 for name, n in _shown(sample).items()}
        return json.dumps({"ratings": [{"id": name, "rating": rating} for name, rating in rated.items()]})
    text = sample.text or ""
    kept = [m for m in sample.mentions if not form.types or m.type in form.types]
    names = {mention.id: name for name, mention in _given(replace(sample, mentions=tuple(kept))).items()}
    mentions = []
    for mention in sorted(kept, key=_place):
        pieces = [text[start:end] for start, end in mention.fragments]
        said = {"id": names[mention.id], "text": GAP.join(pieces), "type": mention.type}
        found = {key: mention.attributes.get(key, "") for key in form.unary}
        said |= {key: value if value in form.unary[key] else "" for key, value in found.items()}
        mentions.append({key: said[key] for key in form.items.get("mentions", {})})
    relations = [
        {"source": names[ends[0]], "target": names[ends[1]], "type": label}
        for part in dict.fromkeys(form.binary.values())
        for (ends, label) in gold(part, sample)
        if set(ends) <= names.keys()
    ]
    lists = {"mentions": mentions, "relations": relations}
    return json.dumps({name: lists[name] for name in form.items}, ensure_ascii=False)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    closed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **closed}


def _lists(text: str | None, form: Form) -> dict[str, list[Any]] | None:
    """The lists of an answer; what comes after the object, of models that do not stop, is not looked at."""
    if text is None:
        return None
    text = text.strip()
    fenced = FENCE.fullmatch(text)
    try:
        found, _ = json.JSONDecoder().raw_decode(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    good = isinstance(found, dict) and found.keys() == form.items.keys()
    return found if good and all(isinstance(items, list) for items in found.values()) else None


def _fits(item: Any, fields: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an item of the answer follows its schema."""
    if not isinstance(item, dict) or item.keys() != fields.keys():
        return False
    kinds = {"string": str, "integer": int}
    return all(
        type(item[key]) is kinds[field["type"]] and item[key] in field.get("enum", [item[key]])
        for key, field in fields.items()
    )


def _with_mentions(
    form: Form, sample: UnifiedSample, items: Sequence[Answers], counts: Counter[str]
) -> tuple[UnifiedSample, dict[str, str]]:
    """The sample with its mentions, and what the answer calls them -> their ids."""
    given = _given(form.bare(sample))
    mentions = {mention.id: mention for mention in form.bare(sample).mentions}
    names, places = {name: mention.id for name, mention in given.items()}, Places(sample.text or "")
    for number, item in enumerate(items, start=1):
        attributes = {key: item[key] for key in form.unary if item[key]} or NOTHING
        if not form.types:
            if item["id"] in names:
                one = mentions[names[item["id"]]]
                mentions[one.id] = replace(one, attributes=attributes)
            counts[ODD] += item["id"] not in names
        elif (name := item.get("id", str(number))) in names:
            counts[ODD] += 1
        elif fragments := places.take(item["text"]):
            names[name] = f"T{len(mentions) + 1}"
            mentions[names[name]] = Mention(names[name], fragments, item["type"], attributes=attributes)
        else:
            counts[ABSENT] += 1
    counts["mentions"] += len(mentions) if form.types else 0
    return replace(form.bare(sample), mentions=tuple(mentions.values())), names


def _relations(
    form: Form, items: Sequence[Answers], names: Mapping[str, str], counts: Counter[str]
) -> tuple[Relation, ...]:
    found: dict[tuple[str, str, str], Relation] = {}
    for item in items:
        source, target = names.get(item["source"]), names.get(item["target"])
        if source is None or target is None or source == target:
            counts[LOOSE] += 1
            continue
        label, part = item["type"], form.binary[item["type"]]
        attributes = {part.relation_attribute: label} if part.relation_attribute else NOTHING
        kind, number = part.relation_type or label, len(found) + 1
        relation = Relation(f"R{number}", kind, source, target, attributes=attributes)
        found.setdefault((source, target, label), relation)
    counts["relations"] += len(found)
    return tuple(found.values())


def _rated(sample: UnifiedSample, items: Sequence[Answers], counts: Counter[str]) -> UnifiedSample:
    """The candidates in the order of the file, scored from 0 to 1."""
    shown, ratings = _shown(sample), {}
    for item in items:
        if item["id"] in shown and item["id"] not in ratings and 0 <= item["rating"] <= BEST:
            ratings[item["id"]] = item["rating"]
        else:
            counts[ODD] += 1
    counts["candidates"] += len(shown)
    counts[UNRATED] += len(shown) - len(ratings)
    pairs = list(sample.pairs)
    for name, place in shown.items():
        rating = ratings.get(name, -1)
        score = (1 - TIE) * (1 + rating) / (1 + BEST) + TIE * _draw(sample, pairs[place], "tie")
        relevant = rating >= RELEVANT_FROM
        pairs[place] = replace(pairs[place], score=score, relevant=relevant, label=None)
    return replace(sample, mentions=(), relations=(), pairs=tuple(pairs))


def _draw(sample: UnifiedSample, pair: RankedPair, what: str) -> float:
    """A number in [0, 1) that hangs on the ids alone."""
    named = f"{what}:{sample.document_id}:{pair.query_id}:{pair.candidate_id}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:6]) / 2**48


def _shown(sample: UnifiedSample) -> dict[str, int]:
    """What a prompt calls the candidates -> their places in the file, in the order of the prompt."""
    drawn = sorted(range(len(sample.pairs)), key=lambda place: _draw(sample, sample.pairs[place], "order"))
    return {f"c{number}": place for number, place in enumerate(drawn, start=1)}


def _given(sample: UnifiedSample) -> dict[str, Mention]:
    """The mentions by the names that a prompt or an answer gives them."""
    return {f"m{n}": mention for n, mention in enumerate(sorted(sample.mentions, key=_place), start=1)}


def _place(mention: Mention) -> tuple[int, int]:
    return mention.start, -mention.end


class Places:
    """Where words stand in a text: each occurrence is given once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._given: list[tuple[tuple[int, int], ...]] = []

    def take(self, words: str) -> tuple[tuple[int, int], ...] | None:
        """Return the next occurrence as fragments; None where there is none left.

        Words match whole words, whatever white space is between them.
        """
        ways = [[words], words.split(GAP)] if GAP in words else [[words]]
        found = [place for pieces in ways for place in self._places(pieces) if place not in self._given]
        if not found:
            return None
        free = (place for place in found if not any(_meet(place, other) for other in self._given))
        self._given.append(next(free, found[0]))
        return self._given[-1]

    def _places(self, pieces: Sequence[str]) -> Iterator[tuple[tuple[int, int], ...]]:
        """All places of the first piece, each with the nearest following places of the others."""
        patterns = [_pattern(piece) for piece in pieces]
        for first in patterns[0].finditer(self.text) if all(map(str.strip, pieces)) else ():
            spans = [first.span()]
            for pattern in patterns[1:]:
                if following := pattern.search(self.text, spans[-1][1]):
                    spans.append(following.span())
            if len(spans) == len(pieces):
                yield tuple(spans)


def _pattern(words: str) -> re.Pattern[str]:
    inner = r"\s+".join(map(re.escape, words.split()))
    before = r"(?<!\w)" if re.match(r"\s*\w", words) else ""
    return re.compile(before + inner + (r"(?!\w)" if re.search(r"\w\s*$", words) else ""))


def _meet(one: Sequence[tuple[int, int]], two: Sequence[tuple[int, int]]) -> bool:
    return any(a < d and c < b for a, b in one for c, d in two)
