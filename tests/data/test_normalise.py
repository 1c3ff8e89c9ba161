"""Concept normalisation: what training says, what is similar, what stays without concept."""

from kaggle_kit.data.normalise import ConceptNormaliser

TRAINING = [
    ("heart attack", "C0027051"),
    ("Heart\nattack", "C0027051"),
    ("heart attack", "C9999999"),
    ("fall", "CUI-less"),
    ("pneumonia", "C0032285"),
]


def test_case_and_white_space_do_not_matter_and_the_most_frequent_cui_wins():
    assert ConceptNormaliser.fit(TRAINING).predict(["HEART  ATTACK"]) == ["C0027051"]


def test_equally_frequent_cuis_are_decided_by_the_alphabet_whatever_the_order():
    pairs = [("mass", "C2"), ("mass", "C1")]
    assert ConceptNormaliser.fit(pairs).predict(["mass"]) == ["C1"]
    assert ConceptNormaliser.fit(pairs[::-1]).predict(["mass"]) == ["C1"]


def test_a_misspelt_phrase_gets_the_nearest_name_and_a_foreign_one_none():
    normaliser = ConceptNormaliser.fit(TRAINING, threshold=0.5)
    assert normaliser.predict(["pneumonias", "zzyzx"]) == ["C0032285", "CUI-less"]


def test_a_higher_threshold_gives_up_sooner():
    assert ConceptNormaliser.fit(TRAINING, threshold=0.99).predict(["pneumonias"]) == ["CUI-less"]


def test_a_phrase_that_training_leaves_without_concept_stays_without():
    falls = [*TRAINING, ("falls", "C0085639")]
    assert ConceptNormaliser.fit(falls).predict(["Fall", "falls"]) == ["CUI-less", "C0085639"]


def test_nothing_learnt_means_no_concept():
    assert ConceptNormaliser.fit([]).predict(["fever", ""]) == ["CUI-less", "CUI-less"]
    assert ConceptNormaliser.fit([(" ", "C1")]).predict(["fever"]) == ["CUI-less"]


def test_many_phrases_come_back_in_their_own_order():
    names = [(f"term{n:04d}", f"C{n:07d}") for n in range(300)]
    asked = [f"Term{n:04d}" for n in (299, 0, 150)] + [f"no{n}" for n in range(100)]
    answers = ConceptNormaliser.fit(names).predict(asked)
    assert answers[:3] == ["C0000299", "C0000000", "C0000150"]
    assert set(answers[3:]) == {"CUI-less"}
