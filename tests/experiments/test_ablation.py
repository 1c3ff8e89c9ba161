"""Ablations: each experiment declares one factor and its levels, changes nothing else, and holds parity."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.gpu import empty_backbone
from kaggle_kit.batches.plan import StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.core.config import compose, config_hash, from_yaml, members, strategy_entry, to_yaml
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec
from kaggle_kit.experiment import preparation
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiments import ablation

TASKS = ("semeval2014t7", "semeval2021t6", "semeval2017t3")
ARCHITECTURES = ("a1", "a2", "a3", "a4")
FACTORS = {  # experiment -> factor, its level as declared, the level as the strategy holds it
    "ablation_pcgrad": ("pcgrad", {"on": True, "off": False}),
    "ablation_conflict_resolution": (
        "conflict_resolution",
        {"pcgrad": "pcgrad", "ortho_lora": "ortho_lora", "upgrad": "upgrad"},
    ),
    "ablation_fusion": ("fusion", {"attention": "attention", "gated": "gated", "none": "none"}),
    "ablation_cross_level": ("cross_level", {"attention": "attention", "concatenation": "concatenation"}),
    "ablation_detach_l1_for_l2": ("detach_l1_for_l2", {"off": False, "on": True}),
}
SPECS = {
    "ner": TaskSpec("ner", (ComponentSpec("ner", Kind.TOKENS, 1, ("Disease",)),)),
    "ranking": TaskSpec("ranking", (ComponentSpec("ranking", Kind.RANKING, 2, ("no", "yes")),)),
}

each_factor = pytest.mark.parametrize("experiment", FACTORS)


# As much of a loaded backbone as counting needs.
ON_GEMMA = SimpleNamespace(decoder=True, backbone=empty_backbone("gemma2b"))


def config_of(experiment: str, *overrides: str, strategy: str | None = None) -> RunConfig:
    chosen = [f"experiment={experiment}", *overrides]
    return compose(model="gemma2b", task=TASKS, strategy=strategy, profile="t4", overrides=chosen)


def every_reference(experiment: str) -> list[str]:
    return config_of(experiment).experiment["strategies"]


def test_every_one_factor_ablation_is_tried_here():
    declared = {name for name in members("experiment") if name.startswith("ablation_")}
    assert declared == {*FACTORS, "ablation_architecture"}


@each_factor
def test_a_level_sets_its_factor_and_nothing_else_of_the_strategy(experiment):
    for strategy in every_reference(experiment):
        assert_one_factor(experiment, strategy)


def assert_one_factor(experiment: str, reference: str) -> None:
    factor, values = FACTORS[experiment]
    configs = {
        level: config_of(experiment, f"experiment.level={level}", strategy=reference) for level in values
    }
    assert {level: getattr(config.strategy, factor) for level, config in configs.items()} == values
    rest = [asdict(config.strategy) for config in configs.values()]
    for strategy in rest:
        del strategy["name"], strategy[factor]
    assert all(strategy == rest[0] for strategy in rest)
    for level, config in configs.items():
        assert config.strategy.name == f"{reference}_{factor}_{level}"  # the manifest names all three
        assert config.training.selection == "last"
        assert ablation.levels(config) == {level: other.strategy for level, other in configs.items()}


@each_factor
def test_without_a_level_an_experiment_is_its_reference(experiment):
    for name in every_reference(experiment):
        config, reference = config_of(experiment, strategy=name), strategy_entry(name)
        assert replace(config.strategy, name=reference.name) == reference
        assert next(iter(ablation.levels(config))) == config.experiment["level"]


@each_factor
def test_a_run_reads_its_level_back_from_its_config(experiment):
    level = list(FACTORS[experiment][1])[-1]
    config = config_of(experiment, f"experiment.level={level}")
    again = from_yaml(to_yaml(config))
    assert again == config and config_hash(again) == config_hash(config)
    assert again.experiment["level"] == level


@pytest.mark.parametrize(
    ("experiment", "wrong"),
    [("ablation_pcgrad", "false"), ("ablation_pcgrad", "of"), ("ablation_fusion", "sum")],
)
def test_a_level_that_is_not_declared_is_refused_and_the_declared_ones_named(experiment, wrong):
    with pytest.raises(ConfigError, match=r"experiment\.level=\w+ is not legal; allowed: \w+, \w+"):
        config_of(experiment, f"experiment.level={wrong}")


def test_an_architecture_that_is_not_declared_is_refused():
    with pytest.raises(
        ConfigError, match=r"experiment\.level=s2_shared is not legal; allowed: a1, a2, a3, a4"
    ):
        config_of("ablation_architecture", strategy="s2_shared")


def test_a_second_factor_is_refused():
    config = config_of("ablation_pcgrad", "experiment.level=off", "strategy.pcgrad=true")
    with pytest.raises(ConfigError, match="not what experiment 'ablation_pcgrad' declares for level 'off'"):
        ablation.levels(config)
    config = config_of("ablation_architecture", "strategy.rank=64", strategy="a3")
    with pytest.raises(ConfigError, match="declares for level 'a3' of architecture"):
        ablation.levels(config)


def test_the_strategy_that_is_named_is_the_reference_and_one_that_is_not_offered_is_refused():
    """A named strategy was replaced by the experiment's own, without a word."""
    config = config_of("ablation_pcgrad", "experiment.level=off", strategy="s3b_hierarchical")
    assert config.strategy.kind == "hierarchical" and config.experiment["reference"] == "s3b_hierarchical"
    names = [strategy.name for strategy in ablation.levels(config).values()]
    assert names == ["s3b_hierarchical_pcgrad_on", "s3b_hierarchical_pcgrad_off"]
    assert config == config_of("ablation_pcgrad", "experiment.level=off", "strategy=s3b_hierarchical")
    told = "'ablation_fusion' is for strategy s3a_flat, and the strategy is 's3b_hierarchical'"
    with pytest.raises(ConfigError, match=told):
        config_of("ablation_fusion", strategy="s3b_hierarchical")
    with pytest.raises(ConfigError, match="experiment.reference=s3b_hierarchical, but the strategy is 's3a"):
        config_of("ablation_pcgrad", "experiment.reference=s3b_hierarchical")


