"""The judge on run folders: right words for planted differences, a document that can be checked."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from typer.testing import CliRunner

from kaggle_kit.analysis.verdict import read_verdict, verdict, write_verdict
from kaggle_kit.analysis.verdict_words import gains_in_words, in_words, training_in_words
from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, RunFolderError
from kaggle_kit.core.records import to_json
from tests.analysis import judged_runs
from tests.analysis.judged_runs import TASKS, Factory, altered
from tests.signing import sign

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
    found = verdict(find_runs(study))["tasks"]
    assert found[NOTES]["verdict"] == "genuine transfer"
    assert found[RANKING]["verdict"] in ("data exposure only", "undecided")
    low, high = found[NOTES]["interval"]
    assert low < 0.08 < high


def test_a_planted_loss_is_negative_transfer(tmp_path):
    folder = Factory(tmp_path).study(seeds=(1, 2, 3), effect={NOTES: -0.08})
    document = verdict(find_runs(folder))
    assert document["tasks"][NOTES]["verdict"] == "negative transfer"


def test_equal_arms_with_many_documents_are_data_exposure_only(tmp_path):
    folder = Factory(tmp_path, documents=600, seed_sd=0.001).study(seeds=(1, 2, 3, 4))
    document = verdict(find_runs(folder))
    assert document["verdict"] == "data exposure only"
    assert {found["verdict"] for found in document["tasks"].values()} == {"data exposure only"}


def test_noisy_arms_are_undecided_and_told_how_many_seeds_more(tmp_path):
    folder = Factory(tmp_path, documents=20, seed_sd=0.03).study(seeds=(1, 2))
    document = verdict(find_runs(folder))
    found = document["tasks"][NOTES]
    assert found["verdict"] == "undecided" and found["more_seeds"] >= 1
    (sentence,) = [words for words in in_words(document) if words.startswith(f"{NOTES}: undecided")]
    assert f"{found['more_seeds']} more seed(s)" in sentence


def test_the_share_control_splits_a_gain_into_tokens_and_transfer(study):
    contrasts = verdict(find_runs(study))["tasks"][NOTES]["contrasts"]
    total, share = (contrasts[name]["difference"] for name in ("total", "share"))
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
        own = {"manifest.json", "metrics.json", "documents"}
        total = (item["twin"] or {}).get("control") == "total"
        at_best = {"best_development"} if total else set()
        assert {name.partition("/")[0] for name in item["sha256"]} == own | at_best


def test_the_rule_in_the_document_is_what_the_runs_declared(study):
    rule = verdict(find_runs(study))["rule"]
    assert rule["margins"] == {NOTES: 0.02, RANKING: 0.02}
    assert (rule["alpha"], rule["resamples"], rule["family"]) == (0.05, 400, list(TASKS))
    assert (list(rule["seeds"]), rule["level"], rule["estimand"]) == ([1, 2, 3], 0.05, "mean")


def test_without_twins_the_verdict_is_undecided_and_says_why(tmp_path):
    Factory(tmp_path).multi_task(1)
    document = verdict(find_runs(tmp_path))
    assert document["verdict"] == "undecided"
    (sentence,) = in_words(document)
    assert sentence.startswith("undecided: no token-controlled baseline of s2_shared-")
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


def test_comparisons_of_other_tasks_in_the_same_folder_are_chosen_by_their_tasks(tmp_path, monkeypatch):
    folder, other = Factory(tmp_path).study(seeds=(1, 2)), (TASKS[0], "semeval2021t6")
    monkeypatch.setattr(judged_runs, "TASKS", other)
    monkeypatch.setattr(judged_runs, "TOKENS", dict.fromkeys(other, 5_000))
    Factory(tmp_path, rng=1).study(seeds=(1, 2))
    with pytest.raises(ConfigError, match=f"{','.join(TASKS)} and {','.join(other)}; choose one by --task"):
        verdict(find_runs(folder))
    for tasks in (TASKS, other):
        assert verdict(find_runs(folder), tasks=",".join(reversed(tasks)))["tasks"].keys() == set(tasks)
    out = tmp_path / "verdict.json"
    words = ["verdict", "--runs", str(folder), "--task", ",".join(other), "--out", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert json.loads(out.read_text())["tasks"].keys() == set(other)


def test_the_command_prints_the_words_and_writes_the_document(study, tmp_path):
    out = tmp_path / "verdict.json"
    done = CliRunner().invoke(app, ["verdict", "--runs", str(study), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{NOTES}: genuine transfer" in done.stdout
    assert read_verdict(out) == json.loads(to_json(verdict(find_runs(study))))


def test_a_copied_run_folder_keeps_its_identity(study, tmp_path):
    moved = shutil.copytree(study, tmp_path / "elsewhere")
    assert verdict(find_runs(moved)) == verdict(find_runs(study))


def planted(folder, *, seeds=(1, 2, 3), controls=("total", "share"), **settings):
    """The verdict on a study with eight points of gain on the notes, and its words."""
    Factory(folder, **settings).study(seeds=seeds, effect={NOTES: 0.08}, controls=controls)
    document = verdict(find_runs(folder))
    return document["tasks"][NOTES], " ".join([*in_words(document), *training_in_words(document)])


def test_an_overtrained_control_gives_no_genuine_transfer(tmp_path):
    found, words = planted(tmp_path, levels={"best": 0.78})  # at its best point it is as good as the runs
    assert (found["specification"], found["verdict"]) == ("genuine transfer", "undecided")
    assert found["failed"] == ["best_development"]
    assert "Not shown to beat the control with as many tokens, at its best development point" in words


def test_a_share_control_that_is_as_good_gives_no_genuine_transfer(tmp_path):
    found, _ = planted(tmp_path, levels={"share": 0.78})
    assert (found["specification"], found["verdict"]) == ("genuine transfer", "undecided")
    assert found["failed"] == ["share"]


def test_a_gain_that_the_placebo_also_gives_is_regularisation(tmp_path):
    found, words = planted(tmp_path, controls=("total", "share", "placebo"), levels={"placebo": 0.78})
    assert (found["verdict"], found["failed"]) == ("regularisation", ["placebo"])
    assert "but so are partners with permuted labels" in words


def test_a_gain_over_the_placebo_too_is_genuine(tmp_path):
    found, _ = planted(tmp_path, controls=("total", "share", "placebo"), levels={"placebo": 0.70})
    assert found["verdict"] == "genuine transfer" and "placebo" in found["contrasts"]


def test_without_the_share_control_the_words_say_what_to_run(tmp_path):
    found, words = planted(tmp_path, controls=("total",))
    assert (found["verdict"], found["missing"]) == ("undecided", ["share"])
    assert (
        f"run token_controlled --task {NOTES} experiment=token_controlled experiment.control=share" in words
    )


def test_without_a_best_development_point_the_words_say_what_to_run(tmp_path):
    found, words = planted(tmp_path, levels={"best": None})
    assert (found["verdict"], found["missing"]) == ("undecided", ["best_development"])
    assert "run the controls of experiment.control=total again" in words


def test_one_control_without_its_best_point_leaves_the_whole_arm_without(altered_study):
    run = run_of(altered_study, page="token_controlled")
    (run.path / "best_development").rename(altered_study / "moved")
    sign(run)
    try:
        assert verdict(find_runs(altered_study))["tasks"][NOTES]["missing"] == ["best_development"]
    finally:
        (altered_study / "moved").rename(run.path / "best_development")


def test_both_arms_training_stands_in_the_document_and_in_words(study):
    document = verdict(find_runs(study))
    arms = document["training"][NOTES]
    assert arms["multi_task"]["optimiser_steps"] == arms["total"]["optimiser_steps"] == [100, 100, 100]
    assert arms["share"]["optimiser_steps"] == [60, 60, 60]
    assert (arms["multi_task"]["epochs_over_own_data"], arms["total"]["epochs_over_own_data"]) == (
        [3.0] * 3,
        [6.0] * 3,
    )
    assert arms["total"]["development"][0] == [[0.5, 0.7], [1.0, 0.7]]
    assert arms["total"]["best_development"][0]["share"] == 0.5
    words = list(training_in_words(document))
    assert any(w.startswith(f"{NOTES}, total: 100 steps, 6 epochs over its own data") for w in words)
    assert not [w for w in words if w.startswith("WARNING")]


def test_different_steps_are_refused_and_a_document_that_has_them_warns(altered_study):
    document = verdict(find_runs(altered_study))
    document["training"][NOTES]["total"]["optimiser_steps"] = [172] * 3
    words = list(training_in_words(document))
    assert sum("100 steps and its total control 172; they should be equal" in w for w in words) == 1
    altered(run_of(altered_study, page="token_controlled"), "optimiser_steps", 172)
    with pytest.raises(IncomparableRuns, match="optimiser_steps"):
        verdict(find_runs(altered_study))


def test_a_control_whose_development_fell_is_warned_of(altered_study):
    curve = [{"share": s, "step": 1, "tokens": 1, "scores": {NOTES: y}} for s, y in ((0.5, 0.8), (1.0, 0.7))]
    for run in find_runs(altered_study):
        if run.manifest().get("twin", {}).get("control") == "total" and NOTES in run.facts["tasks"]:
            altered(run, "development", curve)
    words = list(training_in_words(verdict(find_runs(altered_study))))
    assert sum("fell from 0.8000 to 0.7000" in w for w in words) == 1


@pytest.mark.parametrize("field", ["optimiser_steps", "epochs_over_own_data", "final_training_loss"])
def test_a_run_that_does_not_record_its_training_is_refused(altered_study, field):
    run = run_of(altered_study, page="token_controlled")
    manifest = json.loads(run.manifest_json.read_text())
    del manifest[field]
    sign(run, manifest)
    with pytest.raises(IncomparableRuns, match="run its page again"):
        verdict(find_runs(altered_study))


def test_a_seed_that_did_not_learn_is_named(tmp_path):
    folder = Factory(tmp_path).study(seeds=(1, 2, 3, 4, 5, 6))
    collapsed = run_of(folder, page="s2_shared", seed=3)
    altered(collapsed, "final_training_loss", {NOTES: 2.0, RANKING: 0.1})
    document = verdict(find_runs(folder))
    found = [run for run in document["outliers"] if run["value"] == 2.0]
    assert [(run["run_id"], run["arm"], run["task"]) for run in found] == [
        (collapsed.run_id, "multi_task", NOTES)
    ]
    words = [w for w in training_in_words(document) if collapsed.run_id in w and "training loss 2" in w]
    assert len(words) == 1 and words[0].startswith("WARNING")


@pytest.mark.parametrize("declared", [[], [1, 2], [1, 2, 3, 4], [4, 5, 6]])
def test_other_seeds_than_declared_make_a_verdict_interim(tmp_path, declared):
    Factory(tmp_path, seeds=declared).study(seeds=(1, 2, 3), effect={NOTES: 0.08})
    document = verdict(find_runs(tmp_path))
    assert "interim" in document["marks"] and document["interim"]
    words = list(in_words(document))
    assert words[0].startswith("INTERIM: judged on seeds 1, 2, 3;") and "(interim)" in words[1]


def test_declared_seeds_and_looks_change_the_hash_of_the_rule(tmp_path):
    hashes, levels = [], []
    declared = ({"seeds": [1, 2, 3]}, {"seeds": [1, 2, 3, 4]}, {"seeds": [1, 2, 3, 4], "looks": [3, 4]})
    for n, settings in enumerate(declared):
        Factory(tmp_path / str(n), **settings).study(seeds=(1, 2, 3))
        document = verdict(find_runs(tmp_path / str(n)))
        hashes.append(document["rule"]["hash"])
        levels.append(document["rule"]["level"])
    assert len(set(hashes)) == 3
    assert levels[:2] == [0.05, 0.05] and levels[2] < 0.05
    assert document["interim"] == ""
    assert next(iter(in_words(document))).startswith("Look 1 of 2, at level 0.03")


def test_over_all_tasks_scores_count_from_trivial_to_published(study):
    document = verdict(find_runs(study))
    units = document["comparison"]["units"]
    assert units[NOTES]["unit"] == pytest.approx(0.813)
    assert units[RANKING]["unit"] == pytest.approx(0.8843 - 0.7261)  # chronological order is the trivial one
    notes, ranking = (document["tasks"][task]["difference"] for task in TASKS)
    expected = (notes / 0.813 + ranking / (0.8843 - 0.7261)) / 2
    assert document["overall"]["difference"] == pytest.approx(expected, rel=1e-9)


def test_practice_data_count_in_whole_scores(tmp_path):
    folder = Factory(tmp_path, profile="smoke").study(seeds=(1, 2))
    document = verdict(find_runs(folder))
    assert [unit["unit"] for unit in document["comparison"]["units"].values()] == [1.0, 1.0]
    assert "practice data" in document["comparison"]["units"][NOTES]["why"]


def test_clusters_of_documents_are_what_is_resampled(tmp_path):
    folder = Factory(tmp_path, clusters=16).study(seeds=(1, 2))
    tasks = verdict(find_runs(folder))["tasks"]
    assert (tasks[NOTES]["documents"], tasks[RANKING]["documents"]) == (16, 80)


def test_a_folder_without_runs_is_an_error_and_no_verdict(tmp_path):
    with pytest.raises(RunFolderError, match="no finished run"):
        verdict(find_runs(tmp_path))
    out = tmp_path / "verdict.json"
    done = CliRunner().invoke(app, ["verdict", "--runs", str(tmp_path / "none"), "--out", str(out)])
    assert done.exit_code == 2 and not out.exists()
