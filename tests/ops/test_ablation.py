"""Ablations: each experiment declares one factor and its levels, changes nothing else, and holds parity."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from kaggle_kit.core.config import (
    compose,
    config_hash,
    from_yaml,
    members,
    strategy_entry,
    task_entry,
    to_yaml,
)
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec
from kaggle_kit.models.shapes import SHAPES
from kaggle_kit.ops import ablation, wiring

TASKS = ("semeval2014t7", "semeval2021t6", "semeval2017t3")
FACTORS = {  # experiment -> factor, its level as declared, the level as the strategy holds it
    "ablation_pcgrad": ("pcgrad", {"on": True, "off": False}),
    "ablation_fusion": ("fusion", {"attention": "attention", "gated": "gated", "none": "none"}),
    "ablation_cross_level": (
        "cross_level",
        {"attention": "attention", "concatenation": "concatenation"},
    ),
    "ablation_detach_l1_for_l2": ("detach_l1_for_l2", {"off": False, "on": True}),
}
SPECS = {
    "ner": TaskSpec("ner", (ComponentSpec("ner", Kind.TOKENS, 1, ("Disease",)),)),
    "ranking": TaskSpec("ranking", (ComponentSpec("ranking", Kind.RANKING, 2, ("no", "yes")),)),
}

each_factor = pytest.mark.parametrize("experiment", FACTORS)


# As much of a loaded backbone as counting needs.
ON_GEMMA = SimpleNamespace(decoder=True, backbone=SimpleNamespace(config=SHAPES["gemma2b"]))


def config_of(experiment: str, *overrides: str, strategy: str = "s2_shared") -> RunConfig:
    chosen = [f"experiment={experiment}", *overrides]
    return compose(model="gemma2b", task=TASKS, strategy=strategy, profile="t4", overrides=chosen)


def test_every_one_factor_ablation_is_tried_here():
    declared = {name for name in members("experiment") if name.startswith("ablation_")}
    assert declared == {*FACTORS, "ablation_architecture"}


@each_factor
def test_a_level_sets_its_factor_and_nothing_else_of_the_strategy(experiment):
    factor, values = FACTORS[experiment]
    configs = {level: config_of(experiment, f"experiment.level={level}") for level in values}
    assert {level: getattr(config.strategy, factor) for level, config in configs.items()} == values
    rest = [asdict(config.strategy) for config in configs.values()]
    for strategy in rest:
        del strategy["name"], strategy[factor]
    assert all(strategy == rest[0] for strategy in rest)
    for level, config in configs.items():
        assert config.strategy.name.endswith(f"_{factor}_{level}")  # so the manifest names factor and level
        assert ablation.levels(config) == {level: other.strategy for level, other in configs.items()}


@each_factor
def test_without_a_level_an_experiment_is_its_reference(experiment):
    config = config_of(experiment)
    reference = strategy_entry(config.strategy.name.partition("_")[0])
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


def test_another_reference_is_named_twice_or_refused():
    config = config_of("ablation_pcgrad", "strategy=s3b_hierarchical", "experiment.level=off")
    with pytest.raises(ConfigError, match="the strategy is 'S3b .*, but experiment.reference is 'a3'"):
        ablation.levels(config)
    both = ("strategy=s3b_hierarchical", "experiment.reference=s3b_hierarchical", "experiment.level=off")
    names = [strategy.name for strategy in ablation.levels(config_of("ablation_pcgrad", *both)).values()]
    assert names == ["s3b_hierarchical_pcgrad_on", "s3b_hierarchical_pcgrad_off"]


def test_an_experiment_that_is_no_ablation_is_told_apart():
    with pytest.raises(ConfigError, match="experiment has no factor, levels, level; choose an ablation"):
        ablation.levels(compose(task=TASKS, strategy="s2_shared"))
    with pytest.raises(ConfigError, match="experiment.factor=fusoin is no key of a strategy — did you mean"):
        ablation.levels(config_of("ablation_fusion", "experiment.factor=fusoin"))


@each_factor
def test_the_levels_hold_parity_on_a_2b_backbone(experiment):
    for level in FACTORS[experiment][1]:
        config = config_of(experiment, f"experiment.level={level}")
        matched, table = ablation.matched_strategy(config, ON_GEMMA, SPECS)
        lines = table.splitlines()[1:]
        assert [line.split()[0] for line in lines] == [
            strategy.name for strategy in ablation.levels(config).values()
        ]
        assert matched.name == config.strategy.name
        assert (matched.rank, matched.private_rank) == (16, 8)  # no level's factor weighs as much as a rank
        ratios = [float(line.split("%")[0].split()[-1]) for line in lines]
        assert all(abs(ratio) <= 5.0 for ratio in ratios)


def test_ranks_are_solved_again_where_a_level_costs_many_parameters():
    ranks, active = {}, {}
    for level in FACTORS["ablation_fusion"][1]:
        config = config_of("ablation_fusion", f"experiment.level={level}", "strategy.fusion_rank=768")
        matched, table = ablation.matched_strategy(config, ON_GEMMA, SPECS)
        ranks[level] = matched.rank
        (line,) = [line for line in table.splitlines() if line.startswith(config.strategy.name)]
        active[level] = int(line.split()[3].replace(",", ""))
    assert max(active.values()) / min(active.values()) <= 1.05
    assert ranks["none"] > ranks["attention"] == 16


def test_a_target_holds_for_every_level():
    config = config_of("ablation_cross_level", "experiment.target=60000000")
    matched, table = ablation.matched_strategy(config, ON_GEMMA, SPECS)
    counts = [int(line.split()[3].replace(",", "")) for line in table.splitlines()[1:]]
    assert all(abs(count / 60_000_000 - 1) <= 0.05 for count in counts)
    assert matched.rank > 16


def run_of(strategy: str, *tasks: str, more: tuple[str, ...] = ()) -> RunConfig:
    chosen = ["experiment=ablation_architecture", f"experiment.tasks=[{','.join(TASKS)}]", *more]
    return compose(model="gemma2b", task=tasks, strategy=strategy, overrides=chosen)


def solved(config: RunConfig) -> tuple[RunConfig, str]:
    specs = wiring.task_specs(config, wiring.open_corpora(config))
    return ablation.matched_strategy(config, ON_GEMMA, specs)


@pytest.mark.parametrize(("parity", "target"), [("active", 26_000_000), ("total", 90_000_000)])
def test_all_runs_of_an_architecture_ablation_print_one_table_and_train_its_ranks(parity, target):
    more = (f"experiment.parity={parity}", f"experiment.target={target}")
    alone = [run_of("a1", task, more=more) for task in TASKS]
    together = [run_of(name, *TASKS, more=more) for name in ("a2", "a3", "a4")]
    found = [solved(config) for config in (*alone, *together)]
    (table,) = {table for _, table in found}
    ranks = {line.split()[0]: line.split()[2] for line in table.splitlines()[1:]}
    for strategy, _ in found:
        own = f"{strategy.rank}+{strategy.private_rank}" if strategy.private_rank else f"{strategy.rank}"
        assert own == ranks[strategy.name]
    counts = [
        int(line.split()[3 if parity == "active" else -2].replace(",", "")) for line in table.splitlines()[1:]
    ]
    assert max(counts) / min(counts) <= 1.05


def test_a_single_task_run_that_is_not_told_the_other_tasks_is_refused():
    config = config_of("ablation_architecture", "task=semeval2017t3", strategy="a1")
    with pytest.raises(
        ConfigError, match=r"give experiment\.tasks=\[semeval2017t3,…\] with all tasks that A2"
    ):
        ablation.levels(config)


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ("[semeval2014t7,semeval2021t6]", "leaves out semeval2017t3, which this run trains"),
        ("[semeval2017t3]", "told of semeval2017t3 alone"),
        ("semeval2017t3", r"is no list; write experiment.tasks=\[semeval2017t3\]"),
    ],
)
def test_tasks_of_a_comparison_that_is_none_are_refused(tasks, told):
    more = ("task=semeval2017t3", f"experiment.tasks={tasks}")
    with pytest.raises(ConfigError, match=told):
        ablation.levels(config_of("ablation_architecture", *more, strategy="a1"))


def test_a_task_that_there_is_not_is_refused_with_the_nearest():
    config = run_of("a1", TASKS[0], more=(f"experiment.tasks=[{TASKS[0]},semeval2021t5]",))
    with pytest.raises(ConfigError, match="unknown task 'semeval2021t5'; allowed: .*did you mean"):
        solved(config)


def test_another_tasks_corpus_is_read_only_where_its_entry_leaves_labels_open(monkeypatch):
    read = []
    roots = wiring.corpus_roots
    monkeypatch.setattr(
        wiring, "corpus_roots", lambda config, tasks: read.extend(tasks) or roots(config, tasks)
    )
    specs = [wiring.declared_spec(run_of("a1", TASKS[0]), task_entry(name)) for name in TASKS]
    assert read == ["semeval2021t6"]
    assert all(part.labels and not part.candidates for spec in specs for part in spec.components)
