"""Composition: what every file in params/ says, who wins, what is refused and how it is said."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from kaggle_kit.core.config import compose, config_hash, from_yaml, members, params_dir, to_yaml
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.request import given_names, with_page_defaults
from kaggle_kit.core.schema import RunConfig, quantization_for

REPOSITORY = Path(__file__).resolve().parents[2]

PUBLISHED_PARAMETERS = {  # billions
    "gemma2b": 2.614,
    "phi3mini": 3.821,
    "llama3b": 3.213,
    "mistral7b": 7.248,
    "llama8b": 8.030,
    "biomistral": 7.242,
}


def test_a_run_is_watched_and_saved_as_often_as_the_study_says():
    training = compose(profile="t4").training
    assert (training.epochs, training.warmup) == (5, 0.05)
    assert (training.checkpoint_every, training.quick_every, training.quick_samples) == (200, 200, 500)
    assert training.patience == 3


def test_the_defaults_are_smoke_scale_on_one_practice_task():
    config = compose()
    assert isinstance(config, RunConfig)
    assert (config.model.name, list(config.tasks), config.strategy.name) == (
        "tiny",
        ["semeval2014t7"],
        "s1_single",
    )
    assert (config.profile.name, config.profile.corpora, config.profile.paper) == ("smoke", "practice", False)
    assert config.seed == 42


@pytest.mark.parametrize("model", members("model"))
def test_every_model_composes_with_alpha_twice_the_rank(model):
    lora = compose(model=model).model.lora
    assert lora.alpha == 2 * lora.rank
    assert lora.dropout == 0.05
    assert lora.targets


@pytest.mark.parametrize("model", PUBLISHED_PARAMETERS)
def test_the_study_models_carry_their_published_size_and_the_rank_it_implies(model):
    entry = compose(model=model).model
    assert entry.parameters / 1e9 == pytest.approx(PUBLISHED_PARAMETERS[model], abs=6e-4)
    assert entry.lora.rank == (32 if quantization_for(entry.parameters) == "nf4" else 16)
    assert entry.unsloth.compatible


def test_phi3_names_its_fused_layers():
    assert compose(model="phi3mini").model.lora.targets == ["qkv_proj", "o_proj"]


def test_where_mentions_are_given_the_relations_are_what_is_measured():
    """The mentions' own figure would be 1 whatever the model does."""
    given = compose(task="ddi2013", profile="open", overrides=["tasks.ddi2013.gold_entities=true"])
    entry = given.tasks["ddi2013"]
    assert (entry.primary_metric, entry.secondary_metrics) == ("relation_f1", ["entity_f1"])
    assert from_yaml(to_yaml(given)).tasks["ddi2013"].primary_metric == "relation_f1"
    assert compose(task="ddi2013", profile="open").tasks["ddi2013"].primary_metric == "entity_f1"
    asked = ["tasks.ddi2013.gold_entities=true", "tasks.ddi2013.primary_metric=entity_f1"]
    said = compose(task="ddi2013", profile="open", overrides=asked).tasks["ddi2013"]
    assert said.primary_metric == "entity_f1"


@pytest.mark.parametrize("task", members("task"))
def test_every_task_composes_under_its_own_id(task):
    config = compose(task=task)
    assert config.tasks[task].name == task
    assert config.tasks[task].obtain


@pytest.mark.parametrize("profile", members("profile"))
def test_every_profile_composes_on_a_public_task(profile):
    assert compose(task="semeval2017t3", profile=profile).profile.name == profile


def test_a_paper_profile_reports_a_split_on_which_nothing_was_chosen():
    assert compose(task="semeval2017t3", profile="t4").profile.report == ["test"]
    with pytest.raises(ConfigError, match="paper profile 't4'.*set \\[test\\]"):
        compose(task="semeval2017t3", profile="t4", overrides=["profile.report=[dev]"])


@pytest.mark.parametrize("asked", ["[]", "[dev,dev]", "[train]"])
def test_only_held_out_splits_are_reported_each_once(asked):
    with pytest.raises(ConfigError, match="profile.report"):
        compose(task="semeval2017t3", overrides=[f"profile.report={asked}"])


def test_an_experiment_chooses_model_and_profile_where_nobody_names_others():
    config = compose(task="ncbi_disease", experiment="ncbi_minilm")
    assert (config.model.name, config.profile.name) == ("minilm", "open")
    assert (config.training.learning_rate, config.training.epochs, config.training.max_length) == (
        2e-3,
        5.0,
        128,
    )


