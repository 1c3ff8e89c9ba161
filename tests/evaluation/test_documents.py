"""Documents add up: for every scorer the parts make the official figure, and nothing but ids is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose, members, params_dir
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.data import practice
from kaggle_kit.data.corpus import load_corpus
from kaggle_kit.evaluation.documents import cluster_of, document_statistics, document_table, figure
from kaggle_kit.evaluation.metrics import documents, score
from kaggle_kit.evaluation.official import score_samples

CASES = Path(__file__).resolve().parents[3] / "shared" / "scorer_cases"
PARTS = {  # scorer -> figures that have parts per document
    "semeval2014t7": ("task_a_strict_f1",),
    "semeval2015t14": ("task1_strict_f1", "task1_spans_f1", "task1_relaxed_f1"),
    "semeval2016t12": ("contains_closure_f1", "contains_f1", "event_span_f1", "event_doctimerel_stated_f1"),
    "semeval2017t3": ("map", "map_all_relevant"),
    "brat": ("entity_f1", "entity_strict_f1", "relation_f1", "relation_strict_f1"),
    "measeval": ("overlap_f1", "exact_match"),
}


@pytest.fixture(scope="module")
def tasks():
    names = list(practice.FIVE)
    return compose(model="tiny", task=names, strategy="s2_shared", profile="smoke", seed=1).tasks


@pytest.fixture(scope="module")
def gold(tasks, tmp_path_factory):
    settings = PracticeConfig(documents=24, terms=20)
    roots = practice.generate(tmp_path_factory.mktemp("practice"), settings)
    return {name: load_corpus(tasks[name], roots[name], practice=True).splits["dev"] for name in tasks}


def guessed(samples, rng):
    """Predictions with misses, wrong spans and shuffled ranks; one document loses everything."""
    return [_guess(sample, rng, empty=number == 0) for number, sample in enumerate(samples)]


def _guess(sample, rng, empty):
    kept = [m for m in sample.mentions if not empty and rng.random() < 0.7]
    moved = [replace(m, fragments=((m.start, m.end + 1),)) if rng.random() < 0.2 else m for m in kept]
    there = {mention.id for mention in moved}
    links = [r for r in sample.relations if {r.source, r.target} <= there]
    pairs = [replace(pair, score=float(rng.normal())) for pair in sample.pairs]
    return replace(sample, mentions=tuple(moved), relations=tuple(links), pairs=tuple(pairs))


@pytest.mark.parametrize("name", practice.FIVE)
def test_the_documents_of_a_damaged_prediction_make_its_official_primary_figure(name, tasks, gold, tmp_path):
    predicted = guessed(gold[name], np.random.default_rng(3))
    figures = score_samples(tasks[name], gold[name], predicted, tmp_path)
    records = document_statistics(tasks[name], gold[name], tmp_path)
    ids, sums = document_table(records)
    assert ids == [sample.document_id for sample in gold[name]]
    official = figures[tasks[name].primary_metric]
    assert 0 < official < 1
    assert figure(sums.sum(axis=0)) == pytest.approx(official, rel=1e-12)


@pytest.mark.parametrize(
    ("scorer", "metric"), [(s, metric) for s, names in PARTS.items() for metric in names]
)
def test_the_documents_make_the_official_figure_in_every_open_case(scorer, metric):
    if not CASES.is_dir():
        pytest.skip("no open cases of the official scorers beside the checkout")
    compared = 0
    for case in sorted((CASES / scorer).glob("*/gold")):
        folders = (case, case.parent / "pred")
        official, parts = score(scorer, *folders).get(metric), documents(scorer, *folders, metric)
        if official is None:
            continue
        _, sums = document_table({"document": name, **part} for name, part in parts.items())
        assert figure(sums.sum(axis=0)) == pytest.approx(official, rel=1e-12), case
        compared += 1
    assert compared >= 10


def test_the_primary_metric_of_every_task_has_parts():
    parts = {"pubtator": ("strict_f1", "relaxed_f1")} | PARTS
    for name in members("task"):
        task = yaml.safe_load((params_dir() / "task" / f"{name}.yaml").read_text())
        assert task["primary_metric"] in parts[task["scorer"]], name


def test_pubtator_documents_count_a_prediction_without_gold_as_false(tmp_path):
    gold, pred = tmp_path / "gold.txt", tmp_path / "pred.txt"
    title = "{0}|t|Fever and a cold and flu\n{0}|a|\n"
    gold.write_text(title.format(1) + "1\t0\t5\tFever\tDisease\n\n" + title.format(2) + "\n")
    pred.write_text(
        title.format(1)
        + "1\t0\t5\tFever\tDisease\n1\t12\t16\tcold\tDisease\n\n"
        + title.format(2)
        + "2\t21\t24\tflu\tDisease\n\n"
    )
    parts = documents("pubtator", gold, pred, "strict_f1")
    assert parts == {"1": {"tp": 1, "fp": 1, "fn": 0}, "2": {"tp": 0, "fp": 1, "fn": 0}}
    _, sums = document_table({"document": name, **part} for name, part in parts.items())
    assert figure(sums.sum(axis=0)) == pytest.approx(score("pubtator", gold, pred)["strict_f1"], rel=1e-12)


def test_a_metric_without_parts_has_no_records(tasks, gold, tmp_path):
    name = "semeval2017t3"
    score_samples(tasks[name], gold[name], guessed(gold[name], np.random.default_rng(3)), tmp_path)
    assert document_statistics(replace(tasks[name], primary_metric="avgrec"), gold[name], tmp_path) == []


def test_an_f1_of_four_columns_and_a_weighted_mean_by_hand():
    # P = 3/4, R = 1/2 -> F1 = 0.6; the mean (2 + 0) / (2 + 3)
    assert figure(np.array([3.0, 1.0, 3.0, 3.0])) == pytest.approx(0.6)
    assert figure(np.array([[2.0, 2.0], [0.0, 3.0]]).sum(axis=0)) == pytest.approx(0.4)
    assert figure(np.zeros(4)) == figure(np.zeros(2)) == 0.0


def test_a_run_keeps_its_documents_as_ids_and_numbers(tasks, gold, tmp_path):
    run = RunFolder.create(tmp_path / "run", "seed: 1\n", "0" * 16, {"smoke": True})
    name = "semeval2014t7"
    score_samples(tasks[name], gold[name], guessed(gold[name], np.random.default_rng(3)), tmp_path / "files")
    records = document_statistics(tasks[name], gold[name], tmp_path / "files")
    path = run.write_documents(name, "dev", records)
    assert run.read_documents(name, "dev") == records
    assert run.read_documents(name, "test") == []
    assert {key for record in records for key in record} == {"document", "tp", "fp", "fn"}
    assert not any(word in path.read_text() for s in gold[name] for word in s.text.split() if len(word) > 11)


@pytest.mark.parametrize(
    ("name", "document", "cluster"),
    [
        ("semeval2014t7", "00098-016139-DISCHARGE_SUMMARY", {"cluster": "00098"}),
        ("semeval2015t14", "00098-016139-DISCHARGE_SUMMARY", {"cluster": "00098"}),
        ("semeval2014t7", "practice0001-DISCHARGE_SUMMARY", {}),
        ("semeval2017t3", "Q268_R4", {"cluster": "Q268"}),
        ("semeval2017t3", "Q268", {"cluster": "Q268"}),
        ("semeval2016t12", "ID012_clinic_034", {}),
    ],
)
def test_notes_of_a_patient_and_threads_of_a_question_are_one_cluster(tasks, name, document, cluster):
    assert cluster_of(tasks[name], document) == cluster
