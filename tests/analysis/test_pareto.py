"""The frontier: by hand, by an exhaustive oracle, and where the truth is known how sure it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kaggle_kit.analysis.pareto import (
    frontier_probability,
    is_dominated,
    latency_figure,
    on_same_documents,
    pareto_figure,
    recommended,
)
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError

# (score, minus cost): A is cheap, C scores most, D costs more than B and scores less
PICTURE = np.array([[0.3, -1.0], [0.6, -2.0], [0.9, -4.0], [0.5, -3.0]])


def test_of_the_pictures_models_the_fourth_is_beaten():
    assert is_dominated(PICTURE).tolist() == [False, False, False, True]


def test_equal_models_do_not_beat_each_other_and_one_is_never_beaten():
    assert is_dominated(np.ones((3, 2))).tolist() == [False] * 3
    assert is_dominated(np.zeros((1, 4))).tolist() == [False]


def test_the_frontier_is_that_of_trying_every_pair():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(0, 4, size=(8, 3)).astype(float)
        beaten = [
            any(all(a >= b for a, b in zip(x, y, strict=True)) and tuple(x) != tuple(y) for x in values)
            for y in values
        ]
        assert is_dominated(values).tolist() == beaten


def test_a_missing_figure_is_refused():
    with pytest.raises(ConfigError, match="no number"):
        is_dominated(np.array([[1.0, np.nan]]))


def test_at_equal_cost_a_model_is_on_the_frontier_as_often_as_it_scores_most():
    draws = np.random.default_rng(1).normal([0.5, 0.55], 0.05, size=(4000, 2))
    found = frontier_probability(draws, np.ones((2, 1)))
    assert found == pytest.approx([(draws[:, 0] > draws[:, 1]).mean(), (draws[:, 1] > draws[:, 0]).mean()])
    assert found[1] == pytest.approx(0.760, abs=0.02)  # Φ(0.05 / (0.05 √2))


def test_the_cheapest_model_is_always_on_the_frontier_and_a_dear_bad_one_never():
    draws = np.random.default_rng(2).normal([0.5, 0.9, 0.1], 0.01, size=(200, 3))
    assert frontier_probability(draws, np.array([[1.0], [2.0], [3.0]])).tolist() == [1, 1, 0]


TABLE = pd.DataFrame({"name": list("ABCD"), "score": [0.3, 0.6, 0.9, 0.6], "MiB": [1, 2, 4, 1.5]})


@pytest.mark.parametrize(("most", "name"), [(10, "C"), (3, "D"), (1, "A")])
def test_the_best_score_within_the_budget_is_recommended_and_of_equals_the_cheaper(most, name):
    assert recommended(TABLE, {"MiB": most})["name"] == name


def test_no_model_within_the_budget_is_said_and_an_unknown_limit_refused():
    assert recommended(TABLE, {"MiB": 0.5}) is None
    with pytest.raises(ConfigError, match="'mib' is no figure .* did you mean 'MiB'"):
        recommended(TABLE, {"mib": 1})


def documents(folder, ids, hits):
    run = RunFolder(folder)
    run.documents.mkdir(parents=True)
    parts = [{"document": one, "tp": n, "fp": 1, "fn": 0} for one, n in zip(ids, hits, strict=True)]
    run.write_documents("ner", "dev", parts)
    return run


def test_runs_are_set_side_by_side_on_the_very_same_documents_only(tmp_path):
    runs = {"one": documents(tmp_path / "1", "ab", [1, 2]), "two": documents(tmp_path / "2", "ab", [3, 4])}
    parts = on_same_documents(runs, "ner", "dev")
    assert parts[:, :, 0].tolist() == [[1, 2], [3, 4]]
    runs["other"] = documents(tmp_path / "3", "ac", [1, 2])
    with pytest.raises(ConfigError, match="other was scored on 2 documents of ner's dev split"):
        on_same_documents(runs, "ner", "dev")
    with pytest.raises(ConfigError, match="none was scored on 0 documents"):
        on_same_documents({"none": documents(tmp_path / "4", "", [])}, "ner", "dev")


def test_figures_show_every_model_and_every_size_of_a_request():
    table = TABLE.assign(low=TABLE["score"] - 0.1, high=TABLE["score"] + 0.1)
    table["on the frontier"] = [1.0, 1.0, 1.0, 0.2]
    names = [text.get_text() for text in pareto_figure(table, ["MiB"]).legends[0].get_texts()]
    assert names == ["A (100%)", "B (100%)", "C (100%)", "D (20%)"]
    assert "no run" in pareto_figure(table[:0], ["MiB"]).texts[0].get_text()
    rows = pd.DataFrame(
        {"task": "t", "adapters": ["as trained", "as trained", "merged"], "batch": [1, 8, 1]}
        | {"texts/s": [2.0, 5.0, 3.0], "SD": 0.1, "p95 ms": [500, 1600, 400]}
    )
    (panel,) = latency_figure(rows).axes
    assert [text.get_text().strip() for text in panel.texts] == ["1", "8", "1"]
