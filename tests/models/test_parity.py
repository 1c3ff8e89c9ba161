"""Parameter parity: closed forms against models that exist, known sizes, and what cannot be solved."""

from __future__ import annotations

import re
import time

import pytest

from benchmarks.gpu import SHAPES, empty_backbone
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings, StrategyConfig
from kaggle_kit.models.hierarchical import LEVEL
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.models.parity import Base, Variant, assert_parameter_parity, head_parameters, solve_ranks

HEADS = {f"task{number}": 40_000 + number for number in range(5)}
PUBLISHED_AT_16 = {
    "gemma2b": 6_389_760,  # q, k, v and o alone: 16 · 15,360 · 26
    "phi3mini": 9_437_184,
    "llama3b": 24_313_856,
    "llama8b": 41_943_040,
}
TWO = ["semeval2014t7", "semeval2017t3"]


def ablation(model: str) -> tuple[list[StrategyConfig], LoraSettings]:
    configs = [compose(model=model, strategy=name, task=TWO) for name in ("a1", "a2", "a3", "a4")]
    return [config.strategy for config in configs], configs[0].model.lora


def count_model(model: MultiTaskModel) -> tuple[dict[str, int], int]:
    """(active by task, total) of a model that exists."""
    total = sum(p.numel() for group in model.parameter_groups().values() for p in group.parameters)
    return {task: passed_through(model, task) for task in model.specs}, total


def passed_through(model: MultiTaskModel, task: str) -> int:
    parameters = list(model.heads[task].parameters())
    adapters = model.adapters_of(task)
    for adapter in adapters:
        parameters += [*model.lora.parameters_of(adapter), *model.lora.fusion_of(adapter)]
    if LEVEL[2] in adapters:
        parameters += model.cross.parameters()
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("model", PUBLISHED_AT_16)
def test_one_rank_costs_what_is_published(model):
    lora = compose(model=model).model.lora
    base = Base.of(empty_backbone(model), lora, HEADS)
    assert 16 * base.per_rank * base.layers == PUBLISHED_AT_16[model]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "phi3", "gemma2"])
@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "shared", "rank": 6},
        {"kind": "private", "private_rank": 5},
        {"kind": "shared_private", "rank": 6, "private_rank": 2, "fusion": "attention", "fusion_rank": 3},
        {"kind": "shared_private", "rank": 6, "private_rank": 2, "fusion": "gated"},
        {"kind": "sequential", "rank": 6, "private_rank": 3, "fusion": "gated", "fusion_rank": 2},
        {"kind": "hierarchical", "rank": 6, "level1_rank": 2, "level2_rank": 3, "cut": 0.75},
        {
            "kind": "hierarchical",
            "rank": 6,
            "level1_rank": 5,
            "level2_rank": 2,
            "cross_level": "concatenation",
        },
    ],
)
def test_closed_forms_agree_with_a_model_that_exists(toys, architecture, strategy):
    loaded = toys.loaded(architecture)
    model = toys.model(loaded=loaded, **strategy)
    heads = head_parameters(toys.specs, loaded.backbone.config.hidden_size)
    low = frozenset({"entities"})
    base = Base.of(loaded.backbone, loaded.config.lora, heads, first_level=low)
    variant = Variant.of(StrategyConfig(name="toy", title="toy", **strategy), base)
    assert (variant.tasks, variant.total) == count_model(model)
    assert variant.active == max(variant.tasks.values())


def test_single_task_totals_count_one_adapter_per_task(toys):
    loaded = toys.loaded("llama")
    model = toys.model(loaded=loaded, specs=toys.specs[:1], kind="single", rank=6)
    heads = head_parameters(toys.specs, loaded.backbone.config.hidden_size)
    strategy = StrategyConfig(name="s", title="s", kind="single", rank=6)
    one = Variant.of(strategy, Base.of(loaded.backbone, loaded.config.lora, {"entities": heads["entities"]}))
    assert (one.tasks, one.total) == count_model(model)
    three = Variant.of(strategy, Base.of(loaded.backbone, loaded.config.lora, heads))
    assert three.total == 3 * (one.total - heads["entities"]) + sum(heads.values())


@pytest.mark.parametrize("model", SHAPES)
def test_the_ablation_table_holds_parity_for_every_task_on_every_model_of_the_study(model):
    strategies, lora = ablation(model)
    base = Base.of(empty_backbone(model), lora, HEADS)
    variants = [Variant.of(strategy, base) for strategy in strategies]
    table = assert_parameter_parity(variants)
    assert re.findall(r"\(([\d+]+)\)", table.splitlines()[0]) == ["24", "24", "16+8", "16+8"]
    for task in HEADS:
        counts = [variant.tasks[task] for variant in variants]
        assert max(counts) / min(counts) < 1.02
        assert f"active, {task} " in table


def test_a_hierarchy_beside_a_flat_strategy_is_refused_for_its_level_1_tasks():
    """S3b's longest way is S3a's, so that comparing the longest ways alone accepted 1/6 fewer on level 1."""
    _, lora = ablation("gemma2b")
    base = Base.of(
        empty_backbone("gemma2b"), lora, {"tags": 40_000, "answers": 40_000}, first_level=frozenset({"tags"})
    )
    flat, hierarchical = (
        Variant.of(compose(strategy=name, task=TWO).strategy, base)
        for name in ("s3a_flat", "s3b_hierarchical")
    )
    assert hierarchical.active == pytest.approx(flat.active, rel=0.02)  # 16 + 8/2 + 8/2 and 16 + 8
    assert hierarchical.tasks["tags"] == pytest.approx(flat.tasks["tags"] * 20 / 24, rel=0.02)
    with pytest.raises(ConfigError, match="active parameters of tags differ by 2[01]"):
        assert_parameter_parity([flat, hierarchical])
    assert assert_parameter_parity([hierarchical, hierarchical])


