"""The steps of a control follow its multi-task run's log; a placebo repeats its run on other labels."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import preparation, training_session
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiments import hp_search, token_controlled, token_controlled_plan
from kaggle_kit.experiments.hp_search_journal import Search, search_settings
from tests.experiment.test_rounds import small_models  # noqa: F401
from tests.experiments.test_token_controlled import NER, RELATIONS, multi_task, train
from tests.signing import sign

STEPS = ("experiment=token_controlled", "practice.documents=12", "practice.terms=20", "training.epochs=1")
MORE = ("training.max_steps=8", "training.effective_batch=12", "profile.max_train_samples=null")


@pytest.fixture(scope="module")
def multi(tmp_path_factory, small_models) -> RunFolder:  # noqa: F811
    return multi_task(tmp_path_factory.mktemp("runs"), "s2_shared", *MORE, settings=STEPS)


def of_run(multi: RunFolder, *more: str, task: str = NER):
    overrides = [*STEPS, "profile.max_train_samples=null", f"experiment.twin={multi.run_id}", *more]
    return compose(task=[task], overrides=overrides, seed=3)


def with_log(multi: RunFolder, folder, change) -> RunFolder:
    """A copy of the run with another log."""
    path = folder / multi.run_id
    shutil.copytree(multi.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    lines = [json.loads(line) for line in (path / "tokens.jsonl").read_text().splitlines()]
    (path / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    sign(RunFolder(path))
    return RunFolder.open(path)


@pytest.mark.parametrize("task", [NER, RELATIONS])
def test_each_step_of_a_baseline_follows_the_same_step_of_its_run(tmp_path, multi, task):
    config = token_controlled.control_of(multi, of_run(multi, task=task))
    run = train(config, start_run(config, page="token_controlled", runs_dir=tmp_path), multi)
    theirs = np.cumsum([sum(line["tokens"].values()) for line in multi.tokens()])
    own = np.cumsum([line["tokens"][task] for line in run.tokens()])
    assert len(own) == len(theirs) and own[-1] == theirs[-1]
    longest = 128  # tokens of the longest sequence
    assert abs(own - theirs).max() <= longest
    rates = [[event["learning_rate"] for event in folder.events()] for folder in (multi, run)]
    assert rates[0] == rates[1]  # the same schedule


def test_a_share_control_has_its_own_tokens_in_steps_scaled_alike(multi):
    config = token_controlled.control_of(multi, of_run(multi, "experiment.control=share"))
    tokens = multi.manifest()["totals"]["tokens"]
    targets = token_controlled_plan.step_targets(multi, config)
    assert targets.total == tokens[NER]
    assert len(targets) == max(1, round(8 * tokens[NER] / sum(tokens.values())))


@pytest.mark.parametrize("word", ["control=total", "control=share", "placebo=true"])
def test_the_pace_of_a_control_ends_on_its_mark_and_both_ledgers_add_up(multi, word):
    config = token_controlled.control_of(multi, of_run(multi, f"experiment.{word}"))
    plan = token_controlled_plan.plan_control(multi, config, Experiment(config).encoded)
    pace = token_controlled_plan.pace(multi, config, plan)
    assert [row["step"] for row in pace] == list(range(1, len(plan) + 1))
    assert [row["read so far"] for row in pace] == np.cumsum([row["tokens"] for row in pace]).tolist()
    assert all(row["ahead"] == row["read so far"] - row["mark"] for row in pace) and pace[-1]["ahead"] == 0
    theirs, own = token_controlled_plan.ledgers(multi, config, plan).values()
    assert theirs == [line["tokens"] for line in multi.tokens()]
    assert sum(step.get(NER, 0) for step in own) == plan.tokens[NER]
    if word == "placebo=true":
        assert own == theirs and not any(row["ahead"] for row in pace)


def test_a_log_that_its_manifest_does_not_confirm_is_refused(tmp_path, multi):
    def more(lines):
        lines[2]["tokens"][NER] += 1
        return lines

    config = token_controlled.control_of(multi, of_run(multi))
    with pytest.raises(RunFolderError, match="has 7 steps and the manifest 8"):
        token_controlled_plan.step_targets(
            with_log(multi, tmp_path / "cut", lambda lines: lines[:-1]), config
        )
    with pytest.raises(RunFolderError, match="tokens add up to"):
        token_controlled_plan.step_targets(with_log(multi, tmp_path / "edited", more), config)


def test_a_run_whose_tokens_are_not_those_that_the_control_was_settled_on_is_refused(multi):
    config = token_controlled.control_of(multi, of_run(multi))
    config.training.target_tokens += 1
    with pytest.raises(ConfigError, match=r"training\.target_tokens is .*, but s2_shared"):
        token_controlled_plan.step_targets(multi, config)


def test_a_run_that_records_no_steps_has_no_control(tmp_path, multi):
    path = tmp_path / multi.run_id
    shutil.copytree(multi.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    manifest = multi.manifest()
    del manifest["optimiser_steps"]
    sign(RunFolder(path), manifest)
    with pytest.raises(RunFolderError, match="records no optimiser_steps; run its page again"):
        token_controlled.control_of(RunFolder.open(path), of_run(multi))


# --- computed tokens ---------------------------------------------------------------------------------


def test_a_declared_count_of_computed_tokens_is_met_exactly(tmp_path, small_models):  # noqa: F811
    ranking = "semeval2017t3"
    settings = (*STEPS, "experiment.match=computed", "training.max_steps=4")
    config = compose(task=[NER, ranking], strategy="s2_shared", overrides=settings, seed=3)
    multi = train(config, start_run(config, page="s2_shared", runs_dir=tmp_path))
    totals = multi.manifest()["totals"]
    assert totals["computed_tokens"][NER] == totals["tokens"][NER]
    assert totals["computed_tokens"][ranking] < totals["tokens"][ranking]
    for task in (NER, ranking):
        wanted = [*STEPS, "experiment.match=computed", f"experiment.twin={multi.run_id}"]
        control = token_controlled.control_of(multi, compose(task=[task], overrides=wanted, seed=3))
        run = train(control, start_run(control, page="token_controlled", runs_dir=tmp_path), multi)
        own = run.manifest()
        assert own["totals"]["computed_tokens"] == {task: sum(totals["computed_tokens"].values())}
        assert own["token_parity_error"] == 0 and own["optimiser_steps"] == 4
        assert own["twin"]["match"] == "computed"


def test_an_unknown_count_is_refused(multi):
    config = token_controlled.control_of(multi, of_run(multi))
    config.experiment["match"] = "padded"
    with pytest.raises(ConfigError, match="experiment.match is 'padded'; allowed: presented, computed"):
        token_controlled_plan.step_targets(multi, config)


# --- placebo -----------------------------------------------------------------------------------------


def test_a_placebo_repeats_its_run_with_other_labels_of_its_partners_alone(tmp_path, multi):
    config = token_controlled.control_of(multi, of_run(multi, "experiment.placebo=true"))
    run = train(config, start_run(config, page="token_controlled", runs_dir=tmp_path), multi)
    theirs, own = multi.manifest(), run.manifest()
    assert own["twin"]["control"] == "placebo" and own["twin"]["task"] == NER
    for field in ("tasks", "plans", "optimiser_steps", "active_parameters", "parameter_groups", "selection"):
        assert own[field] == theirs[field], field
    assert own["totals"]["tokens"] == theirs["totals"]["tokens"]
    assert [line["tokens"] for line in run.tokens()] == [line["tokens"] for line in multi.tokens()]
    assert [set(point["scores"]) for point in own["development"]] == [{NER}] * 10  # only its task is scored


def test_only_the_partners_of_a_placebo_lose_their_labels(multi):
    config = token_controlled.control_of(multi, of_run(multi, "experiment.placebo=true"))
    exp = Experiment(config)
    specs, real = exp.specs, exp.encoded
    fake = token_controlled_plan.labelled(config, real)
    assert fake[NER] is real[NER] and fake[RELATIONS] is not real[RELATIONS]
    for part in specs[RELATIONS].components:
        for name in fake[RELATIONS].replaced:
            if name.endswith(f":{part.name}"):
                rows = [task.rows(range(len(task)))[name] for task in (real[RELATIONS], fake[RELATIONS])]
                flat = [np.concatenate([np.asarray(row) for row in column]).tolist() for column in rows]
                assert Counter(flat[0]) == Counter(flat[1]) and flat[0] != flat[1]
    again = token_controlled_plan.labelled(config, real)[RELATIONS]
    assert all(
        np.array_equal(np.concatenate(one), np.concatenate(other))
        for one, other in zip(again.replaced.values(), fake[RELATIONS].replaced.values(), strict=True)
    )


def test_a_placebo_or_share_is_made_by_its_own_page_alone(tmp_path):
    for word in ("experiment.placebo=true", "experiment.control=share"):
        config = compose(task=[NER, RELATIONS], strategy="s2_shared", overrides=[*STEPS, word], seed=3)
        with pytest.raises(ConfigError, match="which page token_controlled alone does"):
            start_run(config, page="s2_shared", runs_dir=tmp_path)


def test_a_placebo_of_a_run_in_two_phases_is_refused(tmp_path, multi):
    path = tmp_path / multi.run_id
    shutil.copytree(multi.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    manifest = multi.manifest()
    sign(RunFolder(path), manifest | {"plans": ["a", "b"]})
    with pytest.raises(ConfigError, match="was trained in 2 phases"):
        token_controlled.control_of(RunFolder.open(path), of_run(multi, "experiment.placebo=true"))


def test_another_corpus_or_setting_is_refused_before_a_placebo_trains(multi):
    config = token_controlled.control_of(multi, of_run(multi, "experiment.placebo=true"))
    exp = Experiment(config)
    encoded = exp.encode({name: samples[:-2] for name, samples in exp.samples().items()})
    with pytest.raises(ConfigError, match="the plan's steps and tokens are .* follow from s2_shared"):
        token_controlled_plan.plan_control(multi, config, encoded)


# --- a search of its own -------------------------------------------------------------------------------


def searching(multi: RunFolder, *more: str):
    overrides = ["experiment=hp_search", *STEPS[1:3], f"experiment.twin={multi.run_id}", *more]
    return compose(task=[NER], overrides=["profile.max_train_samples=null", *overrides], seed=3)


def test_a_search_for_a_baseline_has_the_baselines_configuration_tokens_and_steps(multi):
    config, found = token_controlled.searched(searching(multi), multi.path.parent)
    control = token_controlled.control_of(multi, of_run(multi))
    assert found.path == multi.path and config.training == control.training
    assert config.strategy == control.strategy and config.experiment["name"] == "hp_search"
    targets = token_controlled_plan.step_targets(multi, config)
    assert targets == StepTargets.of(sum(line["tokens"].values()) for line in multi.tokens())
    share, _ = token_controlled.searched(searching(multi, "experiment.control=share"), multi.path.parent)
    assert share.training.target_tokens == multi.manifest()["totals"]["tokens"][NER]
    for word in ("training.epochs=9", "strategy.rank=4", "training.learning_rate=1"):
        with pytest.raises(ConfigError, match=f"^{word.partition('=')[0]} is"):
            token_controlled.searched(searching(multi, word), multi.path.parent)
    plain = compose(task=[NER], overrides=["experiment=hp_search"])
    assert token_controlled.searched(plain, multi.path.parent) == (plain, None)


def test_every_trial_of_a_baselines_search_trains_its_tokens_in_its_steps(tmp_path, multi, monkeypatch):
    monkeypatch.setattr(training_session, "pass_gate", lambda *given: "gate passed")
    toy = ("experiment.full_models=[tiny]", "experiment.trials=2", "experiment.random_trials=2")
    config, _ = token_controlled.searched(searching(multi, *toy), multi.path.parent)
    run = start_run(config, page="hp_search", run_dir=tmp_path / "search")
    exp, search = Experiment(config, run), Search(search_settings(config), run.path, config.seed)
    exp.corpora = preparation.corpora_of(multi, config)
    hp_search.run_search(exp, search, token_controlled_plan.step_targets(multi, config))
    words = hp_search.finish_search(exp, search)
    target = sum(multi.manifest()["totals"]["tokens"].values())
    for number, record in enumerate(search.records()):
        assert record["tokens"] == {NER: target}
        trial = RunFolder.open(hp_search.trial_folder(run, number), finished=False)
        assert len(trial.events()) == multi.manifest()["optimiser_steps"]
    assert f"experiment.tuning.target_tokens={target}" in words
    assert {word.partition("=")[0] for word in words if word.startswith(("training", "strategy"))} == {
        "training.learning_rate",
        "training.warmup",
    }