def test_a_name_that_is_given_is_never_replaced_by_an_experiments_own():
    """`--strategy s3b_hierarchical experiment=mimic_exclusion` was replaced by S4 without a word."""
    config = compose(model="bert", task="ncbi_disease", profile="smoke", experiment="ncbi_minilm")
    assert (config.model.name, config.profile.name, config.training.epochs) == ("bert", "smoke", 5.0)
    overrides = ["training.epochs=1", "model=biobert", "profile=smoke"]
    config = compose(task="ncbi_disease", experiment="ncbi_minilm", overrides=overrides)
    assert (config.model.name, config.profile.name, config.training.epochs) == ("biobert", "smoke", 1.0)
    both = ["semeval2014t7", "semeval2017t3"]
    for experiment in ("mimic_exclusion", "ablation_pcgrad", "transfer_matrix"):
        config = compose(strategy="s3b_hierarchical", task=both, experiment=experiment)
        assert config.strategy.kind == "hierarchical" and config.strategy.cross_level == "attention"


HP, TRIALS, STEPS = "experiment=hp_search", "experiment.trials=3", "training.max_steps=8"
OWN = {"profile": "smoke", "overrides": [HP, TRIALS, STEPS]}


@pytest.mark.parametrize(
    ("profile", "given", "expected"),
    [
        (None, [], [HP, TRIALS, STEPS]),
        ("smoke", ["seed=1"], [HP, TRIALS, STEPS, "seed=1"]),
        (None, ["experiment.trials=9"], [HP, STEPS, "experiment.trials=9"]),
        ("t4", ["seed=1"], [HP, "seed=1"]),
        (None, ["profile=open"], [HP, "profile=open"]),
        (None, ["experiment=ood"], ["experiment=ood"]),
    ],
)
def test_a_pages_own_overrides_hold_where_nothing_else_is_given(profile, given, expected):
    """`run hp_search experiment.trials=2` lost the page's experiment, and failed for want of it."""
    assert with_page_defaults(OWN, profile, given) == expected


@pytest.mark.parametrize("experiment", ["mimic_exclusion", "ablation_fusion", "ablation_cross_level"])
def test_an_experiment_that_cannot_use_the_strategy_that_is_given_names_both(experiment):
    with pytest.raises(ConfigError, match=f"'{experiment}' is for strategy s3.*the strategy is 's2_shared'"):
        compose(strategy="s2_shared", task=["semeval2014t7", "semeval2017t3"], experiment=experiment)


def test_names_are_the_users_then_the_experiments_then_the_pages():
    own = {"model": "tiny", "strategy": "a4", "profile": "smoke", "task": "semeval2014t7"}
    nobody = dict.fromkeys(own)
    assert given_names(own, nobody, []) == own
    named = given_names(own, nobody, ["experiment=ablation_pcgrad"])
    assert named == own | {"strategy": "s3a_flat"}
    named = given_names(own, nobody | {"profile": "smoke"}, ["experiment=ncbi_minilm"])
    assert named == own | {"model": "minilm"}
    named = given_names(own, nobody | {"strategy": "s3b_hierarchical"}, ["experiment=ablation_pcgrad"])
    assert named["strategy"] == "s3b_hierarchical"
    assert given_names(own, nobody, ["strategy=s2_shared"])["strategy"] == "s2_shared"
    with pytest.raises(ConfigError, match="--strategy s3a_flat and strategy=s2_shared contradict"):
        given_names(own, nobody | {"strategy": "s3a_flat"}, ["strategy=s2_shared"])


def test_a_profile_beats_the_schema_and_its_siblings_stay():
    config = compose()
    assert config.training.epochs == 4.0  # the smoke profile's, the schema says 3
    assert config.training.token_budget == 2048  # the schema's


def test_overrides_reach_dictionaries_lists_and_the_task_choice():
    config = compose(
        overrides=[
            "task=semeval2017t3",
            "tasks.semeval2017t3.options.subtask=B",
            "tasks.semeval2017t3.components.0.labels=[no,yes]",
            "tasks.semeval2017t3.held_out.dev.fraction=0.1",
            "training.learning_rate=3e-4",
            "profile.max_train_samples=null",
        ]
    )
    task = config.tasks["semeval2017t3"]
    assert task.options["subtask"] == "B"
    assert task.components[0].labels == ["no", "yes"]
    assert (task.held_out["dev"].source, task.held_out["dev"].fraction) == ("train", 0.1)
    assert config.training.learning_rate == 3e-4
    assert config.profile.max_train_samples is None


