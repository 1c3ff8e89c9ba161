"""How many gold relations are candidates, and what brings them within reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, TaskSpec, UnifiedSample
from kaggle_kit.data.encode import encode
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.data.reach import out_of_reach, reach
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
    return reach(encoded, [sample()])["links"], list(out_of_reach(encoded, [sample()]))


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
