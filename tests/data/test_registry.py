"""The registry: the study's tasks with their levels, access and the figures to beat."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kaggle_kit.analysis.anchors import published_best
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Kind
from kaggle_kit.data.formats import FORMATS
from kaggle_kit.data.registry import describe, task, task_names

STUDY = ("semeval2014t7", "semeval2015t14", "semeval2016t12", "semeval2017t3", "semeval2021t6")
OPEN = ("ncbi_disease", "ddi2013", "measeval2021t8", "maccrobat_temporal", "bc5cdr")


def test_the_five_tasks_and_the_open_ones_are_known():
    assert sorted(STUDY + OPEN) == task_names()


@pytest.mark.parametrize(
    ("name", "levels"), list(zip(STUDY, ({1}, {1}, {1, 2}, {2}, {1, 2}), strict=True)), ids=STUDY
)
def test_each_study_task_stands_on_its_levels(name, levels):
    assert {part.level for part in task(name).components} == levels


@pytest.mark.parametrize("name", STUDY + OPEN)
def test_a_task_names_a_known_format_and_legal_kinds(name):
    known = task(name)
    assert known.format in FORMATS
    assert {part.kind for part in known.components} <= {kind.value for kind in Kind}
    assert known.layout and known.primary_metric and known.reference and known.licence


def test_clinical_notes_are_restricted_and_the_open_tasks_are_not():
    restricted = {name for name in task_names() if task(name).access == "restricted"}
    assert restricted == {"semeval2014t7", "semeval2015t14", "semeval2016t12"}


@pytest.mark.parametrize(
    ("name", "value"), [("semeval2014t7", 0.813), ("semeval2015t14", 0.757), ("semeval2017t3", 0.8843)]
)
def test_the_published_bests_are_those_of_the_overview_papers(name, value):
    known = task(name)
    first = next(result for result in known.published_best if result.metric == known.primary_metric)
    assert first.value == value


def test_the_slot_says_that_it_is_one_and_claims_no_result():
    slot = task("semeval2021t6")
    assert "slot" in slot.title and not slot.published_best
    for corpus in ("DDI 2013", "BC5CDR", "MACCROBAT"):
        assert corpus in slot.reference and corpus in slot.obtain


def test_changing_a_task_does_not_change_the_registry():
    task("bc5cdr").layout.clear()
    assert task("bc5cdr").layout


def test_an_unknown_task_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'ncbi_disease'"):
        task("ncbi_diseases")


def test_the_table_has_one_row_per_task():
    rows = {row["task"]: row for row in describe()}
    assert list(rows) == task_names()
    assert rows["semeval2016t12"]["levels"] == "1+2"


@pytest.mark.parametrize("name", task_names())
def test_a_zero_shot_threshold_is_70_per_cent_of_the_best_published_score(name):
    known = task(name)
    best = published_best(asdict(known))
    assert known.zero_shot_threshold == (None if best is None else round(0.7 * best, 2))
    assert known.contamination_risk in ("low", "medium", "high") or name == "semeval2021t6"
