"""`training.full_finetuning`: what goes with it, what it changes unasked, and whose hash stays."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import compose, config_hash, from_yaml, identifying_values, to_yaml
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import plain_values

NER, RANKING, BOTH = "semeval2014t7", "semeval2017t3", ["semeval2014t7", "semeval2021t6"]
WHOLE = "training.full_finetuning=true"


@pytest.mark.parametrize(("strategy", "tasks"), [("s1_single", [NER]), ("s2_shared", [NER, RANKING])])
def test_one_and_several_tasks_train_a_whole_backbone_without_a_rank(strategy, tasks):
    config = compose("bert", tasks, strategy, overrides=[WHOLE])
    assert config.training.full_finetuning and plain_values(config)["strategy"]["rank"] is None


@pytest.mark.parametrize(
    ("model", "strategy", "overrides", "told"),
    [
        ("bert", "s3a_flat", [], "'s3a_flat' is of kind shared_private; the kinds that can: single, shared"),
        ("bert", "s3b_hierarchical", [], "of kind hierarchical"),
        ("bert", "s4_sequential", [], "of kind sequential"),
        ("bert", "a2", [], "of kind private"),
        ("llama8b", "s2_shared", [], "llama8b would be in 4 bits, which do not train"),
        ("bert", "s2_shared", ["strategy.quantization=nf4"], "bert would be in 4 bits"),
        ("bert", "s2_shared", ["strategy.pcgrad=true"], "strategy.pcgrad=True is made for adapters"),
        ("bert", "s2_shared", ["strategy.rank=8"], "strategy.rank=8 is made for adapters"),
        ("gemma2b", "s2_shared", ["strategy.unsloth=true"], "strategy.unsloth=True is made for adapters"),
    ],
)
def test_what_has_no_place_in_a_whole_backbone_is_refused(model, strategy, overrides, told):
    with pytest.raises(ConfigError, match=f"{WHOLE} trains the whole backbone.*{told}"):
        compose(model, BOTH, strategy, overrides=[WHOLE, *overrides])


@pytest.mark.parametrize(
    ("overrides", "probability"),
    [
        ([], 0.0),
        ([WHOLE], None),
        ([WHOLE, "training.backbone_dropout=0"], 0.0),
        ([WHOLE, "training.backbone_dropout=0.2"], 0.2),
        (["training.backbone_dropout=null"], None),
    ],
)
def test_the_models_own_dropout_is_on_where_all_of_it_trains_unless_somebody_says_otherwise(
    overrides, probability
):
    config = compose("bert", overrides=overrides)
    assert config.training.backbone_dropout == probability
    assert from_yaml(to_yaml(config)) == config


def test_the_mode_is_in_the_hash_and_runs_from_before_it_keep_theirs():
    whole, adapters = compose("bert", overrides=[WHOLE]), compose("bert")
    assert config_hash(whole) != config_hash(adapters)
    assert "full_finetuning" not in identifying_values(adapters)["training"]
    assert identifying_values(whole)["training"]["full_finetuning"] is True


@pytest.mark.parametrize("page", ["s1_single_task", "s2_shared", "ablation_architecture"])
def test_a_page_that_looks_into_adapters_names_the_page_that_needs_none(tmp_path, page):
    with pytest.raises(ConfigError, match="`run encoder_baselines` trains one or several tasks so"):
        start_run(compose(overrides=[WHOLE]), page=page, runs_dir=tmp_path)
