"""Results stay as their run left them: whatever was edited since is refused, by its name."""

from __future__ import annotations

import json
import math

import pytest

from kaggle_kit.analysis.contrasts import contrasts, contrasts_or_refusals
from kaggle_kit.analysis.transfer import transfer_matrix
from kaggle_kit.analysis.verdict import verdict
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.errors import IncomparableRuns, RunFolderError
from tests.analysis.judged_runs import TASKS, Factory
from tests.analysis.test_verdict import run_of
from tests.signing import sign

NOTES, RANKING = TASKS
TABLE = f"documents/{NOTES}.test.jsonl"


def changed(path, change):
    """Pass every record of a file through `change`."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(record)) + "\n" for record in lines))


def refused(folder, *words):
    with pytest.raises((RunFolderError, IncomparableRuns)) as caught:
        verdict(find_runs(folder))
    assert all(word in str(caught.value) for word in words), caught.value


def inflated(record):
    return record | {"tp": record["tp"] + 2}


@pytest.mark.parametrize("name", [TABLE, "metrics.json", "config.yaml", f"best_development/{TABLE}"])
def test_an_edited_file_is_refused_and_named(altered_study, name):
    run = run_of(altered_study, page="token_controlled")
    with (run.path / name).open("a") as file:
        file.write("\n")
    refused(altered_study, run.run_id, f"{name} edited")


@pytest.mark.parametrize("name", ["predictions/a.dev.jsonl", "adapters/a/adapter_model.safetensors"])
def test_weights_and_predictions_are_signed_too(tmp_path, name):
    run = RunFolder.create(tmp_path / "a", "seed: 3\n", "00", {})
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_bytes(b"1")
    run.finish(totals=totals(), device="cpu", data_hashes={})
    run.verify()
    (run.path / name).write_bytes(b"2")
    with pytest.raises(RunFolderError, match=f"{name} edited"):
        RunFolder.open(run.path).verify()
    (run.path / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name} missing"):
        run.verify()


def totals():
    from kaggle_kit.core.artifacts import Totals

    return Totals()


def test_an_added_table_and_an_edited_manifest_are_refused(altered_study):
    run = run_of(altered_study, page="token_controlled")
    added = run.path / "documents" / "other.test.jsonl"
    added.write_text("")
    refused(altered_study, run.run_id, "documents/other.test.jsonl added")
    added.unlink()
    manifest = json.loads(run.manifest_json.read_text())
    run.manifest_json.write_text(json.dumps(manifest | {"device": "cuda"}))
    refused(altered_study, run.run_id, "manifest.json was edited")


def test_a_run_that_finished_before_results_were_signed_says_to_run_it_again(altered_study):
    run = run_of(altered_study, page="token_controlled")
    manifest = json.loads(run.manifest_json.read_text())
    for name in ("files", "sha256"):
        del manifest[name]
    run.manifest_json.write_text(json.dumps(manifest))
    refused(altered_study, str(run.manifest_json), "unsigned", "run its page again")


@pytest.mark.parametrize("manifest", [{"complete": True}, {"complete": True, "files": {}, "sha256": "0"}])
def test_the_word_complete_alone_makes_no_run(altered_study, manifest):
    run = run_of(altered_study, page="token_controlled")
    run.manifest_json.write_text(json.dumps(manifest))
    refused(altered_study, str(run.manifest_json), "run_id")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.7", True])
def test_a_figure_that_is_no_number_is_refused_though_it_is_signed(altered_study, value):
    run = run_of(altered_study, page="token_controlled")
    (record,) = json.loads(run.metrics_json.read_text())
    run.metrics_json.write_text(json.dumps([record | {"value": value}]))
    sign(run)
    refused(altered_study, run.run_id, "metrics.json: value of task_a_strict_f1 on test")


@pytest.mark.parametrize("key", ["tp", "fp", "fn"])
@pytest.mark.parametrize("value", [-1, None, math.nan, math.inf, "3", 10**400])
def test_a_count_that_is_none_is_refused_though_it_is_signed(altered_study, key, value):
    run = run_of(altered_study, page="token_controlled")
    changed(run.path / TABLE, lambda record: record | {key: value})
    sign(run)
    refused(altered_study, run.run_id, f"{TABLE}: {key} of note0")


def rescored(run: RunFolder, task: str = NOTES) -> None:
    """Make metrics.json say what the documents say, as a careful editor would."""
    from kaggle_kit.evaluation.documents import document_table, figure

    _, sums = document_table(run.read_documents(task, "test"))
    records = json.loads(run.metrics_json.read_text())
    for record in records:
        if record["task"] == task:
            record["value"] = float(figure(sums.sum(axis=0)))
    run.metrics_json.write_text(json.dumps(records))
    sign(run)


@pytest.mark.parametrize("page", ["s2_shared", "token_controlled"])
def test_hits_and_misses_are_the_corpus_s_gold_in_every_run(altered_study, page):
    run = run_of(altered_study, page=page)
    changed(run.path / TABLE, inflated)
    rescored(run)
    refused(altered_study, TABLE, "tp + fn of note0", run.run_id)


def test_a_question_weighs_the_same_in_every_run(altered_study):
    """A mean has no counts of gold: one that counts its best question twice was believed."""
    run = run_of(altered_study, page="s2_shared")
    table = f"documents/{RANKING}.test.jsonl"
    changed(run.path / table, lambda record: record | {"weight": 1 + (record["document"] == "Q1")})
    rescored(run, RANKING)
    refused(altered_study, table, "weight of Q1")


def test_a_question_s_mean_of_more_than_all_is_refused(altered_study):
    run = run_of(altered_study, page="s2_shared")
    table = f"documents/{RANKING}.test.jsonl"
    changed(run.path / table, lambda record: record | {"value": record["value"] + 1.5})
    sign(run)
    refused(altered_study, table, "value of Q0", "at most 1")


def test_the_gold_of_all_runs_of_an_ablation_is_one(tmp_path):
    factory = Factory(tmp_path)
    for seed in (1, 2):
        factory.level("on", seed)
        run = factory.level("off", seed)
    changed(run.path / TABLE, inflated)
    rescored(run)
    with pytest.raises(IncomparableRuns, match=r"tp \+ fn of note0"):
        contrasts("ablation", find_runs(tmp_path))


def test_one_document_twice_is_refused(altered_study):
    run = run_of(altered_study, page="token_controlled")
    changed(run.path / TABLE, lambda record: record | {"document": "note0"})
    sign(run)
    refused(altered_study, TABLE, "note0", "a second time")


def test_every_question_and_the_matrix_refuse_an_edited_run(tmp_path):
    factory = Factory(tmp_path)
    runs = [factory.level(level, seed) for seed in (1, 2) for level in ("on", "off")]
    changed(runs[0].path / TABLE, inflated)
    for ask in (
        lambda: contrasts("ablation", find_runs(tmp_path)),
        lambda: transfer_matrix(find_runs(tmp_path), TASKS, model="tiny", profile="t4"),
    ):
        with pytest.raises(RunFolderError, match=TABLE):
            ask()
    (document,) = contrasts_or_refusals("ablation", runs)  # opened before the edit
    assert TABLE in document["reason"]
