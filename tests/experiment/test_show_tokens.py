"""Tokens planned and seen, and learning curves, from hand-written logs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from kaggle_kit.experiment import show
from tests.analysis.test_token_curves import EVENTS, TOKENS
from tests.experiment.show_of import displayed  # noqa: F401


def experiment(tokens=TOKENS, events=EVENTS):
    return SimpleNamespace(
        run=SimpleNamespace(tokens=lambda: tokens, events=lambda: events),
        plan=SimpleNamespace(tokens={"ner": 100, "qa": 120}),
        encoded={
            "ner": SimpleNamespace(lengths=np.array([30, 20])),
            "qa": SimpleNamespace(lengths=np.array([400])),
        },
        config=SimpleNamespace(tasks={"ner": None, "qa": None}),
    )


def test_the_ledger_sets_tokens_seen_beside_those_planned_and_counts_passes_over_the_data(displayed):  # noqa: F811
    found = show.token_ledger(experiment())
    assert list(found["planned"]) == [100, 120] and list(found["seen"]) == [100, 100]
    assert list(found["share of seen"]) == [0.5, 0.5] and list(found["passes"]) == [2.0, 0.25]
    assert "planned" in displayed[0] and "2.00" in displayed[0]


def test_a_run_that_has_not_begun_has_seen_nothing(displayed):  # noqa: F811
    assert list(show.token_ledger(experiment(tokens=[]))["seen"]) == [0, 0]


def test_every_task_has_a_curve_as_a_figure_and_as_a_table(displayed):  # noqa: F811
    show.curve_over_tokens(experiment())
    assert [text == "Image" for text in displayed] == [True, False] * 2
    assert "0.7500" in displayed[1] and "1.0000" in displayed[1]  # the last score and the last loss


def test_a_task_without_a_step_has_a_figure_that_says_so_and_no_table(displayed):  # noqa: F811
    show.curve_over_tokens(experiment(events=[]))
    assert displayed == ["Image", "Image"]
