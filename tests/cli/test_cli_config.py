"""The command `config`: what will run as plain values, and the file or argument behind each of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.config import compose, members, params_dir
from kaggle_kit.core.schema import plain_values

FIVE = ["semeval2014t7", "semeval2015t14", "semeval2016t12", "semeval2017t3", "semeval2021t6"]


def kit(*arguments: str):
    return CliRunner().invoke(app, ["config", *arguments])


def shown(*arguments: str) -> dict[str, Any]:
    result = kit(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def test_json_is_one_nested_object_of_what_a_run_with_the_same_words_would_have():
    values = shown("--strategy", "s3a_flat", "--model", "llama3b", "--profile", "t4", "training.epochs=3")
    run = compose("llama3b", FIVE, "s3a_flat", "t4", overrides=["training.epochs=3"])
    assert values == plain_values(run)
    assert (values["strategy"]["sampling"], values["training"]["epochs"]) == ("temperature", 3.0)
    assert values["model"]["lora"]["targets"][:4] == ["q_proj", "k_proj", "v_proj", "o_proj"]


def test_several_tasks_are_the_studys_five_where_none_is_named():
    assert list(shown("--strategy", "s2_shared")["tasks"]) == FIVE
    assert list(shown()["tasks"]) == FIVE[:1]
    assert list(shown("--experiment", "mimic_exclusion")["tasks"]) == FIVE  # it chooses the strategy
    assert list(shown("--strategy", "s2_shared", "--task", "semeval2017t3,ddi2013")["tasks"]) == [
        "semeval2017t3",
        "ddi2013",
    ]


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        (("--model", "mistral7b"), (32, None)),
        (("--model", "mistral7b", "strategy.rank=8"), (8, None)),
        (("--strategy", "s3a_flat", "--model", "mistral7b"), (16, 8)),
        (("--strategy", "s3a_flat", "strategy.private_rank=null", "strategy.rank=null"), (16, 8)),
        (("--strategy", "s2_shared", "--model", "gemma2b"), (16, None)),
        (("--strategy", "a2"), (None, 24)),
    ],
)
def test_ranks_left_empty_are_what_they_resolve_to(arguments, ranks):
    strategy = shown(*arguments)["strategy"]
    assert (strategy["rank"], strategy["private_rank"]) == ranks


def test_the_ranks_of_the_levels_are_set_apart():
    more = ("strategy.level2_rank=null", "strategy.rank=6")
    strategy = shown("--strategy", "s3b_hierarchical", *more)["strategy"]
    ranks = ("rank", "private_rank", "level1_rank", "level2_rank")
    assert [strategy[key] for key in ranks] == [6, None, 8, 3]


@pytest.mark.parametrize(("model", "base"), [("llama8b", "nf4"), ("gemma2b", "none")])
def test_quantisation_left_empty_is_what_the_size_says(model, base):
    assert shown("--model", model)["strategy"]["quantization"] == base


@pytest.mark.parametrize("more", [(), ("training.head_learning_rate=0.5",)])
def test_heads_learn_at_the_rate_of_the_adapters_where_none_is_their_own(more):
    training = shown(*more)["training"]
    expected = 0.5 if more else training["learning_rate"]
    assert training["head_learning_rate"] == expected


@pytest.mark.parametrize("more", [(), ("--sources",)])
def test_yaml_says_the_same_with_and_without_sources(more):
    arguments = ("--strategy", "s2_shared", "--profile", "t4", "--model", "bert")
    text = kit(*arguments, *more).stdout
    assert yaml.safe_load(text) == shown(*arguments)
    assert ("  loss_weighting: uncertainty  # params/strategy/s2_shared.yaml" in text) == bool(more)


def test_a_value_that_follows_another_one_names_that_one_and_no_default():
    given = ["--task", "ddi2013", "--profile", "open", "--sources", "tasks.ddi2013.gold_entities=true"]
    asked = shown(*given, "training.full_finetuning=true")
    assert asked["tasks"]["ddi2013"]["primary_metric"] == "relation_f1"
    assert asked["training"]["backbone_dropout"] is None
    assert asked["sources"]["tasks.ddi2013.primary_metric"].endswith("gold_entities=true")
    assert asked["sources"]["training.backbone_dropout"].endswith("training.full_finetuning=true")
    plain = shown("--task", "ddi2013", "--profile", "open", "--sources")["sources"]
    assert plain["training.backbone_dropout"].startswith("default of")
    assert plain["tasks.ddi2013.primary_metric"] == "params/task/ddi2013.yaml"


def test_every_value_names_the_file_or_the_argument_that_set_it():
    arguments = ["--strategy", "s2_shared", "--experiment", "planted", "--sources", "training.epochs=7"]
    arguments += ["practice={documents: 9}", "tasks.semeval2017t3.components.0.loss_weight=2", "seed=3"]
    sources = shown(*arguments)["sources"]
    expected = {
        "strategy.sampling": "params/strategy/s2_shared.yaml",
        "training.effective_batch": "params/experiment/planted.yaml",  # which the profile sets, too
        "training.selection": "params/experiment/token_controlled.yaml",  # on which planted builds
        "training.warmup": "params/profile/smoke.yaml",
        "training.patience": "default of kaggle_kit/core/schema.py",
        "training.epochs": "argument training.epochs=7",
        "practice.documents": "argument practice={'documents': 9}",
        "tasks.semeval2014t7.title": "params/task/semeval2014t7.yaml",
        "strategy.rank": "empty: model.lora.rank",
        "training.head_learning_rate": "empty: training.learning_rate",
        "seed": "argument seed=3",
    }
    assert {key: sources[key] for key in expected} == expected
    changed = sources["tasks.semeval2017t3.components"]
    assert changed.startswith(
        "params/task/semeval2017t3.yaml, then argument tasks.semeval2017t3.components.0"
    )


def flat(node: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {place: node}
    found = (flat(value, f"{place}.{key}" if place else key) for key, value in node.items())
    return {key: value for some in found for key, value in some.items()}


@pytest.mark.parametrize("experiment", members("experiment"))
def test_the_file_that_is_named_says_that_value(experiment):
    more = ("--strategy", "a3") if experiment == "ablation_architecture" else ()
    more += ("--task", "semeval2017t3") if experiment.endswith("_minilm") else ()
    values = shown("--experiment", experiment, "--sources", *more)
    sources, values = values.pop("sources"), flat(values)
    checked = 0
    for key, source in sources.items():
        if not source.startswith("params/"):
            continue
        file = params_dir().parent / source
        prefix = {"experiment": "", "profile": "", "task": f"tasks.{file.stem}"}
        place = prefix.get(file.parent.name, file.parent.name)
        value = flat(OmegaConf.to_container(OmegaConf.load(file)), place)[key]
        interpolated = isinstance(value, str) and "${" in value
        if not interpolated and not isinstance(value, list):  # into a list's members the schema fills
            assert value == values[key] or float(value) == values[key], (key, source)
            checked += 1
    assert checked > 10


def test_an_unknown_name_or_key_is_one_clean_message_with_the_nearest_and_exit_code_2():
    for arguments, told in (
        (("--strategy", "s3a_fla"), "did you mean 's3a_flat'?"),
        (("--model", "lama3b"), "did you mean 'llama3b'?"),
        (("training.epoch=3",), "did you mean 'epochs'?"),
        (("--experiment", "hp_serch"), "did you mean 'hp_search'?"),
        (("strategy=s9",), "unknown strategy 's9'"),
        (("--strategy", "s3a_flat", "strategy=s2_shared"), "contradict each other"),
        (("--strategy", "s2_shared", "--experiment", "mimic_exclusion"), "is for strategy s3a_flat or"),
        (("--strategy", "s2_shared", "--task", "semeval2017t3"), "name two or more"),
    ):
        result = kit(*arguments)
        assert result.exit_code == 2 and result.stdout == "", arguments
        assert told in result.stderr and "Traceback" not in result.stderr
