"""A selection is typed and checked, and an error names the value, what is allowed and what to do."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import compose, members
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import quantization_for
from kaggle_kit.ops.pages import find_pages
from kaggle_kit.ops.study import DEFAULT
from kaggle_kit.ops.study.known import CostTable, read_table
from kaggle_kit.ops.study.selection import PAGE_OF, controlled, load_selection


@pytest.mark.parametrize("name", members("study"))
def test_every_selection_is_sound_and_called_as_its_file(name):
    assert load_selection(name).name == name


def test_the_default_study_is_there_and_asks_rq5():
    selection = load_selection()
    assert selection.name == DEFAULT == "rq5_practice"
    assert selection.controls == ["total", "share"] and selection.verdict and len(selection.seeds) > 1


def test_s5_is_planned_only_for_models_that_are_not_in_nf4_already():
    asked = [name for name in members("study") if "s5_qlora" in load_selection(name).strategies]
    assert asked == ["full_s5"]
    models = [compose(model=name).model for name in load_selection("full_s5").models]
    assert {quantization_for(model.parameters) for model in models} == {None}
    judged = ['overrides=["profile.report=[dev,test]"]', "controls=[total]", "verdict=true"]
    assert controlled(load_selection("full_s5", judged)) == ["s5_qlora"]


def test_every_strategy_has_a_page():
    assert set(PAGE_OF) == set(members("strategy")) and set(PAGE_OF.values()) <= set(find_pages())


def test_twins_are_made_of_every_multi_task_strategy_unless_some_are_named():
    full = load_selection("full")
    assert controlled(full) == full.strategies[1:]
    assert controlled(load_selection("full", ["controlled=[s3b_hierarchical]"])) == ["s3b_hierarchical"]
    assert controlled(load_selection("full", ["controls=[]", "verdict=false"])) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("modles=[tiny]", "unknown key 'modles'.* did you mean 'models'"),
        ("seeds=[one]", "seeds"),
        ("models=[tinny]", "models has unknown 'tinny'.* did you mean 'tiny'"),
        ("controls=[totals]", "controls has unknown 'totals'; allowed: total, share"),
        ("seeds=[1,1]", "seeds names 1 twice"),
        ("seeds=[]", "seeds is empty"),
        ("seeds=[1]", r"seeds is \[1\]: a verdict needs two or more seeds"),
        ("strategies=[s1_single]", "controls need a multi-task strategy to match"),
        (
            "strategies=[s5_qlora]",
            "s5_qlora chooses .* strategies lacks s3a_flat, s3b_hierarchical",
        ),
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
    full = load_selection("full")
    assert set(full.models) <= set(table.tokens_per_second) and set(full.tasks) <= set(table.tokens)
