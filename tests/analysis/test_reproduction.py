"""The table of encoder baselines: within two points of the published best, below it, or not judged."""

from __future__ import annotations

import math

import pytest

from kaggle_kit.analysis.reproduction import interval, reproduction_in_words, reproduction_table
from kaggle_kit.core.artifacts import Metric, RunFolder, Totals, find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run

CQA, BEST = "semeval2017t3", 0.8843  # MAP of KeLP on subtask A
WHOLE, LORA = "experiment=encoder_baselines", "experiment=encoder_baselines_lora"


def add_run(
    folder, value, *, way=WHOLE, model="bert", profile="open", split="test", seed=42, tasks=(CQA,), **more
) -> RunFolder:
    """A finished run whose four documents score the value in the mean: half of them less, half more."""
    strategy = "s1_single" if len(tasks) == 1 else "s2_shared"
    page = "encoder_baselines" if len(tasks) == 1 else "toy"
    named = {"model": model, "task": list(tasks), "profile": profile, "strategy": strategy, "seed": seed}
    overrides = [way, f"experiment.page={page}"] if page == "toy" else [way]
    run = start_run(compose(**named, overrides=overrides), page=page, runs_dir=folder)
    metrics = [Metric("map", value, "share", split, 4, task, task) for task in tasks if task == CQA]
    run.write_metrics(metrics)
    halves = [value - 0.05, value + 0.05] * 2
    records = ({"document": f"q{n}", "value": one} for n, one in enumerate(halves))
    run.write_documents(CQA, split, records)
    totals = Totals(dict.fromkeys(tasks, 1200), 64, 3.5)
    run.finish(totals=totals, device="cpu", data_hashes=dict.fromkeys(tasks, "ab" * 32), **more)
    return run


@pytest.mark.parametrize(
    ("points", "verdict"), [(-1.9, "yes"), (-2.1, "no"), (0.0, "yes"), (3.0, "yes"), (-30.0, "no")]
)
def test_a_baseline_reproduces_a_score_where_it_lies_at_most_two_points_below(tmp_path, points, verdict):
    add_run(tmp_path, BEST + points / 100)
    (row,) = reproduction_table(find_runs(tmp_path)).to_dict("records")
    assert (row["task"], row["model"], row["trained"]) == (CQA, "bert", "the whole model")
    assert row["difference"] == pytest.approx(points / 100) and row["reproduced"] == verdict
    (told,) = reproduction_in_words(reproduction_table(find_runs(tmp_path)))
    assert f"{abs(points):.1f} points {'below' if points < 0 else 'above'} the best published 0.8843" in told
    assert ("not within two points" in told) == (verdict == "no")


@pytest.mark.parametrize(
    ("where", "told"),
    [({"split": "dev"}, "was scored on test, so nothing is judged"), ({"profile": "smoke"}, "no published")],
)
def test_dev_and_practice_scores_are_shown_and_not_judged(tmp_path, where, told):
    add_run(tmp_path, BEST, **where)
    table = reproduction_table(find_runs(tmp_path))
    assert list(table["reproduced"]) == [""] and told in next(reproduction_in_words(table))


def test_seeds_are_averaged_and_the_two_ways_and_other_settings_stay_apart(tmp_path):
    for seed, value in ((1, BEST - 0.05), (2, BEST + 0.03)):
        add_run(tmp_path, value, seed=seed)
    add_run(tmp_path, 0.5, way=LORA)
    add_run(tmp_path, 0.6, model="minilm")
    rows = reproduction_table(find_runs(tmp_path)).set_index(["model", "trained"]).to_dict("index")
    whole, lora = rows["bert", "the whole model"], rows["bert", "LoRA"]
    assert (
        whole["runs"] == 2 and whole["score"] == pytest.approx(BEST - 0.01) and whole["reproduced"] == "yes"
    )
    assert (lora["runs"], lora["score"], lora["reproduced"]) == (1, 0.5, "no")
    assert rows["minilm", "the whole model"]["score"] == 0.6


def test_decoders_controls_and_multi_task_runs_are_no_baselines(tmp_path):
    add_run(tmp_path, BEST, tasks=(CQA, "semeval2021t6"))
    add_run(tmp_path, BEST, twin={"of": "another", "control": "total"})
    config = compose("llama3b", CQA, profile="open")
    run = start_run(config, page="s1_single_task", runs_dir=tmp_path)
    run.write_metrics([Metric("map", BEST, "share", "test", 4, CQA, CQA)])
    run.finish(totals=Totals({CQA: 1}, 64, 3.5), device="cpu", data_hashes={CQA: "ab" * 32})
    table = reproduction_table(find_runs(tmp_path))
    assert table.empty
    assert list(reproduction_in_words(table)) == ["No finished single-task run of an encoder lies here."]


def test_the_interval_of_a_mean_over_seeds_is_that_of_documents_drawn_for_all_seeds_at_once(tmp_path):
    runs = [add_run(tmp_path, value, seed=seed) for seed, value in ((1, 0.5), (2, 0.7))]
    low, high, documents = interval(runs, CQA, "test")
    # of four questions .05 below or above the mean, drawn four times: all of one kind in 1 of 16 draws
    assert (documents, low, high) == (4, pytest.approx(0.55), pytest.approx(0.65))
    runs[1].write_documents(CQA, "test", [{"document": "another", "value": 0.5}])
    assert interval(runs, CQA, "test") is None
    row = reproduction_table(runs).iloc[0]
    assert math.isnan(row["low"]) and row["score"] == pytest.approx(0.6)