def test_an_unknown_key_is_named_with_the_allowed_ones_and_the_nearest():
    with pytest.raises(ConfigError) as caught:
        compose(overrides=["training.learning_rat=1"])
    message = str(caught.value)
    assert "'training.learning_rat'" in message and "max_length" in message
    assert "did you mean 'learning_rate'?" in message


def test_an_unknown_member_is_named_with_the_allowed_ones_and_the_nearest():
    with pytest.raises(
        ConfigError, match="unknown model 'minilmm'; allowed: bert, .*did you mean 'minilm'"
    ) as caught:
        compose(model="minilmm", task="semeval2041t7", profile="smoke")
    assert "unknown task 'semeval2041t7'" in str(caught.value)


def test_all_bad_overrides_are_told_at_once():
    overrides = [
        "training.epochs=many",
        "model.lora.rank=1.5",
        "tasks.other.title=x",
        "nonsense",
        "+a=1",
        "seed=1,2",
    ]
    with pytest.raises(ConfigError) as caught:
        compose(overrides=overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == len(overrides)
    for part in (
        "training.epochs=many",
        "model.lora.rank=1.5",
        "no task 'other'",
        "'nonsense'",
        "'+a=1'",
        "'seed=1,2'",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["profile.device=gpu"], "profile.device=gpu .*allowed: auto, cpu, cuda"),
        (["profile.precision=bfloat16"], "profile.precision=bfloat16 .*did you mean 'float16'"),
        (["profile.precision=float16"], "float16 needs a GPU"),
        (["profile.paper=true"], "paper profile but reads practice corpora"),
        (["strategy.kind=double"], "strategy.kind=double .*allowed: single"),
        (["tasks.semeval2014t7.components.0.level=3"], "level=3 .*allowed: 1, 2"),
        (["tasks.semeval2014t7.components.0.kind=tagging"], "kind=tagging .*token_classification"),
        (["tasks.semeval2014t7.components.0.max_span_length=0"], "max_span_length=0 .*at least 1"),
        (["tasks.semeval2014t7.components.0.relation_type=TLINK"], "set both .* or neither"),
        (["training.learning_rate=nan"], "learning_rate=nan .*more than 0"),
        (["training.epochs=inf"], "epochs=inf .*a finite number"),
        (["tasks.semeval2014.path=x"], "no task 'semeval2014'.*did you mean 'semeval2014t7'"),
        (["training.head_learning_rate=0"], "training.head_learning_rate=0.* more than 0"),
        (["training.stride=128"], "training.stride=128 .*less than 128"),
        (["training.max_length=2048"], "1024 positions of model 'tiny'"),
        (["model.lora.targets=[]"], "model.lora.targets is empty"),
        (["model.recipe=null"], "model has no source"),
        (["tasks.semeval2014t7.held_out.dev.fraction=1.5"], "fraction=1.5 .*less than 1"),
        (["tasks.semeval2014t7.segments=notes"], "segments.*notes"),
    ],
)
def test_an_illegal_value_or_combination_is_refused(overrides, told):
    with pytest.raises(ConfigError, match=told):
        compose(overrides=overrides)


def test_a_public_profile_refuses_a_restricted_corpus():
    with pytest.raises(ConfigError, match="admits public corpora only, and 'semeval2014t7' is restricted"):
        compose(task="semeval2014t7", profile="open")


def test_the_single_task_strategy_refuses_two_tasks():
    with pytest.raises(ConfigError, match="exactly one task, but tasks are: semeval2014t7, semeval2017t3"):
        compose(task=["semeval2014t7", "semeval2017t3"])


@pytest.fixture
def other_params(tmp_path, monkeypatch):
    shutil.copytree(params_dir(), tmp_path / "params")
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path / "params"))
    return tmp_path / "params"


def test_a_file_with_an_unknown_key_is_named_with_the_key(other_params):
    (other_params / "model" / "odd.yaml").write_text("name: odd\nlora: {ranks: 8}\n")
    with pytest.raises(ConfigError, match=r"model/odd.*'model\.lora\.ranks'.*did you mean 'rank'"):
        compose(model="odd")


def test_a_file_with_a_wrong_type_is_named_with_the_value(other_params):
    (other_params / "model" / "odd.yaml").write_text("name: odd\nlora: {rank: lots}\n")
    with pytest.raises(ConfigError, match=r"model/odd.*lora\.rank.*'lots'"):
        compose(model="odd")


def test_a_file_that_lacks_a_value_is_refused(other_params):
    (other_params / "strategy" / "odd.yaml").write_text("name: odd\nkind: single\n")
    with pytest.raises(ConfigError, match=r"strategy\.title has no value"):
        compose(strategy="odd")


