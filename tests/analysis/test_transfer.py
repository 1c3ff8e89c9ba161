"""The transfer matrix of hand-made runs: the right differences, refusals by field, missing is missing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from kaggle_kit.analysis.predictors import conflict_excess, predictors
from kaggle_kit.analysis.transfer import transfer_matrix, transfer_settings
from kaggle_kit.analysis.transfer_figures import predictor_heatmaps, transfer_heatmap
from kaggle_kit.core.artifacts import Metric, RunFolder, Totals, find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from tests.signing import sign

A, B, C = TASKS = ("semeval2014t7", "semeval2017t3", "semeval2021t6")
PRIMARY = {A: "task_a_strict_f1", B: "map", C: "entity_f1"}
LAST = {"rule": "last", "split": None, "metric": None}
UNTUNED = {"trials": 0, "split": None, "study": None}
# Scores of the pairs, and of the tasks alone, as two seeds made them. (A, C) was never finished.
PAIRED = {(A, B): {1: (0.50, 0.40), 2: (0.54, 0.40)}, (B, C): {1: (0.30, 0.80), 2: (0.30, 0.70)}}
ALONE = {A: {1: 0.40, 2: 0.40}, B: {1: 0.40, 2: 0.36}, C: {1: 0.50, 2: 0.50}}


@cache
def composed(tasks: tuple[str, ...]) -> RunConfig:
    return compose(task=list(tasks), strategy="s2_shared" if len(tasks) > 1 else "s1_single")


def finished(folder: Path, page: str, tasks, seed: int, scores, tokens, twin=None, **more) -> RunFolder:
    config = replace(composed(tuple(tasks)), seed=seed, experiment=_experiment(twin))
    target = twin["target_tokens"] if twin else None
    config = replace(config, training=replace(config.training, target_tokens=target))
    run = start_run(config, page=page, runs_dir=folder)
    run.write_metrics(
        Metric(PRIMARY[task], score, "fraction", "dev", 50, task, task)
        for task, score in zip(tasks, scores, strict=True)
    )
    facts = {"selection": LAST, "tuning": UNTUNED, "active_parameters": dict.fromkeys(tasks, 1000)}
    facts |= {"optimiser_steps": 10, "token_parity_error": 0, "device": "cpu"}
    facts |= {"data_hashes": {task: task * 2 for task in tasks}} | ({"twin": twin} if twin else {}) | more
    run.finish(totals=Totals(tokens, 1000), **facts)
    return run


def _experiment(twin: dict | None) -> dict:
    return {"twin": twin["of"], "twin_config": twin["of_config"]} if twin else {}


def pair(folder: Path, tasks, seed: int, **more) -> RunFolder:
    tokens = dict(zip(tasks, (600, 400), strict=True))
    return finished(folder, "s2_shared", tasks, seed, PAIRED[tasks][seed], tokens, **more)


def twin(folder: Path, of: RunFolder, task: str, seed: int, tokens: int = 1000, **more) -> RunFolder:
    config = of.facts["config_hash"]
    told = {"of": of.run_id, "of_config": config, "control": "total", "target_tokens": 1000}
    told |= more.pop("twin", {})
    return finished(
        folder, "token_controlled", [task], seed, [ALONE[task][seed]], {task: tokens}, told, **more
    )


def matrix(folder: Path, **options):
    return transfer_matrix(find_runs(folder), TASKS, model="tiny", profile="smoke", **options)


def by_seed(found, task, partner) -> dict[int, float]:
    cell = found.scores[(found.scores["task"] == task) & (found.scores["trained with"] == partner)]
    return dict(zip(cell["seed"], cell["difference"], strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for tasks, seeds in PAIRED.items():
        for seed in seeds:
            run = pair(folder, tasks, seed)
            for task in tasks:
                twin(folder, run, task, seed)
    return folder


def test_a_cell_is_the_mean_over_the_seeds_of_pair_minus_twin_with_its_spread(study):
    found = matrix(study)
    nan = math.nan
    expected = [[nan, 0.12, nan], [0.02, nan, -0.08], [nan, 0.25, nan]]
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert by_seed(found, A, B) == pytest.approx({1: 0.10, 2: 0.14})
    assert found.spreads[0, 1] == pytest.approx(0.02 * math.sqrt(2))
    assert found.spreads[2, 1] == pytest.approx(0.05 * math.sqrt(2))


def test_the_table_has_a_row_for_every_known_cell(study):
    table = matrix(study).table().set_index(["task", "trained with"])
    assert len(table) == 4 and tuple(table.loc[(A, B), ["seeds", "difference"]]) == pytest.approx((2, 0.12))
    assert table.loc[(A, B), "alone"] == pytest.approx(0.40)


def test_tasks_with_other_metrics_are_compared_relative_to_their_score_alone(study):
    relative = matrix(study).relative
    assert relative[0, 1] == pytest.approx(0.12 / 0.40)
    assert relative[1, 2] == pytest.approx(-0.08 / 0.38)


def test_a_missing_cell_is_missing_and_never_zero(study):
    found = matrix(study, seeds=[1, 2])
    assert found.missing == [(A, C), (C, A)]
    assert math.isnan(found.values[0, 2]) and math.isnan(found.spreads[0, 2])
    record = found.record()
    assert record["missing"] == [(A, C), (C, A)] and len(record["scores"]) == 4 * 2
    assert [words[:4] for words in found.needed] == [("run", "s2_shared", "--task", f"{A},{C}")] * 2


def test_a_pair_without_its_twin_asks_for_that_twin_by_its_run_id(tmp_path):
    run = pair(tmp_path, (A, B), 1)
    twin(tmp_path, run, A, 1)
    found = matrix(tmp_path, seeds=[1])
    assert list(found.table()[["task", "trained with"]].itertuples(index=False, name=None)) == [(A, B)]
    (words,) = [words for words in found.needed if words[1] == "token_controlled"]
    assert words[3] == B and f"experiment.twin={run.run_id}" in words and "experiment.control=total" in words


def test_a_twin_that_was_trained_to_its_own_share_is_no_control_of_a_cell(tmp_path):
    run = pair(tmp_path, (A, B), 1)
    twin(tmp_path, run, A, 1, twin={"control": "share"})
    assert matrix(tmp_path).table().empty and np.isnan(matrix(tmp_path).relative).all()


def test_runs_of_another_model_or_strategy_or_unscored_ones_are_left_alone(study):
    assert transfer_matrix(find_runs(study), TASKS, model="bert", profile="smoke").table().empty
    assert matrix(study, strategy="s3a_flat").table().empty


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tokens": 999}, "totals.tokens: 1000 in .* but 999 in"),
        ({"twin": {"target_tokens": 900}}, "twin.target_tokens: 900 in .* but 1000 by"),
        ({"optimiser_steps": 11}, "optimiser_steps: 10 in .* but 11 in"),
        ({"device": "cuda"}, "device: 'cpu' in .* but 'cuda' in"),
        ({"data_hashes": {A: "other"}}, f"data_hashes.{A}: "),
        ({"left_out": {A: ["note"]}}, f"left_out.{A}: 'no document' in .* but '1 documents"),
        ({"active_parameters": {A: 1100}}, f"active_parameters.{A}: 1000 in .* but 1100"),
        ({"selection": LAST | {"rule": "best"}}, "selection.rule: "),
        ({"tuning": UNTUNED | {"trials": 20}}, "tuning.trials: "),
    ],
)
def test_a_twin_that_differs_in_what_is_held_fixed_is_refused_by_name(tmp_path, changed, field):
    run = pair(tmp_path, (A, B), 1)
    twin(tmp_path, run, A, 1, **changed)
    with pytest.raises(IncomparableRuns, match=field):
        matrix(tmp_path)


def test_the_configuration_says_what_the_matrix_is_of(study):
    more = ["experiment=transfer_matrix", "experiment.split=test", "experiment.seeds=[1,2]"]
    asked = transfer_settings(compose(model="tiny", task=TASKS, overrides=more))
    named = transfer_settings(compose(model="tiny", task=TASKS, strategy="s3a_flat", overrides=more))
    assert named == asked | {"strategy": "s3a_flat"}  # what is named wins over the experiment's own
    assert asked["split"] == "test" and asked["seeds"] == [1, 2] and asked["tasks"] == list(TASKS)
    assert (asked["strategy"], asked["model"], asked["profile"]) == ("s2_shared", "tiny", "smoke")
    with pytest.raises(IncomparableRuns, match="on .test. 0 times"):
        transfer_matrix(find_runs(study), **asked)
    with pytest.raises(ConfigError, match="add experiment=transfer_matrix"):
        transfer_settings(composed((A, B)))


def test_a_twin_without_the_metric_of_the_split_is_refused(study):
    with pytest.raises(IncomparableRuns, match="on .test. 0 times"):
        matrix(study, split="test")


def test_two_corpora_in_one_matrix_are_refused(tmp_path):
    for tasks, digest in (((A, B), "one"), ((B, C), "other")):
        pair(tmp_path, tasks, 1, data_hashes=dict.fromkeys(tasks, digest))
    with pytest.raises(IncomparableRuns, match=f"data_hashes.{B}: one in .* and other in"):
        matrix(tmp_path)
    assert matrix(tmp_path, data={A: "third"}).table().empty  # a page takes the runs on its own corpora alone


def test_a_run_that_was_repeated_counts_once_and_another_configuration_of_it_is_refused(tmp_path):
    for _ in range(2):
        run = pair(tmp_path, (A, B), 1)
    twin(tmp_path, run, A, 1)
    assert by_seed(matrix(tmp_path), A, B) == pytest.approx({1: 0.10})
    path = next(path for path in tmp_path.iterdir() if path.name != run.run_id and "s2_shared" in path.name)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace(run.facts["config_hash"], "0" * 16))
    sign(RunFolder(path))
    with pytest.raises(IncomparableRuns, match="config_hash: "):
        matrix(tmp_path)


def test_the_heatmap_writes_every_known_cell_and_says_what_is_missing(study):
    axes = transfer_heatmap(matrix(study)).axes[0]
    words = sorted(text.get_text() for text in axes.texts)
    assert words == sorted(["missing"] * 2 + ["+12.0\n± 2.8", "+2.0\n± 2.8", "-8.0\n± 2.8", "+25.0\n± 7.1"])
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert np.isnan(values[0, 2]) and values[2, 1] == pytest.approx(25)


# --- predictors ------------------------------------------------------------------------------------


def measured(tmp_path: Path) -> RunFolder:
    run = start_run(compose(task=[A, B], strategy="s2_shared"), page="03_transfer_heatmap", runs_dir=tmp_path)
    pairs = {"log_size_ratio": {A: {B: 0.7}, B: {A: -0.7}}}
    (run.path / "similarity.json").write_text(json.dumps({"words": {}, "pairs": pairs}))
    affinity = {A: {A: 0.9, B: 0.1}, B: {A: None, B: 0.8}}
    (run.path / "affinity.json").write_text(json.dumps({"points": 1, "affinity": affinity}))
    return run


def test_a_predictors_entry_is_about_what_the_column_does_to_the_row(tmp_path):
    found = predictors(measured(tmp_path), [A, B], ["affinity", "log_size_ratio"])
    np.testing.assert_equal(found["affinity"], [[np.nan, np.nan], [0.1, np.nan]])  # a step on A moves B
    np.testing.assert_equal(found["log_size_ratio"], [[np.nan, 0.7], [-0.7, np.nan]])
    assert len(predictor_heatmaps(found, [A, B]).axes) == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [(["log_size_ratio", "size"], "names size; allowed"), (["affinity"], "lacks log_size_ratio")],
)
def test_an_unknown_predictor_and_a_family_without_the_confounder_are_refused(tmp_path, names, words):
    with pytest.raises(ConfigError, match=words):
        predictors(measured(tmp_path), [A, B], names)


def test_a_run_that_measured_nothing_says_which_page_does(tmp_path):
    run = start_run(compose(), page="s1_single_task", runs_dir=tmp_path)
    with pytest.raises(RunFolderError, match="only a run of the page 03_transfer_heatmap"):
        predictors(run, [A, B], ["log_size_ratio"])


def test_conflicts_between_halves_of_two_tasks_count_beyond_those_within_either():
    both, within_a, within_b = (f"{A} × {B}", f"{A} × {A}", f"{B} × {B}")
    steps = [
        {both: [-0.1, -0.2, 0.3, -0.4], within_a: [0.2], within_b: [-0.1]},
        {within_a: [-0.2]},
        {both: [-0.3], within_a: [0.5], within_b: [0.1]},
    ]
    events = [{"conflicts": {"shared": {"cosines": {both: 0.5}, "halves": halves}}} for halves in steps]
    found = conflict_excess([*events, {"step": 4}], TASKS)
    # 4 of 5 conflict; halves of A in 1 of 3, halves of B in 1 of 2; whole batches do not enter
    assert found[0, 1] == found[1, 0] == pytest.approx(4 / 5 - (1 / 3 + 1 / 2) / 2)
    assert np.isnan(found[0, 2])
