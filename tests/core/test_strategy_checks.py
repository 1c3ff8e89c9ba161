"""Strategies: every file in params/strategy composes with fitting tasks, and misfits are refused."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import compose, members
from kaggle_kit.core.errors import ConfigError

NER, RANKING = "semeval2014t7", "semeval2017t3"
KINDS = {
    "s1_single": "single",
    "s2_shared": "shared",
    "s3a_flat": "shared_private",
    "s3b_hierarchical": "hierarchical",
    "s4_sequential": "sequential",
    "s5_qlora": "shared_private",
    "a1": "single",
    "a2": "shared",
    "a3": "shared_private",
    "a4": "hierarchical",
}


@pytest.mark.parametrize("name", members("strategy"))
def test_every_strategy_composes_and_is_of_its_kind(name):
    tasks = [NER] if KINDS[name] == "single" else [NER, RANKING]
    strategy = compose(strategy=name, task=tasks).strategy
    assert (strategy.name, strategy.kind) == (name, KINDS[name])
    assert strategy.pcgrad == (name in ("s3a_flat", "s3b_hierarchical", "s5_qlora", "a3", "a4"))


def test_the_ablation_is_24_24_16_8_16_8():
    ranks = {}
    for name in ("a1", "a2", "a3", "a4"):
        strategy = compose(strategy=name, task=[NER] if name == "a1" else [NER, RANKING]).strategy
        ranks[name] = (strategy.rank, strategy.private_rank)
    assert ranks == {"a1": (24, None), "a2": (24, None), "a3": (16, 8), "a4": (16, 8)}


@pytest.mark.parametrize(
    ("strategy", "tasks", "overrides", "told"),
    [
        ("s2_shared", [NER], [], "trains several tasks, but tasks are: semeval2014t7; name two or more"),
        ("s3b_hierarchical", [NER, "semeval2015t14"], [], "needs components on both levels.*one on level 2"),
        ("s1_single", [NER], ["strategy.pcgrad=true"], "needs conflicting tasks"),
        ("s2_shared", [NER, RANKING], ["strategy.fusion=gated"], "shared has none: set none"),
        ("s3a_flat", [NER, RANKING], ["strategy.fusion=sum"], "fusion=sum .*allowed: none, attention, gated"),
        ("s3a_flat", [NER, RANKING], ["strategy.fusion_rank=0"], "fusion_rank=0 .*at least 1"),
        ("s3a_flat", [NER, RANKING], ["strategy.private_rank=0"], "private_rank=0 .*at least 1"),
        ("s3b_hierarchical", [NER, RANKING], ["strategy.cut=1.0"], "cut=1.0 .*less than 1"),
        ("s3b_hierarchical", [NER, RANKING], ["strategy.cross_level=sum"], "attention, concatenation"),
        ("s4_sequential", [NER, RANKING], ["strategy.adapt_shared=half"], "allowed: frozen, continued"),
        ("s2_shared", [NER, RANKING], ["strategy.sampling=random"], "proportional, uniform, temperature"),
        ("s2_shared", [NER, RANKING], ["strategy.temperature=0"], "temperature=0.0 .*more than 0"),
        ("s2_shared", [NER, RANKING], ["strategy.loss_weighting=magic"], "equal, static, uncertainty"),
        ("s5_qlora", [NER, RANKING], ["strategy.quantization=int8"], "allowed: none, nf4"),
        ("s2_shared", [NER, RANKING], ["training.target_tokens=100"], "is for one task, but tasks are"),
        ("s1_single", [NER], ["strategy.unsloth=true"], "single on tiny; set it to false"),
    ],
)
def test_a_misfit_is_refused(strategy, tasks, overrides, told):
    with pytest.raises(ConfigError, match=told):
        compose(strategy=strategy, task=tasks, overrides=overrides)


def test_unsloth_is_offered_for_one_and_for_shared_adapters_on_compatible_models():
    for strategy, tasks in (("s1_single", [NER]), ("s2_shared", [NER, RANKING])):
        assert compose(model="gemma2b", strategy=strategy, task=tasks, overrides=["strategy.unsloth=true"])
    with pytest.raises(ConfigError, match="this is shared_private on gemma2b"):
        compose(
            model="gemma2b", strategy="s3a_flat", task=[NER, RANKING], overrides=["strategy.unsloth=true"]
        )
