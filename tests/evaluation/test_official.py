"""Scores through files: the gold practice annotations score full marks against themselves, damage less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.core.artifacts import Metric
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.schema import GENERAL, PracticeConfig
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample
from kaggle_kit.data import practice
from kaggle_kit.data.corpus import load_corpus
from kaggle_kit.evaluation.official import metrics_of, score_samples

RANKING = "semeval2017t3"


@pytest.fixture(scope="module")
def tasks():
    names = list(practice.FIVE)
    return compose(model="tiny", task=names, strategy="s2_shared", profile="smoke", seed=1).tasks


@pytest.fixture(scope="module")
def gold(tasks, tmp_path_factory):
    """The development samples of every task's practice corpus."""
    settings = PracticeConfig(documents=6, terms=20)
    roots = practice.generate(tmp_path_factory.mktemp("practice"), settings)
    return {name: load_corpus(tasks[name], roots[name], practice=True).splits["dev"] for name in tasks}


def scored(samples):
    """The samples as a model would predict them: every annotation carries a score."""

    def certain(annotations):
        return tuple(replace(annotation, score=0.9) for annotation in annotations)

    return [
        replace(
            sample,
            mentions=certain(sample.mentions),
            relations=certain(sample.relations),
            pairs=tuple(replace(pair, score=1.0 if pair.relevant else -1.0) for pair in sample.pairs),
        )
        for sample in samples
    ]


@pytest.mark.parametrize("name", practice.FIVE)
def test_gold_scores_full_marks_against_itself(name, tasks, gold, tmp_path):
    figures = score_samples(tasks[name], gold[name], scored(gold[name]), tmp_path)
    assert figures == {figure: 100.0 if figure.endswith("percent") else 1.0 for figure in figures}
    assert {tasks[name].primary_metric, *tasks[name].secondary_metrics} <= set(figures)


@pytest.mark.parametrize("name", [name for name in practice.FIVE if name != RANKING])
def test_a_model_that_misses_a_mention_loses_the_full_mark(name, tasks, gold, tmp_path):
    damaged = scored(gold[name])
    place = next(number for number, sample in enumerate(damaged) if len(sample.mentions) > 1)
    *kept, lost = damaged[place].mentions  # the first of 2016 is the document time, which is not scored
    links = [link for link in damaged[place].relations if lost.id not in (link.source, link.target)]
    damaged[place] = replace(damaged[place], mentions=tuple(kept), relations=tuple(links))
    figures = score_samples(tasks[name], gold[name], damaged, tmp_path)
    recalls = [value for figure, value in figures.items() if figure.endswith("recall")]
    assert 0 < min(recalls) < 1


def test_candidates_are_ranked_by_their_score_and_not_by_their_place(tasks, gold, tmp_path):
    upside_down = [
        replace(sample, pairs=tuple(replace(pair, score=-pair.score) for pair in sample.pairs))
        for sample in scored(gold[RANKING])
    ]
    figures = score_samples(tasks[RANKING], gold[RANKING], upside_down, tmp_path)
    assert figures["map"] < 1
    assert figures["f1"] == 1.0  # the labels are still right


def test_half_of_the_mentions_is_half_of_the_recall(tasks, gold, tmp_path):
    name = "semeval2014t7"
    documents = gold[name]
    total = sum(len(sample.mentions) for sample in documents)
    half = [replace(sample, mentions=sample.mentions[::2]) for sample in documents]
    kept = sum(len(sample.mentions) for sample in half)
    figures = score_samples(tasks[name], documents, half, tmp_path)
    assert figures["task_a_strict_precision"] == 1.0
    assert figures["task_a_strict_recall"] == kept / total


def test_files_of_an_earlier_scoring_do_not_count(tasks, gold, tmp_path):
    name = "semeval2014t7"
    score_samples(tasks[name], gold[name], gold[name], tmp_path)
    one = gold[name][:1]
    assert score_samples(tasks[name], one, one, tmp_path)["task_a_strict_precision"] == 1.0
    assert len(list((tmp_path / "pred").iterdir())) == len(list((tmp_path / "gold").iterdir())) == 1


@pytest.mark.parametrize("name", ["semeval2014t7", RANKING])
def test_a_text_is_never_written(name, tasks, gold, tmp_path):
    score_samples(tasks[name], gold[name], scored(gold[name]), tmp_path)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert written
    texts = [line for sample in gold[name] for line in sample.text.splitlines()]
    texts += [pair.text for sample in gold[name] for pair in sample.pairs]
    assert not [text for text in texts if len(text) > 20 and text in written]


