"""Learning curves over tokens, from hand-written logs."""

from __future__ import annotations

import math
from types import SimpleNamespace

from kaggle_kit.analysis.token_curves import curve_parts, token_curve

TOKENS = [
    {"step": 1, "total": {"ner": 60, "qa": 0}},
    {"step": 2, "total": {"ner": 60, "qa": 40}},
    {"step": 3, "total": {"ner": 90, "qa": 60}},
    {"step": 4, "total": {"ner": 100, "qa": 100}},
]
EVENTS = [
    {"step": 1, "losses": {"ner": 4.0}},
    {"step": 2, "losses": {"qa": 1.0}},
    {"step": 3, "losses": {"ner": 2.0, "qa": 0.5}, "quick_evaluation": {"ner.f1": 0.25, "selection": 0.3}},
    {"step": 4, "losses": {"ner": 1.0, "qa": 0.4}, "development": {"scores": {"ner": 0.75}, "score": 0.8}},
]


def logged(tokens=TOKENS, events=EVENTS):
    return SimpleNamespace(tokens=lambda: tokens, events=lambda: events)


def test_a_curve_stands_over_the_tokens_of_all_tasks_and_has_scores_of_both_kinds():
    curve = token_curve(logged(), "ner")
    assert list(curve["tokens"]) == [60, 150, 200] and list(curve["loss"]) == [4.0, 2.0, 1.0]
    assert math.isnan(curve["dev score"][0]) and list(curve["dev score"][1:]) == [0.25, 0.75]


def test_a_loss_that_was_no_number_leaves_a_gap_in_the_curve():
    events = [EVENTS[0], {"step": 3, "losses": {"ner": None}}, EVENTS[3]]
    assert list(token_curve(logged(events=events), "ner")["tokens"]) == [60, 200]


def test_equal_parts_of_the_tokens_have_the_mean_loss_and_the_last_score():
    parts = curve_parts(token_curve(logged(), "ner"), parts=2)
    assert list(parts["tokens up to"]) == [60, 200] and list(parts["steps"]) == [1, 2]
    assert list(parts["mean loss"]) == [4.0, 1.5] and parts["dev score"][1] == 0.75


def test_a_task_that_was_not_trained_has_an_empty_curve():
    assert token_curve(logged(), "relations").empty