def test_whatever_would_give_the_levels_other_tokens_is_refused():
    for experiment, strategy in (("ablation_architecture", "a4"), ("ablation_pcgrad", "s3b_hierarchical")):
        with pytest.raises(ConfigError, match="training.selection=best would let each level choose its own"):
            ablation.levels(config_of(experiment, "training.selection=best", strategy=strategy))
    with pytest.raises(ConfigError, match="not what experiment 'ablation_architecture' declares for level"):
        ablation.levels(config_of("ablation_architecture", "strategy.sampling=uniform", strategy="a2"))
    sampled = (
        "experiment.factor=sampling",
        "experiment.levels=[uniform,proportional]",
        "experiment.level=uniform",
    )
    more = (
        "strategy.fusion=attention",
        "strategy.sampling=uniform",
        "strategy.name=s3a_flat_sampling_uniform",
    )
    with pytest.raises(ConfigError, match="levels uniform and proportional would follow two step plans"):
        ablation.levels(config_of("ablation_fusion", *sampled, *more))


def plan_of(config: RunConfig) -> StepPlan:
    lengths = {name: np.arange(40 + 60 * n) % 17 + 5 for n, name in enumerate(TASKS)}
    rows = {name: TaskRows(tokens, np.arange(len(tokens))) for name, tokens in lengths.items()}
    return MultiTaskBatchSampler(rows, preparation.plan_settings(config), config.seed).plan()


def test_all_architectures_follow_one_step_plan():
    plans = [plan_of(config_of("ablation_architecture", strategy=name)) for name in ARCHITECTURES]
    assert len({plan.sha256 for plan in plans}) == len({plan.steps_sha256 for plan in plans}) == 1
    assert set(plans[0].tokens) == set(TASKS) and all(plans[0].tokens.values())
    other = plan_of(config_of("ablation_architecture", "strategy.sampling=uniform", strategy="a2"))
    assert other.steps_sha256 != plans[0].steps_sha256


@pytest.mark.parametrize("experiment", FACTORS)
def test_all_levels_take_the_same_steps_however_they_are_cut_into_micro_batches(experiment):
    for strategy in every_reference(experiment):
        levels = [f"experiment.level={level}" for level in FACTORS[experiment][1]]
        plans = [plan_of(config_of(experiment, level, strategy=strategy)) for level in levels]
        plans.append(plan_of(config_of(experiment, "training.token_budget=600", strategy=strategy)))
        assert len({plan.steps_sha256 for plan in plans}) == 1
        assert len({str(plan.tokens) for plan in plans}) == len({len(plan) for plan in plans}) == 1
        assert len({plan.sha256 for plan in plans}) > 1  # PCGrad's null and a GPU's memory cut them otherwise


def test_an_experiment_that_is_no_ablation_is_told_apart():
    with pytest.raises(ConfigError, match="experiment has no factor, levels, level; choose an ablation"):
        ablation.levels(compose(task=TASKS, strategy="s2_shared"))
    with pytest.raises(ConfigError, match="experiment.factor=fusoin is no key of a strategy — did you mean"):
        ablation.levels(config_of("ablation_fusion", "experiment.factor=fusoin"))


def test_an_experiment_is_carried_out_by_its_own_page_alone(tmp_path):
    """`run s3a_flat experiment=ablation_pcgrad` would have trained without asserting parity."""
    for experiment in (*FACTORS, "mimic_exclusion"):
        config = replace(config_of("ablation_pcgrad"), experiment={"name": experiment, "page": "own"})
        with pytest.raises(ConfigError, match=f"experiment '{experiment}' is carried out by page own"):
            start_run(config, page="s3a_flat", runs_dir=tmp_path)
        assert not list(tmp_path.iterdir())


