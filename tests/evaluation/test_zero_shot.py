"""Zero-shot answers: strict reading, occurrences in order, and nothing that is guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import (
    Access,
    ComponentSpec,
    Kind,
    Mention,
    RankedPair,
    Relation,
    TaskSpec,
    UnifiedSample,
)
from kaggle_kit.evaluation import zero_shot as zs
from kaggle_kit.evaluation.zero_shot import Answer, askable, perfect_answer, prompt_for, read_answer

NER = ComponentSpec("ner", Kind.TOKENS, 1, ("Drug", "Sign"))
LINKS = ComponentSpec("links", Kind.RELATIONS, 2, ("CAUSES", "TREATS"))
TIMES = ComponentSpec("time", Kind.RELATIONS, 2, ("BEFORE", "AFTER"), attribute="DocTimeRel")
TLINKS = ComponentSpec(
    "tlinks", Kind.RELATIONS, 2, ("CONTAINS",), relation_type="TLINK", relation_attribute="Type"
)
RANK = ComponentSpec("rank", Kind.RANKING, 2, ("irrelevant", "relevant"))
TEXT = "Aspirin for pain. No pain after aspirin, but painful left and right knees."


def spec(*parts: ComponentSpec, **more) -> TaskSpec:
    return TaskSpec("task", parts, **more)


def note(*mentions: Mention, relations: tuple[Relation, ...] = ()) -> UnifiedSample:
    return UnifiedSample("d1", TEXT, "dev", Access.PUBLIC, mentions, relations)


def thread(number: int = 4) -> UnifiedSample:
    pairs = tuple(
        RankedPair("q", f"a{n}", f"answer {n}", n, "Good", relevant=n % 2 == 0) for n in range(1, number + 1)
    )
    return UnifiedSample("q", "why?", "dev", Access.PUBLIC, pairs=pairs)


def said(**lists) -> Answer:
    return Answer(json.dumps(lists))


def words(sample: UnifiedSample) -> list[tuple[str, tuple, str]]:
    return [(m.text(TEXT), m.fragments, m.type) for m in sample.mentions]


def test_repeated_words_get_their_occurrences_in_order_and_one_too_many_is_counted():
    pain = {"text": "pain", "type": "Sign"}
    found, counts = read_answer(spec(NER), note(), said(mentions=[pain, pain, pain]))
    assert [place for _, place, _ in words(found)] == [((12, 16),), ((21, 25),)]
    assert counts[zs.ABSENT] == 1 and counts["mentions"] == 2, "painful is another word"


def test_words_that_are_not_in_the_text_are_counted_and_never_guessed():
    items = [{"text": text, "type": "Sign"} for text in ("Pain", "knee", "ache", "", " ")]
    found, counts = read_answer(spec(NER), note(), said(mentions=items))
    assert found.mentions == () and counts[zs.ABSENT] == 5


def test_white_space_of_any_kind_is_the_same():
    item = {"text": "No\n  pain", "type": "Sign"}
    found, _ = read_answer(spec(NER), note(), said(mentions=[item]))
    assert found.mentions[0].fragments == ((18, 25),)


def test_an_occurrence_within_a_placed_mention_comes_last():
    items = [{"text": text, "type": "Sign"} for text in ("No pain", "pain", "pain")]
    found, _ = read_answer(spec(NER), note(), said(mentions=items))
    assert [m.fragments for m in found.mentions] == [((18, 25),), ((12, 16),), ((21, 25),)]


def test_pieces_of_a_mention_are_fragments():
    item = {"text": "left ... knees", "type": "Sign"}
    found, _ = read_answer(spec(NER), note(), said(mentions=[item, item]))
    assert [m.fragments for m in found.mentions] == [((53, 57), (68, 73))]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "none found",
        '{"mentions": [',
        '{"mentions": {}}',
        '[{"mentions": []}]',
        '{"mentions": [], "more": []}',
        "{}",
        "[" * 100_000,
        'The answer: {"mentions": []}',
    ],
)
def test_an_answer_of_another_form_is_unparsable(text):
    found, counts = read_answer(spec(NER), note(), Answer(text))
    assert found.mentions == () and counts[zs.UNPARSABLE] == 1 == counts["documents"]


def test_the_reason_for_no_answer_is_counted_in_place_of_it():
    _, counts = read_answer(spec(NER), note(), Answer('{"mentions": [', "answers cut off"))
    assert counts["answers cut off"] == 1 and zs.UNPARSABLE not in counts


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```\n{}\n```", "  {}\nThat is all.", "```json\n{}"])
def test_a_fence_and_what_follows_the_object_are_no_obstacle(fence):
    inner = json.dumps({"mentions": [{"text": "pain", "type": "Sign"}]})
    found, counts = read_answer(spec(NER), note(), Answer(fence.replace("{}", inner)))
    assert len(found.mentions) == 1 and zs.UNPARSABLE not in counts


def test_items_of_another_form_are_counted_and_the_others_kept():
    good = {"text": "pain", "type": "Sign"}
    odd = [{"text": "pain"}, {"text": "pain", "type": "Ache"}, {"text": 3, "type": "Sign"}, "pain", None]
    found, counts = read_answer(spec(NER), note(), said(mentions=[*odd, good, good | {"score": 1}]))
    assert len(found.mentions) == 1 and counts[zs.ODD] == 6


def test_relations_hold_between_named_mentions_and_loose_ends_are_counted():
    mentions = [
        {"id": name, "text": text, "type": kind}
        for name, text, kind in (("a", "Aspirin", "Drug"), ("b", "pain", "Sign"), ("c", "cough", "Sign"))
    ]
    links = [("a", "b", "TREATS"), ("a", "b", "TREATS"), ("a", "c", "CAUSES"), ("b", "b", "CAUSES")]
    links += [("a", "x", "CAUSES"), ("b", "a", "CAUSES")]
    relations = [dict(zip(("source", "target", "type"), link, strict=True)) for link in links]
    found, counts = read_answer(spec(NER, LINKS), note(), said(mentions=mentions, relations=relations))
    ids = {m.text(TEXT): m.id for m in found.mentions}
    assert [(r.source, r.target, r.type) for r in found.relations] == [
        (ids["Aspirin"], ids["pain"], "TREATS"),
        (ids["pain"], ids["Aspirin"], "CAUSES"),
    ]
    assert counts[zs.LOOSE] == 3, "c was not in the text, b is related to itself, x is nobody"


def test_a_name_that_is_given_twice_keeps_its_first_mention():
    items = [{"id": "a", "text": text, "type": "Sign"} for text in ("pain", "No pain")]
    found, counts = read_answer(spec(NER, LINKS), note(), said(mentions=items, relations=[]))
    assert [m.fragments for m in found.mentions] == [((12, 16),)] and counts[zs.ODD] == 1


def test_attributes_and_links_stand_where_the_writers_look_for_them():
    mentions = [
        {"id": "a", "text": "Aspirin", "type": "Drug", "DocTimeRel": "BEFORE"},
        {"id": "b", "text": "pain", "type": "Sign", "DocTimeRel": ""},
    ]
    relations = [{"source": "a", "target": "b", "type": "CONTAINS"}]
    found, _ = read_answer(spec(NER, TIMES, TLINKS), note(), said(mentions=mentions, relations=relations))
    assert [dict(m.attributes) for m in found.mentions] == [{"DocTimeRel": "BEFORE"}, {}]
    assert [(r.type, dict(r.attributes)) for r in found.relations] == [("TLINK", {"Type": "CONTAINS"})]


def test_given_mentions_are_named_in_the_prompt_and_kept():
    gold = note(Mention("T9", ((12, 16),), "Sign", ("C1",)), Mention("T4", ((0, 7),), "Drug"))
    task = spec(NER, LINKS, gold_entities=True)
    assert "m1: Aspirin (Drug)\nm2: pain (Sign)" in prompt_for(task, gold).messages[1]["content"]
    relation = {"source": "m1", "target": "m2", "type": "TREATS"}
    found, counts = read_answer(task, gold, said(relations=[relation]))
    assert [(m.id, m.concepts) for m in found.mentions] == [("T9", ()), ("T4", ())]
    assert [(r.source, r.target) for r in found.relations] == [("T4", "T9")]
    assert counts["mentions"] == 0, "none was found"


def test_ratings_order_the_candidates_and_the_file_s_order_helps_nobody():
    sample, task = thread(), spec(RANK)
    shown = {name: sample.pairs[place].candidate_id for name, place in zs._shown(sample).items()}
    assert sorted(shown.values()) == ["a1", "a2", "a3", "a4"] and list(shown.values()) != sorted(
        shown.values()
    )
    ratings = [{"id": name, "rating": 90 if shown[name] == "a3" else 10} for name in shown]
    found, counts = read_answer(task, sample, said(ratings=ratings))
    scores = {pair.candidate_id: pair.score for pair in found.pairs}
    assert [pair.candidate_id for pair in found.pairs] == ["a1", "a2", "a3", "a4"]
    assert max(scores, key=scores.get) == "a3" and [p.relevant for p in found.pairs] == [
        False,
        False,
        True,
        False,
    ]
    assert len(set(scores.values())) == 4, "a hash decides of equal ratings"
    assert counts[zs.UNRATED] == 0 and all(0 <= score <= 1 for score in scores.values())


def test_equal_ratings_are_in_no_order_of_the_file():
    """Over 400 questions, of two equally rated candidates the first of the file leads in about half."""
    first = 0
    for number in range(400):
        sample = UnifiedSample(f"q{number}", "why?", "dev", Access.PUBLIC, pairs=thread(2).pairs)
        found, _ = read_answer(spec(RANK), sample, Answer(None))
        first += found.pairs[0].score > found.pairs[1].score
    assert 160 <= first <= 240


def test_candidates_without_a_rating_go_last_and_are_counted():
    sample = thread()
    odd = [{"id": "c1", "rating": 0}, {"id": "c1", "rating": 50}, {"id": "c9", "rating": 5}]
    odd += [{"id": "c2", "rating": 101}, {"id": "c3", "rating": True}, {"id": "c4", "rating": 7.0}]
    found, counts = read_answer(spec(RANK), sample, said(ratings=odd))
    first = zs._shown(sample)["c1"]
    assert max(range(4), key=lambda place: found.pairs[place].score) == first
    assert counts[zs.UNRATED] == 3 and counts[zs.ODD] == 5


def test_a_prompt_carries_no_gold_and_the_access_of_its_text():
    gold = note(Mention("T1", ((0, 7),), "Drug", ("C0004057",)), Mention("T2", ((12, 16),), "Sign"))
    assert prompt_for(spec(NER, LINKS), gold) == prompt_for(spec(NER, LINKS), note())
    labelled, bare = thread(), thread()
    for pair in bare.pairs:
        object.__setattr__(pair, "relevant", None)
    assert prompt_for(spec(RANK), labelled).messages == prompt_for(spec(RANK), bare).messages
    secret = UnifiedSample("d", "words", "dev", Access.RESTRICTED)
    assert prompt_for(spec(NER), secret).access == Access.RESTRICTED


def test_the_schema_is_strict_as_the_service_wants_it():
    """Every object is closed and all of its fields are required."""

    def check(node):
        if isinstance(node, dict):
            if node.get("type") == "object":
                assert node["additionalProperties"] is False and node["required"] == list(node["properties"])
            for inner in node.values():
                check(inner)

    for parts in ((NER,), (NER, LINKS), (NER, TIMES, TLINKS), (RANK,)):
        check(prompt_for(spec(*parts), thread()).schema)


def test_relations_between_concepts_are_left_out_and_nothing_else():
    concepts = ComponentSpec("cid", Kind.RELATIONS, 2, ("CID",), concepts=True)
    asked, left_out = askable(spec(NER, concepts))
    assert asked.components == (NER,) and left_out == ["cid"]
    with pytest.raises(ConfigError, match="take another task"):
        askable(spec(concepts))
    with pytest.raises(ConfigError, match="take another task"):
        askable(spec(NER, concepts, gold_entities=True))


@given(st.lists(st.integers(0, 30), max_size=8, unique=True), st.data())
def test_a_perfect_answer_to_words_that_occur_once_is_read_back_to_the_letter(starts, data):
    """Flat mentions of words that are all different: what is said is what is found, relations too."""
    names = [f"w{n}x" for n in range(40)]
    text = " ".join(names)
    ends = [
        (text.index(names[start]), text.index(names[start]) + len(names[start])) for start in sorted(starts)
    ]
    kinds = [data.draw(st.sampled_from(NER.labels)) for _ in ends]
    mentions = tuple(
        Mention(f"T{n}", (end,), kind) for n, (end, kind) in enumerate(zip(ends, kinds, strict=True), 1)
    )
    links = tuple(Relation(f"R{n}", "CAUSES", f"T{n}", f"T{n + 1}") for n in range(1, len(mentions)))
    gold = UnifiedSample("d", text, "dev", Access.PUBLIC, mentions, links)
    found, counts = read_answer(spec(NER, LINKS), gold, Answer(perfect_answer(spec(NER, LINKS), gold)))
    assert found == gold
    assert {name for name, count in counts.items() if count} <= {"documents", "mentions", "relations"}


def test_a_perfect_answer_ranks_every_relevant_candidate_first():
    found, _ = read_answer(spec(RANK), thread(), Answer(perfect_answer(spec(RANK), thread())))
    ordered = sorted(found.pairs, key=lambda pair: -pair.score)
    assert [pair.candidate_id in ("a2", "a4") for pair in ordered] == [True, True, False, False]


def test_a_perfect_answer_says_attributes_and_links():
    mentions = (
        Mention("T1", ((0, 7),), "Drug", attributes={"DocTimeRel": "AFTER"}),
        Mention("T2", ((12, 16),), "Sign", attributes={"DocTimeRel": "NEVER"}),
    )
    links = (Relation("R1", "TLINK", "T1", "T2", attributes={"Type": "CONTAINS"}),)
    gold, task = note(*mentions, relations=links), spec(NER, TIMES, TLINKS)
    found, _ = read_answer(task, gold, Answer(perfect_answer(task, gold)))
    assert [dict(m.attributes) for m in found.mentions] == [{"DocTimeRel": "AFTER"}, {}]
    assert [(r.source, r.target, r.type) for r in found.relations] == [("T1", "T2", "TLINK")]
