"""Prediction of new text: what a run found in its own corpus is found again without the corpus."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, CorpusError, CorpusMissing
from kaggle_kit.core.types import Access, Kind, UnifiedSample
from kaggle_kit.evaluation import texts
from kaggle_kit.evaluation.texts import read_texts
from kaggle_kit.experiment import preparation, scoring
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import TrainedRun, load_trained_run
from kaggle_kit.experiment.new_text import Destination, write_predictions
from tests.experiment.test_rounds import small_models  # noqa: F401

SPANS, RELATIONS, RANKING = "semeval2015t14", "semeval2021t6", "semeval2017t3"
QUICK = ["training.max_steps=12", "profile.max_train_samples=12", "profile.max_dev_samples=6"]
ALL = f"{SPANS},{RELATIONS},{RANKING}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_models) -> Experiment:  # noqa: F811
    runs = tmp_path_factory.mktemp("runs")
    exp = Experiment.open("s3a_flat", task=ALL, strategy="s3a_flat", overrides=QUICK, runs_dir=runs)
    exp.train()
    for name, parameter in exp.model.heads.named_parameters():  # heads that find something
        if name.endswith("bias"):
            parameter.data.normal_(0.3, 1.0)
    exp.evaluate()
    exp.finish()
    return exp


@pytest.fixture(scope="module")
def trained(finished, small_models) -> TrainedRun:  # noqa: F811
    """The run, loaded by a machine that has none of its corpora."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preparation, "open_corpora", _no_corpus)
        return load_trained_run(finished.run.path)


def _no_corpus(*_: object, **__: object) -> None:
    raise AssertionError("a corpus was opened")


