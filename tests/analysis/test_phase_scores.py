"""The score that each phase of a training left, read from the run's events."""

from __future__ import annotations

from kaggle_kit.analysis.token_curves import curve, phase_scores


def event(step: int, score: float | None = None, best_step: int | None = None) -> dict:
    quick = {"ner.f1": score, "selection": score, "best_step": best_step}
    return {"step": step} | ({"quick_evaluation": quick} if score is not None else {})


EVENTS = [event(1), event(2, 0.5, 2), event(4, 0.3, 2), event(5), event(6, 0.6, 2), event(8, 0.7, 4)]


def test_a_phase_leaves_the_weights_of_its_last_step():
    assert phase_scores(EVENTS, [4, 8], best=False) == [{"ner.f1": 0.3}, {"ner.f1": 0.7}]


def test_with_the_best_step_chosen_a_phase_leaves_that_one_counted_from_its_own_beginning():
    assert phase_scores(EVENTS, [4, 8], best=True) == [{"ner.f1": 0.5}, {"ner.f1": 0.7}]
    early = [*EVENTS[:-1], event(8, 0.4, 2)]
    assert phase_scores(early, [4, 8], best=True)[1] == {"ner.f1": 0.6}


def test_a_phase_without_an_evaluation_has_no_score():
    assert phase_scores(EVENTS[:1], [1], best=True) == [{}]


def test_the_curve_takes_each_evaluation_once():
    both = {"step": 3, "development": {"scores": {"ner": 0.9}}}
    same = event(4, 0.3, 2) | {"development": {"scores": {"ner": 0.3}}}
    assert curve([event(2, 0.5, 2), both, same]) == {"ner": [(2, 0.5), (3, 0.9), (4, 0.3)]}
