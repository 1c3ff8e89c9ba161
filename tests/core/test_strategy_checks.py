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
    "a1": "shared",
    "a2": "private",
    "a3": "shared_private",
    "a4": "shared_private",
}


@pytest.mark.parametrize("name", members("strategy"))
def test_every_strategy_composes_and_is_of_its_kind(name):
    tasks = [NER] if KINDS[name] == "single" else [NER, RANKING]
    strategy = compose(strategy=name, task=tasks).strategy
    assert (strategy.name, strategy.kind) == (name, KINDS[name])
    assert strategy.pcgrad == (name in ("s3a_flat", "s3b_hierarchical", "s5_qlora"))


def test_the_architectures_are_the_specifications():
    found = {}
    for name in ("a1", "a2", "a3", "a4"):
        strategy = compose(strategy=name, task=[NER, RANKING]).strategy
        found[name] = (strategy.kind, strategy.rank, strategy.private_rank, strategy.fusion)
        assert not strategy.pcgrad
        assert (strategy.sampling, strategy.temperature, strategy.loss_weighting) == (
            "temperature",
            2.0,
            "uncertainty",
        )
    assert found == {
        "a1": ("shared", 24, None, "none"),
        "a2": ("private", None, 24, "none"),
        "a3": ("shared_private", 16, 8, "none"),
        "a4": ("shared_private", 16, 8, "attention"),
    }


def test_the_levels_of_s3b_are_8_and_8_and_settable_apart():
    strategy = compose(strategy="s3b_hierarchical", task=[NER, RANKING]).strategy
    assert (strategy.rank, strategy.level1_rank, strategy.level2_rank, strategy.cut) == (16, 8, 8, 0.5)
    apart = compose(
        strategy="s3b_hierarchical",
        task=[NER, RANKING],
        overrides=["strategy.level1_rank=4", "strategy.level2_rank=12"],
    ).strategy
    assert (apart.level1_rank, apart.level2_rank) == (4, 12)


@pytest.mark.parametrize(
    ("strategy", "tasks", "overrides", "told"),
    [
        ("s2_shared", [NER], [], "trains several tasks, but tasks are: semeval2014t7; name two or more"),
        ("s3b_hierarchical", [NER, "semeval2015t14"], [], "needs components on both levels.*one on level 2"),
        ("s1_single", [NER], ["strategy.pcgrad=true"], "needs conflicting tasks"),
        ("s2_shared", [NER, RANKING], ["strategy.fusion=gated"], "shared has no such pair: set none"),
        ("s3a_flat", [NER, RANKING], ["strategy.fusion=sum"], "fusion=sum .*allowed: none, attention, gated"),
        ("s3a_flat", [NER, RANKING], ["strategy.fusion_rank=0"], "fusion_rank=0 .*at least 1"),
        ("a2", [NER], [], "trains several tasks, but tasks are: semeval2014t7; name two or more"),
        (
            "a2",
            [NER, RANKING],
            ["strategy.rank=8"],
            "rank=8 does nothing under strategy 'a2' of kind private",
        ),
        ("a2", [NER, RANKING], ["strategy.fusion=attention"], "private has no such pair: set none"),
        ("s2_shared", [NER, RANKING], ["strategy.private_rank=8"], "private_rank=8 does nothing"),
        ("s3b_hierarchical", [NER, RANKING], ["strategy.private_rank=8"], "private_rank=8 does nothing"),
        ("s3b_hierarchical", [NER, RANKING], ["strategy.level2_rank=0"], "level2_rank=0 .*at least 1"),
        ("s3a_flat", [NER, RANKING], ["strategy.level1_rank=8"], "level1_rank=8 does nothing"),
        (
            "s3a_flat",
            [NER, RANKING],
            ["strategy.detach_l1_for_l2=true"],
            "detach_l1_for_l2=True does nothing",
        ),
        (
            "s3a_flat",
            [NER, RANKING],
            ["strategy.adapt_shared=continued"],
            "adapt_shared=continued does nothing",
        ),
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
