"""A study on own corpora: two of them in two formats, with a task's file each, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.types import Access, UnifiedSample
from kaggle_kit.data.formats import Reading, read
from kaggle_kit.evaluation.documents import document_statistics
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.experiment.new_text import Destination, write_predictions
from kaggle_kit.experiments import token_controlled
from kaggle_kit.kaggle.build import Experiment as KernelExperiment
from kaggle_kit.kaggle.build import build_experiment
from tests.experiment.test_rounds import small_models  # noqa: F401

QUICK = [
    "experiment=token_controlled",
    "training.max_steps=4",
    "training.selection=last",
    "training.learning_rate=1e-2",
]
TASKS = ["columns", "lines"]


def columns(folder: Path, n: int) -> None:
    """Sentences of tokens and tags."""
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        rows = (f"No O\npain{n} B-Sign\nin I-Sign\n{split}{n} O\n" for n in range(n))
        (folder / f"{split}.conll").write_text("\n".join(rows))


def lines(folder: Path, n: int) -> None:
    """Documents with mentions of two types, one of them a name of two words, and a relation."""
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        records = []
        for number in range(n):
            text = f"Aspirin helps against fever{number} of {split}"
            ends = {"T1": ("Drug", 0, 7), "T2": ("Adverse event", 22, text.index(" of"))}
            mentions = [
                {"id": name, "type": kind, "start": a, "end": b} for name, (kind, a, b) in ends.items()
            ]
            links = [{"type": "treats", "source": "T1", "target": "T2", "attributes": {"event": "E1"}}]
            record = {"id": f"{split} {number}", "text": text, "mentions": mentions, "relations": links}
            records.append(json.dumps(record) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(records))


@pytest.fixture(scope="module")
def own(tmp_path_factory, small_models):  # noqa: F811
    """Two corpora and the files that `data new` makes of them, named by the environment."""
    place = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        for name, form, make in (("columns", "conll", columns), ("lines", "jsonl", lines)):
            make(place / name, 12)
            words = f"data new --name {name} --format {form} --path {place / name} --out {place}/params"
            told = CliRunner().invoke(app, [*words.split(), "--access", "public"])
            assert told.exit_code == 0, told.output
            patch.setenv(f"KAGGLE_KIT_{name.upper()}", str(place / name))
        patch.setenv("KAGGLE_KIT_PARAMS", str(place / "params"))
        patch.setenv("KAGGLE_KIT_CACHE", str(place / "cache"))
        yield place


@pytest.fixture(scope="module")
def multi(own):
    """A multi-task run on both."""
    settings = {"task": ",".join(TASKS), "strategy": "s2_shared", "profile": "open", "seed": 3}
    exp = Experiment.open("s2_shared", **settings, overrides=QUICK, runs_dir=own / "runs")
    assert exp.train().finished
    exp.evaluate()
    exp.finish()
    return exp


def test_two_own_corpora_train_together_and_are_scored_as_brat_files(multi):
    figures = {(metric.task, metric.name): metric for metric in multi.run.metrics()}
    for task in TASKS:
        primary = multi.config.tasks[task].primary_metric
        assert 0 <= figures[task, primary].value <= 1 and figures[task, primary].n >= 12
    assert ("lines", "relation_strict_f1") in figures
    gold = multi.run.official("lines") / "gold" / "test 3.ann"
    assert gold.read_text().splitlines() == [
        "T1\tDrug 0 7\tAspirin",
        "T2\tAdverse_event 22 28\tfever3",
        "R1\ttreats Arg1:T1 Arg2:T2",
    ]
    records = document_statistics(
        multi.config.tasks["lines"], multi.samples("test")["lines"], gold.parents[1]
    )
    assert len(records) == 12 and all(record["tp"] + record["fn"] == 2 for record in records)


@pytest.mark.parametrize("task", TASKS)
def test_a_token_controlled_baseline_of_an_own_corpus_composes(own, multi, task):
    run = RunFolder.open(multi.run.path)
    asked = compose(
        "tiny", task, profile="open", overrides=[*QUICK[:1], f"experiment.twin={run.run_id}"], seed=3
    )
    config = token_controlled.control_of(run, asked)
    tokens = sum(run.manifest()["totals"]["tokens"].values())
    assert (list(config.tasks), config.training.target_tokens) == ([task], tokens)


@pytest.mark.parametrize(("form", "name"), [("official", "new 1.ann"), ("bigbio", "predictions.jsonl")])
def test_new_text_is_predicted_into_files_that_are_read_again(own, multi, tmp_path, form, name):
    text = UnifiedSample("new 1", "Aspirin helps.", "new", Access.PUBLIC)
    counts = write_predictions(load_trained_run(multi.run), "lines", [text], Destination(tmp_path, form))
    (tmp_path / "new 1.txt").write_text(text.text)
    [again] = read("brat" if form == "official" else form, tmp_path / name, Reading(strict=True))
    assert (len(again.mentions), counts["documents"]) == (counts["mentions"], 1)


def test_own_corpora_travel_to_kaggle_by_their_slugs(own, tmp_path):
    experiment = KernelExperiment.of("s2_shared", model="tiny", task=",".join(TASKS), profile="open")
    built = build_experiment(experiment, tmp_path, "jane")
    described = json.loads((built.folder / "kernel-metadata.json").read_text())
    assert described["dataset_sources"] == ["jane/columns", "jane/lines"]
