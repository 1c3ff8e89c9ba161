from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.data.practice import CLASSES, FIVE, planted

PAIRS = list(combinations(FIVE, 2))


def lexicon(**knobs):
    return planted(PracticeConfig(terms=60, **knobs))


def test_a_shared_term_has_one_class_in_all_tasks():
    truth = lexicon(transfer="shared")
    for one, other in PAIRS:
        assert truth.class_of(one) == truth.class_of(other)


def test_a_conflicting_term_has_one_class_where_it_is_shown_and_another_wherever_it_is_not():
    truth = lexicon(transfer="conflicting")
    by_task = {task: truth.class_of(task) for task in FIVE}
    seen = {task: truth.seen_in_training(task) for task in FIVE}
    for term in by_task["semeval2014t7"]:
        (shown,) = {classes[term] for task, classes in by_task.items() if term in seen[task]}
        assert shown not in {classes[term] for task, classes in by_task.items() if term not in seen[task]}


def test_independently_drawn_classes_agree_one_time_in_five():
    truth = lexicon(transfer="none")
    agreements = []
    for one, other in PAIRS:
        first, second = truth.class_of(one), truth.class_of(other)
        agreements += [first[term] == second[term] for term in first]
    assert sum(agreements) / len(agreements) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("transfer", ["shared", "none", "conflicting"])
def test_vocabularies_are_disjoint_without_overlap(transfer):
    truth = lexicon(transfer=transfer, lexicon_overlap=0.0)
    for one, other in PAIRS:
        assert not set(truth.class_of(one)) & set(truth.class_of(other))


@pytest.mark.parametrize("overlap", [0.25, 0.5, 1.0])
def test_the_overlap_is_the_share_of_terms_that_tasks_have_in_common(overlap):
    truth = lexicon(lexicon_overlap=overlap)
    for one, other in PAIRS:
        common = set(truth.class_of(one)) & set(truth.class_of(other))
        assert len(common) / 300 == pytest.approx(overlap, abs=0.02)


@pytest.mark.parametrize("transfer", ["shared", "none", "conflicting"])
def test_every_class_holds_the_same_number_of_terms_in_every_task(transfer):
    truth = lexicon(transfer=transfer, lexicon_overlap=0.5)
    for task in FIVE:
        counts = Counter(truth.class_of(task).values())
        assert counts.keys() == set(CLASSES)
        near = 3 if transfer == "conflicting" else 0  # a shape with few unseen terms cannot keep the balance
        assert all(count == pytest.approx(60, abs=near) for count in counts.values())


def test_every_unseen_term_is_seen_by_others_and_by_all_of_them_equally():
    truth = lexicon()
    for task in FIVE:
        unseen = set(truth.class_of(task)) - truth.seen_in_training(task)
        others = [truth.seen_in_training(other) for other in FIVE if other != task]
        assert unseen <= frozenset().union(*others)
        for seen in others:  # three of the other four tasks show it, at coverage 0.6
            assert len(unseen & seen) / len(unseen) == pytest.approx(0.75, abs=0.08)


def test_full_coverage_shows_everything():
    truth = lexicon(coverage=1.0, lexicon_overlap=0.5)
    assert all(truth.seen_in_training(task) == set(truth.class_of(task)) for task in FIVE)


def test_words_and_visibility_do_not_depend_on_the_transfer():
    shared, none = lexicon(transfer="shared"), lexicon(transfer="none")
    assert shared.families == none.families
    assert shared.seen == none.seen


def test_terms_and_concept_ids_are_distinct():
    truth = lexicon(lexicon_overlap=0.5)
    terms = {term.text: term.cui for task in FIVE for term in truth.terms(task, "dev")}
    assert len(set(terms.values())) == len(terms) == 5 * 30 + 5 * 5 * 30
    assert all(cui.startswith("C99") and len(cui) == 8 for cui in terms.values())


@pytest.mark.parametrize(
    ("knob", "value", "allowed"),
    [
        ("transfer", "sharde", "did you mean 'shared'"),
        ("lexicon_overlap", 1.5, "at least 0 and at most 1"),
        ("noise", -0.1, "at least 0 and at most 1"),
        ("coverage", 0.0, "at least 0.05 and at most 1"),
        ("terms", 4, "at least 5"),
        ("documents", 0, "at least 1"),
        ("seed", -1, "at most 4294967295"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(knob, value, allowed):
    with pytest.raises(ConfigError, match=f"practice.{knob}.*{allowed}") as caught:
        planted(PracticeConfig(**{knob: value}))
    assert str(value) in str(caught.value)


def test_a_training_split_without_terms_is_refused():
    with pytest.raises(ConfigError, match="raise practice.coverage or practice.terms"):
        planted(PracticeConfig(terms=5, coverage=0.05))