def test_a_file_that_is_no_yaml_is_refused(other_params):
    (other_params / "model" / "odd.yaml").write_text("name: [odd\n")
    with pytest.raises(ConfigError):
        compose(model="odd")


def test_yaml_goes_out_and_comes_back_equal():
    config = compose(task="semeval2017t3", experiment="cqa_minilm", overrides=["model.path=somewhere"])
    again = from_yaml(to_yaml(config))
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_yaml_with_an_unknown_key_is_refused():
    text = to_yaml(compose()).replace("learning_rate:", "learning_rat:")
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        from_yaml(text)


def test_the_hash_ignores_the_order_of_keys_and_the_places_of_files():
    config = compose()
    shuffled = "\n".join(reversed(re.split(r"\n(?=\S)", to_yaml(config).strip())))
    assert config_hash(from_yaml(shuffled)) == config_hash(config)
    elsewhere = compose(overrides=["model.path=somewhere", "tasks.semeval2014t7.path=elsewhere"])
    assert config_hash(elsewhere) == config_hash(config)


def test_the_hash_changes_with_every_kind_of_setting():
    changed = [[], ["seed=1"], ["training.learning_rate=1e-4"], ["model=bert"], ["practice.noise=0.1"]]
    assert len({config_hash(compose(overrides=overrides)) for overrides in changed}) == len(changed)


def test_the_hash_is_the_same_in_another_process():
    code = "from kaggle_kit.core.config import compose, config_hash; print(config_hash(compose()))"
    environment = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": str(REPOSITORY)}
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert other.stdout.strip() == config_hash(compose())
    assert re.fullmatch(r"[0-9a-f]{16}", config_hash(compose()))


def test_composing_works_inside_somebody_elses_hydra_and_leaves_it_alone():
    with initialize_config_dir(str(params_dir()), version_base="1.3", job_name="theirs"):
        theirs = GlobalHydra.instance().hydra
        first = compose(model="bert")
        assert GlobalHydra.instance().hydra is theirs or GlobalHydra.instance().is_initialized()
    assert not GlobalHydra.instance().is_initialized()
    assert compose(model="bert") == first


def test_every_group_of_the_schema_has_its_place_in_a_run():
    assert {"model", "tasks", "strategy", "profile", "training", "experiment"} <= {
        f.name for f in fields(RunConfig)
    }


@pytest.mark.parametrize(
    "override", ["tasks.semeval2014t7.access=public", "tasks.semeval2014t7={access: public}"]
)
def test_no_override_lifts_a_data_use_agreement(override):
    with pytest.raises(ConfigError, match="no override lifts a data use agreement"):
        compose(task="semeval2014t7", overrides=[override])


def test_the_order_of_the_tasks_counts_because_the_plan_is_drawn_in_it():
    one, other = ["semeval2014t7", "semeval2021t6"], ["semeval2021t6", "semeval2014t7"]
    first, second = (compose(task=order, strategy="s2_shared") for order in (one, other))
    assert config_hash(first) != config_hash(second)


@pytest.mark.parametrize("place", ["revision", "name"])
def test_a_stored_configuration_cannot_read_the_environment(monkeypatch, place):
    monkeypatch.setenv("DB_PASSWORD", "hunter2hunter2")
    text = re.sub(rf"^  {place}: .*$", f"  {place}: ${{oc.env:DB_PASSWORD}}", to_yaml(compose()), flags=re.M)
    with pytest.raises(ConfigError, match=f"model.{place}") as caught:
        from_yaml(text)
    assert "hunter2" not in str(caught.value)


def test_a_composed_configuration_is_kept_apart_from_the_next_and_from_changed_files(tmp_path, monkeypatch):
    file = tmp_path / "profile" / "mine.yaml"
    file.parent.mkdir()
    shipped = (params_dir() / "profile" / "smoke.yaml").read_text()
    monkeypatch.setenv("KAGGLE_KIT_PARAMS", str(tmp_path))
    found = []
    for rows in (3, 4):
        text = shipped.replace("name: smoke", "name: mine")
        file.write_text(text.replace("max_train_samples: 200", f"max_train_samples: {rows}"))
        found.append(compose(profile="mine", seed=rows))
    found[0].training.epochs = 17.0
    found[0].tasks.clear()
    found.append(compose(profile="mine", seed=5))
    assert [one.seed for one in found] == [3, 4, 5]
    assert [one.profile.max_train_samples for one in found] == [3, 4, 4]
    assert found[2] == replace(found[1], seed=5)
