"""Two arms over seeds, for every question but the verdict's: planted differences are found, none are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as oracle
from typer.testing import CliRunner

from kaggle_kit.analysis.contrasts import contrast, contrast_table, contrasts, contrasts_or_refusals, in_words
from kaggle_kit.analysis.verdict import verdict
from kaggle_kit.analysis.verdict_rule import Rule
from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder, ending, find_runs, unfinished_beside
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from tests.analysis.judged_runs import TASKS, Factory, altered
from tests.analysis.test_verdict import run_of

NOTES, RANKING = TASKS
SEEDS = (1, 2, 3, 4)


def of(folder, question, **options):
    """Contrasts of the one comparison of a folder, by first arm and task."""
    (document,) = contrasts(question, find_runs(folder), **options)
    return document, {(each["first"], each["task"]): each for each in document["contrasts"]}


@pytest.fixture
def factory(tmp_path):
    return Factory(tmp_path)


def test_where_documents_do_not_matter_the_test_is_welchs():
    rng = np.random.default_rng(3)
    hits = rng.integers(60, 90, size=(2, 5))
    arms = [np.stack([np.tile([h, 100 - h, h, 100 - h], (40, 1)) for h in arm]).astype(float) for arm in hits]
    value, difference = contrast([(1, *arms)], Rule(resamples=200))
    expected = oracle.ttest_ind(hits[0] / 100, hits[1] / 100, equal_var=False)
    assert value == pytest.approx((hits[0].mean() - hits[1].mean()) / 100)
    assert difference.p_value == pytest.approx(expected.pvalue)
    assert difference.interval(0.05) == pytest.approx(expected.confidence_interval(0.95))


def test_a_planted_loss_of_one_level_is_found_and_an_equal_level_is_not(factory, tmp_path):
    for seed in SEEDS:
        for level, effect in {"a1": -0.1, "a2": 0.0, "a3": 0.0, "a4": 0.0}.items():
            factory.architecture(level, seed, effect)
    document, found = of(tmp_path, "ablation")
    assert {first for first, _ in found} == {"a1", "a2", "a3"}
    assert {each["second"] for each in found.values()} == {"a4"} and document["rule"]["family"] == 6
    for task in TASKS:
        assert found["a1", task]["verdict"] == "lower"
        assert found["a1", task]["low"] < -0.1 < found["a1", task]["high"]
        assert found["a2", task]["verdict"] == found["a3", task]["verdict"] == "no difference shown"
        assert 0 < found["a2", task]["detectable"] < 0.1


def test_levels_of_one_factor_are_held_against_the_first(factory, tmp_path):
    for seed in SEEDS:
        factory.level("on", seed)
        factory.level("off", seed, 0.08)
    _, found = of(tmp_path, "ablation")
    assert {key: each["verdict"] for key, each in found.items()} == {
        ("off", task): "higher" for task in TASKS
    }


def test_p_values_are_adjusted_over_the_declared_family_whether_its_runs_are_there_or_not(factory, tmp_path):
    for seed in SEEDS:
        factory.architecture("a3", seed, -0.012)
        factory.architecture("a4", seed)
    document, found = of(tmp_path, "ablation")
    assert document["missing"] == ["a1 − a4", "a2 − a4"]
    smaller, larger = sorted(found.values(), key=lambda each: each["p_value"])
    assert smaller["p_holm"] == pytest.approx(min(1, 6 * smaller["p_value"]))
    assert larger["p_holm"] == pytest.approx(min(1, max(smaller["p_holm"], 5 * larger["p_value"])))
    assert "a1 − a4: an arm has no finished run." in list(in_words([document]))


def test_the_exclusion_is_judged_against_both_arms_that_leave_something_out(factory, tmp_path):
    for seed in SEEDS:
        factory.exclusion("full", seed)
        factory.exclusion("excluded", seed, -0.1)
        factory.exclusion("leave_target_out", seed, target=NOTES)
    document, _ = of(tmp_path, "mimic_exclusion")
    verdicts = {(each["first"], each["second"]): each["verdict"] for each in document["contrasts"]}
    without = f"leave_target_out {NOTES}"
    assert verdicts == {
        ("full", "excluded"): "higher",
        ("full", without): "no difference shown",
        (without, "excluded"): "higher",
    }


def test_s5_is_judged_against_the_runs_that_it_chose_from(factory, tmp_path):
    from tests.analysis.judged_runs import EXPERIMENT

    for seed in SEEDS:
        factory.arm(seed, EXPERIMENT)
        factory.quantised(seed, -0.1)
    _, found = of(tmp_path, "s5")
    assert {key: each["verdict"] for key, each in found.items()} == {("s5_qlora", t): "lower" for t in TASKS}
    assert {each["second"] for each in found.values()} == {"s3a_flat"}


def test_s5_without_any_experiment_is_compared_with_runs_without_one(factory, tmp_path):
    for seed in (1, 2):
        factory.arm(seed, {})
        factory.quantised(seed, experiment={})
    assert len(of(tmp_path, "s5")[1]) == 2


def test_out_of_distribution_the_score_there_and_the_drop_are_judged(factory, tmp_path):
    for seed in SEEDS:
        multi = factory.multi_task(seed)
        factory.outside(multi, factory.control(multi, NOTES), 0.1)
    document, _ = of(tmp_path, "ood")
    score, drop = document["contrasts"]
    assert (score["figure"], score["verdict"]) == ("task_a_strict_f1 on ood", "higher")
    assert (drop["figure"], drop["verdict"]) == ("drop", "lower")  # equal inside, 0.1 more outside
    assert score["low"] < 0.1 < score["high"] and drop["low"] < -0.1 < drop["high"]


def test_one_seed_gives_a_difference_and_no_inference(factory, tmp_path):
    factory.level("on", 1)
    factory.level("off", 1, 0.2)
    document, found = of(tmp_path, "ablation")
    assert {each["verdict"] for each in found.values()} == {"one seed: no inference"}
    assert all(each["p_holm"] is None and each["low"] is None for each in found.values())
    title, *sentences = in_words([document])
    assert len(sentences) == 2 and all(s.endswith("one seed: no inference.") for s in sentences)


def test_a_page_shows_a_refusal_and_the_command_ends_with_it(factory, tmp_path):
    for seed in SEEDS:
        factory.level("on", seed)
        run = factory.level("off", seed)
    altered(run, "device", "cuda")
    with pytest.raises(IncomparableRuns, match="^device: 'cpu' in .* but 'cuda' in"):
        contrasts("ablation", find_runs(tmp_path))
    (document,) = contrasts_or_refusals("ablation", find_runs(tmp_path))
    assert "the comparison is refused — device" in list(in_words([document]))[1]
    assert contrast_table([document]).empty
    done = CliRunner().invoke(app, ["verdict", "--question", "ablation", "--runs", str(tmp_path)])
    assert done.exit_code == 2 and done.stderr.startswith("error: device")


def test_the_command_says_and_writes_what_it_found(factory, tmp_path):
    for seed in SEEDS:
        factory.level("on", seed)
        factory.level("off", seed, 0.1)
    out = tmp_path / "reports" / "ablation.json"
    words = ["verdict", "--question", "ablation", "--runs", str(tmp_path), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and f"{NOTES}, task_a_strict_f1 on test: off − on = +0." in done.stdout
    assert [each["verdict"] for each in json.loads(out.read_text())[0]["contrasts"]] == ["higher", "higher"]


@pytest.mark.parametrize(
    ("question", "words"), [("mimic_exclusion", "no finished runs"), ("ablations", "allowed")]
)
def test_a_question_without_runs_and_one_that_is_none_are_errors(factory, tmp_path, question, words):
    factory.level("on", 1)
    done = CliRunner().invoke(app, ["verdict", "--question", question, "--runs", str(tmp_path)])
    assert done.exit_code == 2 and words in done.stderr


# --- runs that never finished ----------------------------------------------------------------------


def test_a_seed_that_never_finished_in_one_arm_refuses_the_survivors(altered_study):
    run = run_of(altered_study, page="s2_shared", seed=3)
    for other in find_runs(altered_study):  # its controls had never begun
        if other.facts["seed"] == 3 and other.run_id != run.run_id:
            other.manifest_json.unlink()
            other.config_yaml.unlink()
    run.manifest_json.unlink()
    with pytest.raises(
        IncomparableRuns, match=r"^seed: unfinished in multi-task runs: 3 \(s2_shared-.*, broken off"
    ):
        verdict(find_runs(altered_study))
    document = verdict(find_runs(altered_study), as_they_stand=True)
    assert document["comparison"]["seeds"] == [1, 2, 3] and document["as_they_stand"]
    assert document["unfinished"] == {
        "multi-task runs": [{"run_id": run.run_id, "seed": 3, "ending": "broken off after 0 steps"}]
    }
    scores = document["tasks"][NOTES]["scores"]
    assert scores["multi_task"][2] == min(scores["multi_task"][:2])  # the worst of its arm
    assert scores["total"][2] == max(scores["total"][:2])  # the best of the other


def test_a_control_that_never_finished_refuses_the_survivors(altered_study):
    run = run_of(altered_study, page="token_controlled", seed=3)
    run.manifest_json.unlink()
    with pytest.raises(IncomparableRuns, match=f"unfinished in total control of {NOTES}: 3"):
        verdict(find_runs(altered_study))
    scores = verdict(find_runs(altered_study), as_they_stand=True)["tasks"][NOTES]["scores"]
    assert scores["total"][2] == max(scores["total"][:2]) and len(set(scores["multi_task"])) == 3


def test_the_command_scores_unfinished_runs_as_they_stand_only_where_it_is_told_to(altered_study, tmp_path):
    run = run_of(altered_study, page="token_controlled", seed=3)
    run.manifest_json.unlink()
    words = ["verdict", "--runs", str(altered_study), "--out", str(tmp_path / "verdict.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "--as-they-stand" in done.stderr
    done = CliRunner().invoke(app, [*words, "--as-they-stand"])
    assert done.exit_code == 0 and f"seed 3, {run.run_id}, broken off" in done.stdout
    assert "as the worst run of the first arm" in done.stdout


def test_all_runs_that_finished_leave_nothing_unfinished(study):
    document = verdict(find_runs(study))
    assert document["unfinished"] == {} and not document["as_they_stand"]


def test_an_unfinished_run_of_another_configuration_or_question_is_none_of_the_comparison(factory, tmp_path):
    for seed in (1, 2):
        factory.level("on", seed)
        factory.level("off", seed)
    factory.broken_off(factory.level("off", 3, rank=99))
    factory.broken_off(factory.exclusion("full", 3))
    assert of(tmp_path, "ablation")[0]["unfinished"] == {}
    factory.broken_off(factory.level("off", 3))
    with pytest.raises(IncomparableRuns, match="unfinished in off: 3"):
        contrasts("ablation", find_runs(tmp_path))


def test_a_seed_that_finished_at_a_second_attempt_is_named_and_not_lost(factory, tmp_path):
    factory.broken_off(factory.level("off", 2))
    for seed in (1, 2):
        factory.level("on", seed)
        factory.level("off", seed)
    document, _ = of(tmp_path, "ablation")
    (attempt,) = document["unfinished"]["off"]
    assert attempt["seed"] == 2 and any(attempt["run_id"] in sentence for sentence in in_words([document]))


def test_runs_are_scored_as_they_stand_only_beside_two_finished_ones(factory, tmp_path):
    factory.level("on", 1)
    factory.level("off", 1, 0.3)
    factory.broken_off(factory.level("off", 2))
    factory.level("on", 2)
    with pytest.raises(IncomparableRuns, match="only 1 finished in off"):
        contrasts("ablation", find_runs(tmp_path), as_they_stand=True)


def test_an_unfinished_run_says_how_it_ended(factory, tmp_path):
    runs = [factory.level("on", seed) for seed in (1, 2, 3)]
    for run in runs:
        factory.broken_off(run)
    runs[0].pause(step=12, steps=40, message="the session is over")
    runs[1].append_event({"step": 1})
    error = {"output_type": "error", "ename": "TrainingAlarm", "evalue": "loss is nan"}
    runs[1].notebook.write_text(json.dumps({"cells": [{"cell_type": "markdown"}, {"outputs": [error]}]}))
    assert [ending(run) for run in runs] == [
        "paused at step 12 of 40",
        "failed by TrainingAlarm after 1 steps",
        "broken off after 0 steps",
    ]
    assert unfinished_beside([]) == []
    (tmp_path / "no run of ours").mkdir()
    (tmp_path / "no run of ours" / "config.yaml").write_text("a: 1\n")
    assert len(unfinished_beside([RunFolder(runs[0].path)])) == 3


def test_pages_say_where_there_is_nothing_to_compare_yet(tmp_path):
    documents = contrasts_or_refusals("s5", find_runs(tmp_path))
    assert list(in_words(documents)) == ["no finished runs of this question yet: nothing to compare"]


def test_an_unknown_question_names_the_allowed_ones(tmp_path):
    with pytest.raises(ConfigError, match="allowed: ablation, mimic_exclusion, s5, ood"):
        contrasts("rq9", [])