def told(finished: Experiment, task: str) -> list[dict]:
    lines = (finished.run.predictions / f"{task}.dev.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def bare(samples):
    return [replace(one, mentions=(), relations=()) for one in samples]


def same(found: UnifiedSample, stored: dict) -> None:
    parts = ("fragments", "type", "concepts")
    assert [[getattr(m, part) for part in parts] for m in found.mentions] == [
        [tuple(map(tuple, m["fragments"])), m["type"], tuple(m["concepts"])] for m in stored["mentions"]
    ]
    links = [(link.type, link.source, link.target) for link in found.relations]
    assert links == [(link["type"], link["source"], link["target"]) for link in stored["relations"]]
    for part in ("mentions", "relations", "pairs"):
        scores = [one.score for one in getattr(found, part)]
        assert scores == pytest.approx([one["score"] for one in stored[part]], abs=1e-5)


@pytest.mark.parametrize("task", [SPANS, RELATIONS])
def test_texts_alone_give_what_the_run_found_in_its_own_corpus(finished, trained, task):
    samples, stored = finished.samples("dev")[task], told(finished, task)
    found = list(trained.predict((sample.text for sample in samples), task))
    assert any(one.mentions for one in found)
    assert [replace(one, document_id="") for one in trained.predict(bare(samples), task)] == [
        replace(one, document_id="") for one in trained.predict(samples, task)
    ]  # gold is not looked at
    for one, record in zip(found, stored, strict=True):
        same(one, record)
    assert [one.document_id for one in found] == [str(place) for place in range(1, len(samples) + 1)]


def test_candidates_of_a_question_are_ranked_as_the_run_ranked_them(finished, trained):
    samples = finished.samples("dev")[RANKING]
    asked = [
        {
            "id": s.document_id,
            "text": s.text,
            "candidates": [{"id": p.candidate_id, "text": p.text} for p in s.pairs],
        }
        for s in samples
    ]
    for one, record in zip(trained.predict(asked, RANKING), told(finished, RANKING), strict=True):
        same(one, record)


def test_texts_are_read_a_portion_at_a_time_and_only_as_they_are_asked_for(finished, trained, monkeypatch):
    sample = finished.samples("dev")[RELATIONS][0]
    monkeypatch.setattr(texts, "CHARACTERS", 3 * len(sample.text))
    taken = []

    def endless():
        while True:
            taken.append(sample.text)
            yield sample.text

    stream = trained.predict(endless(), RELATIONS)
    ahead = [(next(stream), len(taken))[1] for _ in range(7)]
    assert ahead == [4, 4, 4, 7, 7, 7, 10]


def test_a_text_of_blanks_or_without_a_word_has_no_annotation(trained):
    found = list(trained.predict(["", "  \n", "..."], RELATIONS))
    assert len(found) == 3 and not any(one.relations for one in found) and found[0].mentions == ()


@pytest.mark.parametrize(
    ("asked", "task", "error", "says"),
    [
        (["x"], None, ConfigError, "several tasks and none was named"),
        (["x"], "semeval2014t7", ConfigError, "no task 'semeval2014t7'"),
        (["x"], RANKING, CorpusError, "no candidates"),
        ([b"x"], RELATIONS, CorpusError, "found bytes"),
        ([{"txt": "x"}], RELATIONS, CorpusError, "without 'text'"),
        (
            [{"text": "x", "mentions": [{"type": "D", "start": 0, "end": 9}]}],
            RELATIONS,
            CorpusError,
            "span 0-9",
        ),
    ],
)
def test_what_a_task_cannot_read_is_refused(trained, asked, task, error, says):
    with pytest.raises(error, match=says):
        list(trained.predict(asked, task))


def test_relations_between_given_mentions_take_the_given_ones(trained, monkeypatch):
    spec = replace(trained.specs[RELATIONS], gold_entities=True)
    monkeypatch.setitem(vars(trained), "specs", trained.specs | {RELATIONS: spec})
    one, two = next(part.candidates[0] for part in spec.components if part.kind is Kind.RELATIONS)
    places = [{"type": one, "start": 0, "end": 4}, {"type": two, "start": 9, "end": 13}]
    [found] = trained.predict([{"text": "abcd and efgh", "mentions": places}], RELATIONS)
    assert [(m.type, m.fragments) for m in found.mentions] == [(one, ((0, 4),)), (two, ((9, 13),))]
    with pytest.raises(CorpusError, match="no mentions"):
        list(trained.predict(["abcd and efgh"], RELATIONS))


def folder_of(samples, folder):
    for sample in samples:
        path = folder / f"{sample.document_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.text.encode())
    return folder


def test_a_folder_of_notes_becomes_the_official_files_of_the_run(finished, tmp_path):
    samples = finished.samples("dev")[RELATIONS]
    notes, out = folder_of(samples, tmp_path / "notes"), tmp_path / "out"
    words = ["predict", str(finished.run.path), "--in", str(notes), "--out", str(out), "--task", RELATIONS]
    told = CliRunner().invoke(app, [*words, "--format", "official"])
    assert told.exit_code == 0, told.output
    assert f"{RELATIONS}: {len(samples)} documents" in told.stdout
    official = finished.run.official(RELATIONS) / "pred"
    for path in official.rglob("*.ann"):
        assert (out / path.relative_to(official)).read_text() == path.read_text()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2 and "not an empty folder" in again.stderr


def test_of_restricted_text_no_word_is_written(finished, trained, tmp_path):
    samples = finished.samples("dev")[RELATIONS]
    notes = read_texts(folder_of(samples, tmp_path / "notes"), Access.RESTRICTED)
    counts = write_predictions(trained, RELATIONS, notes, Destination(tmp_path / "out"))
    records = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert counts["documents"] == len(samples) and counts["mentions"] > 0
    assert all("text" not in mention for record in records for mention in record.get("mentions", ()))


def test_formats_and_places_that_cannot_hold_predictions_are_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match="format 'bratt'; allowed: .* did you mean 'brat'"):
        Destination(tmp_path / "out", "bratt")
    with pytest.raises(ConfigError, match="format brat holds no ranking"):
        write_predictions(trained, RANKING, [], Destination(tmp_path / "out", "brat"))
    (tmp_path / "notes.md").write_text("x")
    for place in (tmp_path / "notes.md", tmp_path / "absent", tmp_path):
        with pytest.raises(CorpusError, match="no text to read"):
            list(read_texts(place, Access.PUBLIC))
    twice = [UnifiedSample("a", "x", "new", Access.PUBLIC)] * 2
    with pytest.raises(ConfigError, match="two documents are called 'a'"):
        write_predictions(trained, RELATIONS, twice, Destination(tmp_path / "out"))


def test_concepts_are_kept_with_the_run_but_not_those_of_restricted_notes(
    finished, trained, tmp_path, monkeypatch, caplog
):
    named = finished.concept_names
    assert named[SPANS] and trained.concept_names == named
    specs = finished.specs | {SPANS: replace(finished.specs[SPANS], access=Access.RESTRICTED)}
    (tmp_path / "adapters").mkdir()
    shutil.copy(finished.run.manifest_json, tmp_path)
    run = RunFolder(tmp_path, finished.run.facts)
    scoring.save_concepts(SimpleNamespace(specs=specs, concept_names=named, run=run))
    assert json.loads((run.adapters / "concepts.json").read_text())[SPANS] is None

    def missing(*_: object, **__: object) -> None:
        raise CorpusMissing("nowhere")

    monkeypatch.setattr(preparation, "open_corpora", missing)
    assert TrainedRun(finished.config, run).concept_names == named | {SPANS: {}}
    assert f"{SPANS}: mentions get no concepts" in caplog.text