@pytest.mark.parametrize("parity", ["active", "total"])
@pytest.mark.parametrize("model", ["gemma2b", "phi3mini", "llama8b"])
def test_solved_ranks_meet_an_ambitious_target_both_ways(model, parity):
    strategies, lora = ablation(model)
    target = 80_000_000
    variants = solve_ranks(
        strategies, Base.of(empty_backbone(model), lora, HEADS), target=target, parity=parity
    )
    counts = [variant.count(parity) for variant in variants]
    assert max(counts) / min(counts) <= 1.05
    assert all(abs(count - target) <= 0.08 * target for count in counts)
    for variant in variants[2:]:
        assert 1.5 <= variant.strategy.rank / variant.strategy.private_rank <= 2.6


def test_26_million_active_on_llama_8b_is_rank_10_against_7_and_3():
    strategies, lora = ablation("llama8b")
    variants = solve_ranks(strategies, Base.of(empty_backbone("llama8b"), lora, HEADS), target=26_000_000)
    ranks = [(v.strategy.rank, v.strategy.private_rank) for v in variants]
    assert ranks == [(10, None), (None, 10), (7, 3), (7, 3)]


def test_a_target_that_whole_ranks_cannot_meet_names_the_nearest():
    strategies, lora = ablation("llama8b")
    with pytest.raises(ConfigError, match="one unit of rank is 2,621,440; the nearest target is [0-9,]+"):
        solve_ranks(
            strategies, Base.of(empty_backbone("llama8b"), lora, HEADS), target=26_000_000, parity="total"
        )


@pytest.mark.parametrize("parity", ["active", "total"])
def test_a_target_out_of_reach_of_a_small_backbone_is_refused_at_once(toys, parity):
    strategies, _ = ablation("gemma2b")
    loaded = toys.loaded("llama")
    base = Base.of(loaded.backbone, loaded.config.lora, HEADS)
    begun = time.perf_counter()
    with pytest.raises(
        ConfigError, match=r"of 26,000,000 .*the largest count that all reach is [0-9,]+;"
    ) as caught:
        solve_ranks(strategies, base, target=26_000_000, parity=parity)
    assert time.perf_counter() - begun < 1
    reached = int(re.search(r"reach is ([0-9,]+);", str(caught.value))[1].replace(",", ""))
    assert assert_parameter_parity(
        solve_ranks(strategies, base, target=reached, parity=parity), parity=parity
    )


def test_no_rank_is_higher_than_the_narrowest_layer_is_wide(toys):
    strategies, _ = ablation("gemma2b")
    loaded = toys.loaded("llama")
    base = Base.of(loaded.backbone, loaded.config.lora, {"ner": 10, "re": 12})
    assert base.highest_rank == 32  # two key heads of 16, half the hidden size
    (shared,) = solve_ranks(strategies[:1], base, target=10**5)
    assert shared.strategy.rank <= base.highest_rank


def test_a_table_of_unequal_variants_is_refused_and_shown():
    strategies, lora = ablation("gemma2b")
    base = Base.of(empty_backbone("gemma2b"), lora, HEADS)
    strategies[2].private_rank = 16
    variants = [Variant.of(strategy, base) for strategy in strategies]
    with pytest.raises(ConfigError, match=r"active parameters differ by 33\.\d%, more than 5%") as caught:
        assert_parameter_parity(variants)
    assert "16+16" in str(caught.value)


def test_a_head_of_the_first_level_is_not_counted_with_the_way_through_both():
    _, lora = ablation("gemma2b")
    hierarchical = compose(strategy="s3b_hierarchical", task=TWO).strategy
    heads = {"tags": 600_000, "answers": 10}
    low = frozenset({"tags"})
    both, first = (
        Variant.of(hierarchical, Base.of(empty_backbone("gemma2b"), lora, heads, first_level=levels))
        for levels in (frozenset(), low)
    )
    assert both.active - first.active == 600_000 - 10  # the longest way is now that of the answers
    assert both.total == first.total


def test_ranks_solved_for_the_hierarchy_are_the_same_on_both_levels():
    _, lora = ablation("gemma2b")
    hierarchical = compose(strategy="s3b_hierarchical", task=TWO).strategy
    (found,) = solve_ranks([hierarchical], Base.of(empty_backbone("gemma2b"), lora, HEADS), target=60_000_000)
    assert found.strategy.level1_rank == found.strategy.level2_rank > 8
    assert found.strategy.private_rank is None and found.active == pytest.approx(60_000_000, rel=0.05)


@pytest.mark.parametrize("heads", [HEADS, {"answers": 2_000, "spans": 9_000_000}])
def test_what_the_solver_finds_is_never_refused_afterwards(heads):
    """Nor for the task with the smallest heads, for which the same difference is a larger share."""
    strategies, lora = ablation("gemma2b")
    for target in range(20_000_000, 34_000_000, 700_000):
        variants = solve_ranks(strategies, Base.of(empty_backbone("gemma2b"), lora, heads), target=target)
        assert_parameter_parity(variants)


def test_an_unknown_parity_is_refused():
    strategies, lora = ablation("gemma2b")
    with pytest.raises(ConfigError, match="parity is 'equal'; allowed: active, total"):
        solve_ranks(strategies, Base.of(empty_backbone("gemma2b"), lora, HEADS), parity="equal")


def test_a_layer_that_the_backbone_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="lora.targets lm_head: no such linear layer in Gemma2Model"):
        Base.of(empty_backbone("gemma2b"), LoraSettings(targets=["q_proj", "lm_head"]), HEADS)
