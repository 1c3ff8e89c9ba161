"""The drop out of distribution: new words, intervals over documents, and the figure, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.types import Access, Mention, UnifiedSample
from kaggle_kit.experiments.ood import (
    ArmResult,
    arm_table,
    document_scores,
    drop_figure,
    drop_interval,
    shift_table,
)

NER, METRIC = "semeval2014t7", "task_a_strict_f1"


def sample(text: str, *spans: tuple[int, int]) -> UnifiedSample:
    mentions = tuple(Mention(str(n), (span,), "Disorder") for n, span in enumerate(spans))
    return UnifiedSample(text[:3], text, "train", Access.PUBLIC, mentions)


def counted(folder: RunFolder, split: str, *counts: tuple[int, int, int]) -> RunFolder:
    folder.path.mkdir(parents=True, exist_ok=True)
    names = ("tp", "fp", "fn")
    records = [
        {"document": f"n{i}", **dict(zip(names, count, strict=True))} for i, count in enumerate(counts)
    ]
    folder.write_documents(NER, split, records)
    return folder


@pytest.fixture
def scored(tmp_path):
    """An arm that is right in every document inside, and in half of each document outside."""
    facts = {"tasks": [NER], "strategy": "s1_single", "seed": 1, "run_id": "one"}
    arm = counted(RunFolder(tmp_path / "one", facts), "test", (4, 0, 0), (2, 0, 0))
    page = RunFolder(tmp_path / "page", {"tasks": [NER]})
    counted(RunFolder(page.path / "arms" / "one"), "ood", (1, 1, 1), (3, 3, 3))
    return page, ArmResult(arm, "test", (METRIC, METRIC), 1.0, 0.5, ())


def test_new_words_and_mentions_are_those_that_the_training_split_lacks():
    train = [sample("rash and cough", (0, 4), (9, 14))]
    held = [sample("Rash or gout or gout", (0, 4), (8, 12), (16, 20))]
    inside, outside = shift_table(train, held).to_dict("records")
    assert (inside["words"], inside["new words"], inside["new mentions"]) == (3, 0.0, 0.0)
    assert (outside["documents"], outside["words"], outside["mentions"]) == (1, 5, 3)
    assert outside["new words"] == pytest.approx(4 / 5) and outside["new mentions"] == pytest.approx(2 / 3)


def test_documents_that_are_all_alike_leave_no_room_for_an_interval(scored):
    assert drop_interval(*scored, resamples=100) == pytest.approx((0.5, 0.5))
    (row,) = arm_table(scored[0], [scored[1]], resamples=20).to_dict("records")
    assert (row["arm"], row["drop"], row["low"]) == ("s1_single on 1 task", 0.5, pytest.approx(0.5))


def test_documents_that_differ_give_an_interval_around_the_drop(scored):
    page, result = scored
    counted(RunFolder(page.path / "arms" / "one"), "ood", (2, 0, 0), (0, 2, 2))
    low, high = drop_interval(page, result, resamples=400)
    assert (low, high) == pytest.approx((0.0, 1.0))  # a quarter of the draws holds one document twice


def test_documents_on_which_arms_differ_most_come_first(scored):
    page, result = scored
    counted(RunFolder(page.path / "arms" / "two"), "ood", (1, 1, 1), (6, 0, 0))
    facts = {"tasks": [NER, "semeval2021t6"], "strategy": "s2_shared", "seed": 1, "run_id": "two"}
    other = replace(result, run=RunFolder(page.path.parent / "two", facts))
    table = document_scores(page, [result, other])
    assert list(table["document"]) == ["n1", "n0"] and list(table["spread"]) == [0.5, 0.0]
    assert list(table.columns[1:3]) == ["s1_single on 1 task, seed 1", "s2_shared on 2 tasks, seed 1"]


def test_an_arm_without_documents_has_a_drop_and_no_interval(scored, tmp_path):
    page, result = scored
    (result.run.documents / f"{NER}.test.jsonl").unlink()
    assert drop_interval(page, result, resamples=20) is None
    table = arm_table(page, [result])
    assert table["low"].isna().all() and table["drop"].tolist() == [0.5]
    left, right = drop_figure(table).axes
    assert [line.get_xdata()[0] for line in left.lines[1:]] == [1.0, 0.5]
    assert right.lines[1].get_xdata()[0] == 50.0