def test_a_figure_says_its_unit_its_scorer_and_on_how_many_gold_items_it_stands(tasks, gold):
    figures = {"map": 0.5, "mrr_percent": 75.0}
    candidates = sum(len(sample.pairs) for sample in gold[RANKING])
    assert metrics_of(tasks[RANKING], figures, gold[RANKING], "dev") == [
        Metric("map", 0.5, "fraction", "dev", candidates, RANKING, RANKING),
        Metric("mrr_percent", 75.0, "percent", "dev", candidates, RANKING, RANKING),
    ]
    (figure,) = metrics_of(tasks["semeval2021t6"], {"entity_f1": 0.25}, gold["semeval2021t6"], "test")
    mentions = sum(len(sample.mentions) for sample in gold["semeval2021t6"])
    assert (figure.n, figure.scorer, figure.task, figure.split) == (mentions, "brat", "semeval2021t6", "test")


def measured(start: int, end: int, access: Access) -> UnifiedSample:
    """A paragraph with one quantity; the scorer of MeasEval counts the words of its text."""
    mention = Mention("T1", ((start, end),), "Quantity", attributes={"annotSet": "1", "unit": "mg a day"})
    return UnifiedSample("p1", "give about five mg a day now", "dev", access, mentions=(mention,))


def test_a_restricted_corpus_scores_the_same_and_leaves_no_word_in_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    measeval = compose(task="measeval2021t8").tasks["measeval2021t8"]
    figures = {}
    for access in Access:
        sides = [measured(5, 24, access)], [measured(11, 18, access)]  # about five mg a day, five mg
        known = replace(measeval, access=access.value)
        figures[access] = score_samples(known, *sides, tmp_path / access.value)
    assert figures[Access.RESTRICTED] == figures[Access.PUBLIC]
    assert 0 < figures[Access.PUBLIC]["quantity_overlap_f1"] < 1
    words = {a: "".join(p.read_text() for p in (tmp_path / a.value).rglob("*.tsv")) for a in Access}
    assert "five mg" in words[Access.PUBLIC]
    assert "five" not in words[Access.RESTRICTED] and "mg" not in words[Access.RESTRICTED]
    assert list((tmp_path / "cache/scoring").iterdir()) == []


@pytest.mark.parametrize("form", GENERAL)
def test_what_has_no_scorer_of_its_own_is_scored_as_brat_files_by_what_they_count(form, tasks, tmp_path):
    """Types with blanks, relations without unique ids, and an attribute that BRAT takes for an event."""
    task = replace(tasks["semeval2021t6"], format=form)
    mentions = tuple(Mention(f"e{n}", ((n, n + 1),), "Adverse event", ("C 1",)) for n in range(3))
    links = tuple(
        Relation("R1", "is a", "e0", f"e{n}", ("from", "to"), {"event": "E1", "a b": "c\nT9\tX 0 1\tx"})
        for n in (1, 2)
    )
    gold = UnifiedSample("a b/1", "abc", "dev", Access.PUBLIC, mentions, links, metadata={"file": "../x"})
    figures = score_samples(task, [gold], [gold], tmp_path)
    assert figures["entity_f1"] == figures["relation_strict_f1"] == 1.0
    half = score_samples(task, [gold], [replace(gold, relations=links[:1])], tmp_path)
    assert (half["relation_precision"], half["relation_recall"]) == (1.0, 0.5)
    assert (tmp_path / "gold" / "a b" / "1.ann").read_text().count("\n") == 8


def test_rankings_of_json_lines_are_scored_as_files_of_the_forum_task(tasks, tmp_path):
    task = replace(tasks[RANKING], format="jsonl")
    pairs = tuple(RankedPair("q1", f"c{n}", "x", n, relevant=n == 2) for n in (1, 2))
    gold = [UnifiedSample("q1", "Where?", "dev", Access.PUBLIC, pairs=pairs, metadata={"file": "../x"})]
    predicted = [replace(gold[0], pairs=tuple(replace(p, relevant=None, score=1 / p.rank) for p in pairs))]
    assert score_samples(task, gold, predicted, tmp_path)["map"] == 0.5
    assert (tmp_path / "pred" / "predictions.pred").is_file()


def test_a_document_whose_file_would_be_hidden_is_refused_and_not_left_unscored(tasks, tmp_path):
    task, gold = (
        replace(tasks["semeval2021t6"], format="jsonl"),
        UnifiedSample(".n1", "a", "dev", Access.PUBLIC),
    )
    with pytest.raises(CorpusError, match="document id '.n1'"):
        score_samples(task, [gold], [gold], tmp_path)
