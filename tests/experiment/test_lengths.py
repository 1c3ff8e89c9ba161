"""training.max_length=auto: decided before the plan by the tokens of training sequences, and recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.preparation import decide_max_length, sequence_lengths
from tests.experiment.test_rounds import NER, RANKING, small_models  # noqa: F401

AUTO = ("training.max_length=auto", "practice.documents=6", "practice.terms=20")


def decided(lengths: list[int], *overrides: str) -> int:
    config = compose(overrides=["training.max_length=auto", *overrides])
    return int(decide_max_length(config, {NER: np.array(lengths)}).value)


def test_auto_is_the_99th_percentile_rounded_up_to_a_multiple_of_eight():
    lengths = [*range(1, 100), 5_000]  # the 99th of 100 is 99
    assert decided(lengths, "training.stride=8") == 104
    assert decided(lengths, "training.stride=8", "training.max_length=auto90") == 96
    assert decided(lengths, "training.stride=8", "training.max_length=auto100") == 1024, "tiny's positions"
    assert decided(lengths, "training.max_length=auto100", "training.token_budget=512") == 512


def test_a_window_is_never_shorter_than_two_strides():
    assert decided([5, 6, 7]) == 64


def test_the_longest_task_decides_and_the_reason_names_every_task():
    config = compose(task=[NER, RANKING], strategy="s2_shared", overrides=["training.max_length=auto"])
    made = decide_max_length(config, {NER: np.array([90] * 9), RANKING: np.array([120] * 9)})
    assert made.value == "120" and f"{NER} 90, {RANKING} 120" in made.reason
    with pytest.raises(ConfigError, match=f"{NER} has no text"):
        decide_max_length(config, {NER: np.array([])})


@pytest.mark.parametrize("value", ["automatic", "auto42", "auto101", "'128'", "7", "2.5"])
def test_another_word_or_a_number_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match="max_length"):
        compose(overrides=[f"training.max_length={value}"])


def test_a_page_that_starts_its_run_itself_refuses_what_nobody_has_decided(tmp_path):
    config = compose(overrides=["training.max_length=auto"])
    with pytest.raises(ConfigError, match="give a number of tokens"):
        start_run(config, page="toy", runs_dir=tmp_path)


def test_a_run_is_planned_with_the_number_and_records_it(tmp_path):
    task, more = f"{NER},{RANKING}", ("training.max_steps=2", "profile.max_dev_samples=2")
    asked = {"task": task, "strategy": "s2_shared", "overrides": [*AUTO, *more], "runs_dir": tmp_path}
    exp = Experiment.open("s2_shared", **asked)
    number = exp.config.training.max_length
    assert isinstance(number, int) and exp.run.config()["training"]["max_length"] == number
    lengths = np.concatenate([encoded.lengths for encoded in exp.encoded.values()])
    assert lengths.max() <= number
    exp.train()
    exp.evaluate()
    exp.finish()
    value, reason = exp.run.manifest()["decisions"]["max_length"]
    assert value == str(number) and "99th percentile" in reason
    assert exp.run.facts["asked_hash"] == config_hash(
        compose(task=task.split(","), strategy="s2_shared", overrides=asked["overrides"])
    )


def test_sequences_are_sentences_documents_or_pairs_and_none_is_cut(tmp_path):
    exp = Experiment.open("s2_shared", task=f"{NER},{RANKING}", strategy="s2_shared", runs_dir=tmp_path)
    tokenizer, task = exp.backbone.tokenizer, exp.config.tasks[NER]
    sample = exp.samples()[NER][0]
    sentences = sequence_lengths(task, [sample], tokenizer)
    (document,) = sequence_lengths(replace(task, segments="windows"), [sample], tokenizer)
    assert len(sentences) > 1 and document == sentences.sum() - (len(sentences) - 1)  # one <s> each
    question = exp.samples()[RANKING][0]
    assert len(sequence_lengths(exp.config.tasks[RANKING], [question], tokenizer)) == len(question.pairs)
