"""A selection is typed and checked, and an error names the value, what is allowed and what to do."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import compose, members
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.page_files import find_pages
from kaggle_kit.core.schema import quantization_for
from kaggle_kit.study import DEFAULT
from kaggle_kit.study.power import SPREAD, Spread
from kaggle_kit.study.spec import PAGE_OF, controlled, load_selection, parts_of
from kaggle_kit.study.throughput import CostTable, read_figures, read_table


@pytest.mark.parametrize("name", members("study"))
def test_every_selection_is_sound_and_called_as_its_file(name):
    assert load_selection(name).name == name


def test_the_default_study_is_there_and_asks_rq5():
    selection = load_selection()
    assert selection.name == DEFAULT == "rq5_practice"
    assert selection.controls == ["total", "share"] and selection.verdict and len(selection.seeds) > 1


def test_s5_is_planned_only_for_models_that_are_not_in_nf4_already():
    parts = [(name, part) for name in members("study") for part in parts_of(load_selection(name))]
    asked = {name: part.models for name, part in parts if "s5_qlora" in part.strategies}
    assert asked.keys() == {"full", "exhaustive"}
    models = [compose(model=name).model for named in asked.values() for name in named]
    assert {quantization_for(model.parameters) for model in models} == {None}


def test_a_part_changes_some_keys_and_a_change_holds_for_every_part():
    full = load_selection("full")
    assert full.models[0] == "gemma2b" and "s3b_hierarchical" in full.strategies
    assert {len(part.seeds) for part in full.parts} == {8, 5, 3, 1}
    assert {tuple(part.tasks) for part in full.parts} == {tuple(full.tasks)}
    changed = load_selection("full", ["seeds=[4,5]", "profile=smoke"])
    assert {tuple(part.seeds) for part in changed.parts} == {(4, 5)}
    assert {part.profile for part in changed.parts} == {"smoke"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("parts=[{sedes: [1]}]", "unknown key 'sedes'.* did you mean 'seeds'"),
        ("parts=[{models: [tinny]}]", "models has unknown 'tinny'"),
        ("parts=[{seeds: [1,2]},{seeds: [3,4]}]", "a comparison names s2_shared-tiny twice"),
        (
            "primary={model: tiny,strategy: s3a_flat}",
            "primary is s3a_flat-tiny; the study compares: s2_shared-tiny",
        ),
    ],
)
def test_what_is_wrong_with_a_part_is_said(change, words):
    with pytest.raises(ConfigError, match=words):
        load_selection(DEFAULT, [change])


def test_the_primary_comparison_of_the_full_study_has_all_controls_and_eight_seeds():
    full = load_selection("full")
    (part,) = [part for part in full.parts if "placebo" in part.controls]
    assert part.strategies == [full.primary.strategy] and part.models == [full.primary.model]
    assert (len(part.seeds), part.controls) == (8, ["total", "share", "placebo"])
    experiments = {(ablation.experiment, ablation.strategy) for p in full.parts for ablation in p.ablations}
    assert {("ablation_architecture", f"a{n}") for n in (1, 2, 3, 4)} < experiments
    assert "mimic_exclusion" in {experiment for experiment, _ in experiments}


def test_every_strategy_has_a_page():
    assert set(PAGE_OF) == set(members("strategy")) and set(PAGE_OF.values()) <= set(find_pages())


def test_controls_are_made_of_every_multi_task_strategy_unless_some_are_named():
    both = "strategies=[s1_single,s2_shared,s3a_flat]"
    primary = "primary={model: tiny, strategy: s3a_flat}"
    assert controlled(load_selection(DEFAULT, [both, primary])) == ["s2_shared", "s3a_flat"]
    assert controlled(load_selection(DEFAULT, [both, "controlled=[s3a_flat]"])) == ["s3a_flat"]
    assert controlled(load_selection(DEFAULT, [both, "controls=[]", "verdict=false"])) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("modles=[tiny]", "unknown key 'modles'.* did you mean 'models'"),
        ("seeds=[one]", "seeds"),
        ("models=[tinny]", "models has unknown 'tinny'.* did you mean 'tiny'"),
        ("controls=[totals]", "controls has unknown 'totals'; allowed: total, share, placebo"),
        ("seeds=[1,1]", "seeds names 1 twice"),
        ("seeds=[]", "seeds is empty"),
        ("seeds=[1]", r"seeds is \[1\]: a verdict needs two or more seeds"),
        ("strategies=[s1_single]", "controls need a multi-task strategy to match"),
        ("strategies=[s5_qlora]", "s5_qlora chooses .* strategies lacks s3a_flat, s3b_hierarchical"),
        ("experiment=null", "controls need the experiment that fixes the margins"),
        ("overrides=[seed=7]", "overrides seed=7 belong in seeds"),
        ("controlled=[s3a_flat]", "controlled names s3a_flat; the selected multi-task strategies: s2_shared"),
    ],
)
def test_what_is_wrong_with_a_selection_is_said(change, told):
    with pytest.raises(ConfigError, match=told):
        load_selection(DEFAULT, [change])


def test_an_unknown_study_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown study 'ful'; allowed: .* did you mean 'full'"):
        load_selection("ful")


def test_every_declared_cost_names_its_source():
    table = read_table()
    groups = [getattr(table, name) for name in CostTable.__dataclass_fields__]
    assert all(figure.value > 0 and figure.source for group in groups for figure in group.values())
    for name in ("full", "public", "pilot", "exhaustive"):
        study = load_selection(name)
        assert set(study.models) <= set(table.tokens_per_second) and set(study.tasks) <= set(table.tokens)
    spread = read_figures(SPREAD, Spread)
    assert all(figure.source for key in vars(spread).values() for figure in key.values())


@pytest.mark.parametrize("key", ["name", "report"])
@pytest.mark.parametrize("value", ["/elsewhere/thesis", "..", ".", "../results", "a/b", "a b", ""])
def test_a_name_that_would_be_a_path_is_refused(key, value):
    for study in (DEFAULT, "full"):  # without parts, and with
        with pytest.raises(ConfigError, match=f"{key} is "):
            load_selection(study, [f"{key}={value!r}"])
