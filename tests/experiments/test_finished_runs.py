"""Instruments on finished runs: stored predictions beside gold, whatever a run predicts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from kaggle_kit.analysis.error_types import MISSED
from kaggle_kit.core.artifacts import RunFolder, read_predictions
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.restricted import prediction_line
from kaggle_kit.experiment import finished_runs
from kaggle_kit.experiment.finished_runs import (
    errors_of,
    judged,
    opened,
    practice_run,
    scores_of,
    word_scores,
)
from kaggle_kit.experiment.inference import Load, bare, inference_rows
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.experiments.transfer_runs import practice_arms
from tests.experiment.test_rounds import RANKING, small_models  # noqa: F401
from tests.experiments.test_ood import NER, RELATIONS, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_models) -> RunFolder:  # noqa: F811
    return trained(tmp_path_factory.mktemp("runs"), "s2_shared", NER, RELATIONS, RANKING)


def test_predictions_are_read_back_to_the_letter(run):
    for task in run.facts["tasks"]:
        read = read_predictions(run, task, "dev")
        assert "".join(map(prediction_line, read)) == (run.predictions / f"{task}.dev.jsonl").read_text()


def test_predictions_that_were_not_kept_or_were_edited_are_refused(run, tmp_path):
    with pytest.raises(RunFolderError, match=rf"kept no predictions of {NER} on test; it has .*{NER}\.dev"):
        read_predictions(run, NER, "test")
    changed = RunFolder(shutil.copytree(run.path, tmp_path / run.run_id))
    (changed.predictions / f"{NER}.dev.jsonl").write_text("")
    with pytest.raises(RunFolderError, match=rf"predictions/{NER}\.dev\.jsonl edited"):
        read_predictions(changed, NER, "dev")


def test_dev_is_predicted_anew_where_the_run_kept_nothing_of_it(run, tmp_path):
    bare = RunFolder.open(shutil.copytree(run.path, tmp_path / run.run_id))
    (bare.predictions / f"{RELATIONS}.dev.jsonl").unlink()
    again = judged(opened(bare), RELATIONS, "dev")[1]
    assert list(map(prediction_line, again)) == [
        *map(prediction_line, read_predictions(run, RELATIONS, "dev"))
    ]


def test_everything_that_has_a_probability_is_calibrated_once(run):
    exp = opened(run)
    gold, predicted = judged(exp, RELATIONS, "dev")
    found = scores_of(exp, RELATIONS, gold, predicted)
    assert len(found["mentions"]) == sum(len(sample.mentions) for sample in predicted) > 0
    assert len(found["relations"]) == sum(len(sample.relations) for sample in predicted)
    questions, told = judged(exp, RANKING, "dev")
    ranking = scores_of(exp, RANKING, questions, told)
    assert set(ranking) == {"ranking"}
    assert ranking["ranking"].confidence == pytest.approx([pair.score for one in told for pair in one.pairs])
    assert ranking["ranking"].correct.tolist() == [pair.relevant for one in questions for pair in one.pairs]


def test_every_gold_and_predicted_mention_of_a_real_run_is_in_one_case(run):
    exp = opened(run)
    gold, predicted = judged(exp, RELATIONS, "dev")
    errors = errors_of(exp, RELATIONS, gold, predicted)
    table = errors["mentions"].table
    assert table["gold"].notna().sum() == sum(len(sample.mentions) for sample in gold)
    assert table["predicted"].notna().sum() == sum(len(sample.mentions) for sample in predicted)
    assert (errors["relations"].counts[MISSED] <= [len(sample.relations) for sample in gold]).all()


def test_f1_recounted_from_the_categories_is_the_official_one(run):
    exp = opened(run)
    official = {metric.name: metric.value for metric in run.metrics() if metric.task == RELATIONS}
    for what, errors in errors_of(exp, RELATIONS, *judged(exp, RELATIONS, "dev")).items():
        f1 = errors.f1(errors.counts.to_numpy().sum(axis=0))
        assert f1 == pytest.approx(official[{"mentions": "entity_f1", "relations": "relation_f1"}[what]])


def test_words_carry_the_probabilities_of_their_tags_and_the_gold_tag(run):
    exp = opened(run)
    (words,) = word_scores(exp, NER, "dev").values()
    encoded = exp.encode({NER: exp.samples("dev")[NER]})[NER]
    rows = encoded.rows(range(len(encoded)))
    assert len(words) == sum(int(np.sum(owned)) for owned in rows["owned"])
    assert set(words.documents) == {sample.document_id for sample in exp.samples("dev")[NER]}
    pieces = sum(len(mention.fragments) for sample in exp.samples("dev")[NER] for mention in sample.mentions)
    begins = exp.model.heads[NER]["ner"].tags.index("B-Disease_Disorder")
    assert 0 < (words.right == begins).sum() <= pieces  # fragments of nested mentions share words
    assert word_scores(exp, RANKING, "dev") == {}


def test_the_newest_practice_run_is_taken_and_one_is_trained_where_there_is_none(run, tmp_path, monkeypatch):
    assert practice_run(run.path.parent).path == run.path
    assert practice_run(tmp_path, str(run.path)).path == run.path
    asked = []
    monkeypatch.setattr(
        finished_runs, "run_page", lambda page, **more: asked.append((page, more)) or run.path
    )
    assert practice_run(tmp_path / "none").path == run.path
    assert asked[0][0] == "s2_shared" and asked[0][1]["profile"] == "smoke"


def test_one_or_two_runs_are_named(run):
    both = f"{run.run_id},{run.run_id}"
    assert [one.path for one in practice_arms(run.path.parent, both)] == [run.path] * 2
    with pytest.raises(ConfigError, match="names 3 runs; this page compares at most 2"):
        practice_arms(run.path.parent, f"{both},{run.run_id}")
    assert len(practice_arms(run.path.parent, f"{both},{run.run_id}", most=3)) == 3


def test_a_run_is_timed_as_it_is_and_merged_at_every_size_of_a_request(run):
    trained = load_trained_run(run)
    rows = list(inference_rows(trained, NER, Load(batches=(1, 2), repeats=2, dollars_per_hour=1.0)))
    assert [(row["adapters"], row["batch"]) for row in rows] == [
        *(("as trained", 1), ("as trained", 2)),
        *(("merged", 1), ("merged", 2)),
    ]
    samples = trained.samples("dev")[NER]
    tokens = trained.encode({NER: samples})[NER].lengths.sum() / len(samples)
    assert all(row["tokens/s"] == pytest.approx(tokens * row["texts/s"]) for row in rows)
    assert {row["precision"] for row in rows} == {"float32"} and rows[0]["$ per 1,000"] > 0
    assert all(not one.mentions and not one.relations for one in bare(samples, keep_mentions=False))
