"""How many gold relations are candidates, and what brings them within reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.batches.encode import encode
from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, TaskSpec, UnifiedSample
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.models.tiny import train_tokenizer

SENTENCE = "Drug {0} helps pain {0} ."
TEXT = "\n".join(SENTENCE.format(number) for number in range(10))
TOKENIZER = train_tokenizer([TEXT])
LINKS = ComponentSpec(
    "links", Kind.RELATIONS, 2, ("TREATS",), candidates=(("Drug", "Pain"), ("Pain", "Drug")), forward=True
)
LONGEST = len(TOKENIZER(SENTENCE.format(9), add_special_tokens=False)["input_ids"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))


def sample() -> UnifiedSample:
    """Ten sentences, a drug and a pain in each; 10 relations inside of them and 9 from each to the next."""
    mentions = []
    for number in range(10):
        drug, pain = TEXT.index(f"Drug {number}"), TEXT.index(f"pain {number}")
        mentions += [
            Mention(f"D{number}", ((drug, drug + 6),), "Drug"),
            Mention(f"P{number}", ((pain, pain + 6),), "Pain"),
        ]
    inside = [Relation(f"R{n}", "TREATS", f"D{n}", f"P{n}") for n in range(10)]
    across = [Relation(f"S{n}", "TREATS", f"P{n}", f"D{n + 1}") for n in range(9)]
    return UnifiedSample("d", TEXT, "train", Access.PUBLIC, tuple(mentions), (*inside, *across))


def reached(settings: PassageSettings, component: ComponentSpec = LINKS):
    encoded = encode([sample()], TaskSpec("t", (component,)), TOKENIZER, settings)
    return tuple(encoded.reach.candidates["links"]), list(encoded.reach.too_few("t, train", "t"))


def test_sentences_reach_the_relations_inside_of_them():
    found, messages = reached(PassageSettings(64, 0))
    assert found == (10, 19)
    assert len(messages) == 1 and "tasks.t.segments=windows" in messages[0]


def test_windows_reach_across_their_border_by_the_sentences_that_they_share():
    window = 2 * LONGEST + 1  # two sentences and the special token
    assert reached(PassageSettings(window, 0, "windows"))[0] == (15, 19)  # five windows of two
    assert reached(PassageSettings(window, LONGEST, "windows")) == ((19, 19), [])
    assert reached(PassageSettings(1000, 0, "windows"))[0] == (19, 19)


def test_pairs_farther_apart_than_training_relates_are_no_candidates():
    # helps lies between inside a sentence, a full stop across: two words on from one to the other
    settings = PassageSettings(1000, 0, "windows")
    assert reached(settings, replace(LINKS, farthest=2))[0] == (19, 19)
    assert reached(settings, replace(LINKS, farthest=1))[0] == (0, 19)
    encoded = encode([sample()], TaskSpec("t", (replace(LINKS, farthest=2),)), TOKENIZER, settings)
    assert encoded.spec.components[0].positive == 1.0  # nothing else lies so close


def test_the_share_of_positive_candidates_is_that_of_what_is_encoded():
    encoded = encode([sample()], TaskSpec("t", (LINKS,)), TOKENIZER, PassageSettings(1000, 0, "windows"))
    # in the order of the text: 55 pairs drug-pain and 45 pain-drug
    assert encoded.spec.components[0].positive == 19 / 100


def counted(text: str, spec: TaskSpec, *mentions: Mention, relations: tuple[Relation, ...] = ()):
    annotated = UnifiedSample("d", text, "train", Access.PUBLIC, mentions, relations)
    return encode([annotated], spec, TOKENIZER, PassageSettings(64, 0)).reach


def test_mentions_and_relations_that_no_passage_holds_are_counted_and_said():
    # "Drug 0 … pain 0" is a sentence and so is every other line
    across = Mention("A", ((TEXT.index("pain 0"), TEXT.index("Drug 1") + 6),), "Drug")
    inside = Mention("B", ((TEXT.index("pain 0"), TEXT.index("pain 0") + 6),), "Pain")
    half = Mention("C", ((2, 6),), "Drug")  # "ug 0"
    other = Mention("D", ((0, 6),), "Other")  # no component asks for it
    tags = ComponentSpec("ner", Kind.TOKENS, 1, ("Drug", "Pain"))
    links = (Relation("R1", "TREATS", "C", "B"), Relation("R2", "TREATS", "A", "B"))
    found = counted(TEXT, TaskSpec("t", (tags, LINKS)), across, inside, half, other, relations=links)
    assert (found.mentions, found.outside, found.inexact) == (3, 1, 1)
    assert (found.relations, found.apart) == (2, 1)
    assert found.summary("t, train") == (
        "t, train: 1 of 3 mentions and 1 of 2 relations are in no passage; "
        "1 mentions do not begin and end with a word"
    )


def test_a_fragment_that_is_longer_than_a_span_can_be_is_counted():
    spans = ComponentSpec("ner", Kind.SPANS, 1, ("Drug",), max_span_length=2)
    short, long = Mention("A", ((0, 6),), "Drug"), Mention("B", ((0, 12),), "Drug")
    found = counted(TEXT, TaskSpec("t", (spans,)), short, long)
    assert (found.mentions, found.outside, found.inexact) == (2, 0, 1)


def test_the_counts_are_read_again_with_the_cached_file():
    settings = PassageSettings(64, 0)
    first, again = (encode([sample()], TaskSpec("t", (LINKS,)), TOKENIZER, settings) for _ in range(2))
    assert first.reach == again.reach
    assert (again.reach.mentions, again.reach.outside, again.reach.apart) == (20, 0, 9)


def test_a_split_without_annotations_has_nothing_to_say():
    tags = ComponentSpec("ner", Kind.TOKENS, 1, ("Drug",))
    assert counted(TEXT, TaskSpec("t", (tags,))).summary("t, train") is None
