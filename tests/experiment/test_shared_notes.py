"""Training documents that another task is scored on: left out, alone or together, and told apart by text."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.data.registry import task, task_names
from kaggle_kit.experiment import preparation

PIPES, SLOTS, BRAT = "semeval2014t7", "semeval2015t14", "semeval2021t6"
SLOT = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"


def notes(folder: Path, line: str, **texts: str) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.text").write_text(text)
        (folder / f"{name}.pipe").write_text(line.format(name=name))


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    """2015's training split holds 2014's development note under another id, its white space otherwise."""
    pipe = "{name}.txt||Disease_Disorder||C1||0||4\n"
    notes(tmp_path / PIPES / "train", pipe, first="Pain since Monday.")
    notes(tmp_path / PIPES / "devel", pipe, second="Rash of\nthe left hand.")
    notes(tmp_path / PIPES / "test", pipe, third="Gout of the right foot.")
    slots = "{name}.txt|0-4|C1|" + SLOT + "\n"
    train = {"a": "Pain since Monday.", "b": "Rash of  the left hand.\n", "c": "Gout of the right foot."}
    notes(tmp_path / SLOTS / "train", slots, **train)
    notes(tmp_path / SLOTS / "devel", slots, d="Cold for a week.")
    for split, names in (("train", "xy"), ("dev", "z")):
        (tmp_path / BRAT / split).mkdir(parents=True)
        for name in names:
            (tmp_path / BRAT / split / f"{name}.ann").write_text("T1\tSign 0 4\tCold\n")
    (tmp_path / BRAT / "train" / "x.txt").write_text("COLD for a week.")
    (tmp_path / BRAT / "train" / "y.txt").write_text("Cold since Friday.")
    (tmp_path / BRAT / "dev" / "z.txt").write_text("Colds are common.")
    monkeypatch.setenv("KAGGLE_KIT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(*tasks: str) -> RunConfig:
    return compose(
        task=tasks, strategy="s2_shared" if len(tasks) > 1 else "s1_single", overrides=["profile.corpora=any"]
    )


def trained_on(corpora) -> dict[str, list[str]]:
    return {name: [s.document_id for s in corpus.splits["train"]] for name, corpus in corpora.items()}


def test_a_run_on_both_and_a_run_on_one_learn_from_the_same_notes(corpora, caplog):
    with caplog.at_level(logging.WARNING, "kaggle_kit"):
        both = preparation.open_corpora(config_of(PIPES, SLOTS))
    assert trained_on(both) == {PIPES: ["first"], SLOTS: ["a"]}
    assert both[SLOTS].left_out == ("b", "c") and both[PIPES].left_out == ()
    assert f"{SLOTS}: 2 training documents left out, {PIPES} is scored on them" in caplog.text
    alone = preparation.open_corpora(config_of(SLOTS))
    assert alone[SLOTS].splits == both[SLOTS].splits and alone[SLOTS].left_out == both[SLOTS].left_out


def test_what_another_task_of_the_run_is_scored_on_is_left_out_though_nobody_declared_it(corpora):
    together = preparation.open_corpora(config_of(SLOTS, BRAT))
    assert together[BRAT].left_out == ("x",) and trained_on(together)[BRAT] == ["y"]


def test_a_run_can_repeat_what_another_left_out(corpora):
    twin = preparation.open_corpora(config_of(BRAT), left_out={BRAT: ["x"], SLOTS: ["b"]})
    assert trained_on(twin) == {BRAT: ["y"]} and twin[BRAT].left_out == ("x",)
    assert preparation.open_corpora(config_of(BRAT))[BRAT].left_out == ()


def test_where_the_other_corpus_is_not_here_a_line_says_so(corpora, caplog):
    (corpora / PIPES).rename(corpora / "elsewhere")
    with caplog.at_level(logging.WARNING, "kaggle_kit"):
        assert preparation.open_corpora(config_of(SLOTS))[SLOTS].left_out == ()
    assert f"{SLOTS} shares notes with {PIPES}, which is not on this machine" in caplog.text


def test_a_line_says_where_declared_notes_or_a_split_of_them_are_not_to_be_found(corpora, caplog):
    for folder in ("devel", "test"):
        (corpora / PIPES / folder).rename(corpora / PIPES / f"no_{folder}")
    with caplog.at_level(logging.WARNING, "kaggle_kit"):
        assert preparation.open_corpora(config_of(SLOTS))[SLOTS].left_out == ()
    assert f"{PIPES} has no split 'dev' at" in caplog.text
    assert f"{SLOTS} shares notes with {PIPES}, but none of its texts was found there" in caplog.text


def test_a_task_that_would_have_nothing_left_to_train_on_is_refused(corpora):
    (corpora / BRAT / "train" / "y.txt").write_text("Cold for a week.")
    with pytest.raises(ConfigError, match=f"{BRAT}: all 2 training documents are scored in another task"):
        preparation.open_corpora(config_of(SLOTS, BRAT))


def test_practice_corpora_lose_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))
    tasks = [PIPES, SLOTS, "semeval2016t12", "semeval2017t3", BRAT]
    config = compose(
        task=tasks, strategy="s2_shared", overrides=["practice.terms=20", "profile.report=[dev,test]"]
    )
    assert not any(corpus.left_out for corpus in preparation.open_corpora(config).values())


def test_a_task_shares_notes_with_known_tasks_only():
    named = {other for name in task_names() for other in task(name).shares_notes_with}
    assert named == {PIPES} and named <= set(task_names())
