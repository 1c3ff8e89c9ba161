"""The judge on run folders: right words for planted differences, a document that can be checked."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from typer.testing import CliRunner

from kaggle_kit.analysis.verdict import verdict, write_verdict
from kaggle_kit.analysis.verdict_words import gains_in_words, in_words
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.folders import find_runs
from kaggle_kit.ops.cli import app
from tests.analysis.judged_runs import TASKS, Factory, altered

NOTES, RANKING = TASKS


def run_of(folder, *, page, seed=1, task=NOTES, control="total"):
    """The one run of a page, or the one control, of a seed."""
    for run in find_runs(folder):
        facts, twin = run.facts, run.manifest().get("twin", {"control": control})
        if (facts["page"], facts["seed"], twin["control"]) == (page, seed, control) and task in facts[
            "tasks"
        ]:
            return run
    raise AssertionError(page)


def test_a_planted_gain_is_genuine_transfer_and_no_difference_is_not(study):
    found = verdict(find_runs(study))["controls"]["total"]["tasks"]
    assert found[NOTES]["verdict"] == "genuine transfer"
    assert found[RANKING]["verdict"] in ("data exposure only", "undecided")
    low, high = found[NOTES]["interval"]
    assert low < 0.08 < high


def test_a_planted_loss_is_negative_transfer(tmp_path):
    folder = Factory(tmp_path).study(seeds=(1, 2, 3), effect={NOTES: -0.08})
    document = verdict(find_runs(folder))
    assert document["controls"]["total"]["tasks"][NOTES]["verdict"] == "negative transfer"
    assert "share" not in document["controls"]


def test_equal_arms_with_many_documents_are_data_exposure_only(tmp_path):
    folder = Factory(tmp_path, documents=600, seed_sd=0.001).study(seeds=(1, 2, 3, 4))
    document = verdict(find_runs(folder))
    assert document["verdict"] == "data exposure only"
    assert {found["verdict"] for found in document["controls"]["total"]["tasks"].values()} == {
        "data exposure only"
    }


def test_noisy_arms_are_undecided_and_told_how_many_seeds_more(tmp_path):
    folder = Factory(tmp_path, documents=20, seed_sd=0.03).study(seeds=(1, 2))
    document = verdict(find_runs(folder))
    found = document["controls"]["total"]["tasks"][NOTES]
    assert found["verdict"] == "undecided" and found["more_seeds"] >= 1
    (sentence,) = [words for words in in_words(document) if words.startswith(f"{NOTES}: undecided")]
    assert f"{found['more_seeds']} more seed(s)" in sentence


def test_the_share_control_splits_a_gain_into_tokens_and_transfer(study):
    controls = verdict(find_runs(study))["controls"]
    total, share = (controls[name]["tasks"][NOTES]["difference"] for name in ("total", "share"))
    assert share - total == pytest.approx(0.04, abs=0.03)  # 0.70 with all tokens, 0.66 with the task's share
    words = list(gains_in_words(verdict(find_runs(study))))
    assert len(words) == len(TASKS) and all("of which" in sentence for sentence in words)


def test_the_same_runs_give_the_same_bytes(study, tmp_path):
    one, other = (write_verdict(verdict(find_runs(study)), tmp_path / name) for name in ("a.json", "b.json"))
    assert one.read_bytes() == other.read_bytes()


def test_a_verdict_names_all_that_it_read_by_hash(study):
    document = verdict(find_runs(study))
    runs = {run.run_id: run for run in find_runs(study)}
    assert {item["run_id"] for item in document["inputs"]} == set(runs)
    for item in document["inputs"]:
        run = runs[item["run_id"]]
        assert item["config_hash"] == run.facts["config_hash"]
        assert item["data_hashes"] == run.manifest()["data_hashes"]
        for name, digest in item["sha256"].items():
            assert digest == hashlib.sha256((run.path / name).read_bytes()).hexdigest()
        assert {name.partition("/")[0] for name in item["sha256"]} == {
            "manifest.json",
            "metrics.json",
            "documents",
        }


def test_the_rule_in_the_document_is_what_the_runs_declared(study):
    rule = verdict(find_runs(study))["rule"]
    assert rule["margins"] == {NOTES: 0.02, RANKING: 0.02}
    assert (rule["alpha"], rule["resamples"], rule["family"]) == (0.05, 400, list(TASKS))


def test_without_twins_the_verdict_is_undecided_and_says_why(tmp_path):
    assert "no finished multi-task run" in verdict(find_runs(tmp_path))["reason"]
    Factory(tmp_path).multi_task(1)
    document = verdict(find_runs(tmp_path))
    assert document["verdict"] == "undecided"
    (sentence,) = in_words(document)
    assert sentence.startswith("undecided: no token-controlled twin of s2_shared-")
    assert (
        "`run token_controlled --task TASK experiment=token_controlled experiment.twin=s2_shared-" in sentence
    )


def test_toy_runs_are_marked_and_the_words_say_it_first(tmp_path):
    folder = Factory(tmp_path, profile="smoke").study(seeds=(1, 2))
    document = verdict(find_runs(folder))
    assert document["marks"] == ["smoke", "practice"]
    assert next(iter(in_words(document))) == "NOT A RESULT: these are smoke and practice runs."


def test_practice_corpora_that_lay_where_real_ones_would_are_judged_and_marked(tmp_path):
    folder = Factory(tmp_path).study(seeds=(1, 2))
    for run in find_runs(folder):
        altered(run, "flags.practice", True)  # what `record` adds where the corpus turned out to be synthetic
    assert verdict(find_runs(folder))["marks"] == ["practice", "restricted"]


def test_several_strategies_are_not_thrown_together(tmp_path):
    folder = Factory(tmp_path).study(seeds=(1, 2))
    Factory(tmp_path, strategy="s3a_flat").study(seeds=(1, 2))
    with pytest.raises(ConfigError, match="s2_shared, s3a_flat; choose one by --multi-task"):
        verdict(find_runs(folder))
    assert verdict(find_runs(folder), strategy="s3a_flat")["comparison"]["strategy"] == "s3a_flat"
    with pytest.raises(ConfigError, match="did you mean 's3a_flat'"):
        verdict(find_runs(folder), strategy="s3a_flatt")


def test_the_command_prints_the_words_and_writes_the_document(study, tmp_path):
    out = tmp_path / "verdict.json"
    done = CliRunner().invoke(app, ["verdict", "--runs", str(study), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{NOTES}: genuine transfer" in done.stdout
    assert json.loads(out.read_text()) == json.loads(json.dumps(verdict(find_runs(study))))


def test_a_copied_run_folder_keeps_its_identity(study, tmp_path):
    moved = shutil.copytree(study, tmp_path / "elsewhere")
    assert verdict(find_runs(moved)) == verdict(find_runs(study))