@each_factor
def test_the_levels_hold_parity_for_every_task_on_a_2b_backbone(experiment):
    for strategy in every_reference(experiment):
        for level in FACTORS[experiment][1]:
            config = config_of(experiment, f"experiment.level={level}", strategy=strategy)
            matched, variants = ablation.matched_strategy(config, ON_GEMMA, SPECS)
            declared = list(ablation.levels(config).values())
            assert [variant.strategy for variant in variants] == declared  # and their ranks
            assert matched == config.strategy
            for task in SPECS:
                counts = [variant.tasks[task] for variant in variants]
                assert max(counts) / min(counts) <= 1.05


def test_a_level_that_costs_many_parameters_is_refused_until_its_ranks_are_solved():
    wide = ("experiment.level=attention", "strategy.fusion_rank=768")
    with pytest.raises(ConfigError, match="active parameters differ by .*experiment.target solves them"):
        ablation.matched_strategy(config_of("ablation_fusion", *wide), ON_GEMMA, SPECS)
    ranks, active = {}, {}
    for level in FACTORS["ablation_fusion"][1]:
        more = (f"experiment.level={level}", wide[1], "experiment.target=60000000")
        config = config_of("ablation_fusion", *more)
        matched, variants = ablation.matched_strategy(config, ON_GEMMA, SPECS)
        ranks[level] = matched.rank
        (own,) = [variant for variant in variants if variant.strategy == matched]
        active[level] = own.active
    assert max(active.values()) / min(active.values()) <= 1.05
    assert ranks["none"] > ranks["attention"]


def test_a_target_holds_for_every_level():
    config = config_of("ablation_cross_level", "experiment.target=60000000")
    matched, variants = ablation.matched_strategy(config, ON_GEMMA, SPECS)
    assert all(abs(variant.active / 60_000_000 - 1) <= 0.05 for variant in variants)
    assert matched.rank > 16 and matched.level1_rank == matched.level2_rank > 8


@pytest.mark.parametrize("key", ["rank", "level1_rank", "level2_rank"])
def test_a_rank_beside_a_target_which_solves_it_is_refused(key):
    config = config_of("ablation_cross_level", "experiment.target=60000000", f"strategy.{key}=12")
    with pytest.raises(ConfigError, match=f"strategy.{key}=12 beside experiment.target=60000000"):
        ablation.matched_strategy(config, ON_GEMMA, SPECS)


def run_of(strategy: str, *more: str) -> RunConfig:
    chosen = ["experiment=ablation_architecture", *more]
    return compose(model="gemma2b", task=TASKS, strategy=strategy, overrides=chosen)


@pytest.fixture(scope="module")
def specs() -> dict[str, TaskSpec]:
    return Experiment(run_of("a1")).specs


@pytest.mark.parametrize(
    ("parity", "target"), [("active", None), ("active", 26_000_000), ("total", 90_000_000)]
)
def test_all_runs_of_an_architecture_ablation_find_the_same_ranks_and_train_their_own(specs, parity, target):
    more = (f"experiment.parity={parity}", f"experiment.target={target or 'null'}")
    found = [ablation.matched_strategy(run_of(name, *more), ON_GEMMA, specs) for name in ARCHITECTURES]
    first = found[0][1]
    assert all(variants == first for _, variants in found)
    assert [strategy for strategy, _ in found] == [variant.strategy for variant in first]
    if target is None:
        ranks = [(variant.strategy.rank, variant.strategy.private_rank) for variant in first]
        assert ranks == [(24, None), (None, 24), (16, 8), (16, 8)]
    each = [[v.tasks[task] for v in first] for task in TASKS] if parity == "active" else []
    for counts in (*each, [variant.count(parity) for variant in first]):
        assert max(counts) / min(counts) <= 1.05


def test_what_a_level_changes_is_its_factor_and_nothing_else():
    rows = ablation.changes(ablation.levels(config_of("ablation_pcgrad")))
    assert rows == [{"key": "pcgrad", "on": True, "off": False}]
    architectures = {row["key"]: row for row in ablation.changes(ablation.levels(run_of("a4")))}
    fusions = {"a1": "none", "a2": "none", "a3": "none", "a4": "attention"}
    assert architectures["fusion"] == {"key": "fusion"} | fusions
    assert "sampling" not in architectures and "name" not in architectures


def test_one_task_is_no_comparison_of_architectures():
    for name in ARCHITECTURES:
        with pytest.raises(ConfigError, match="trains several tasks, but tasks are: semeval2017t3"):
            config_of("ablation_architecture", "task=semeval2017t3", strategy=name)
